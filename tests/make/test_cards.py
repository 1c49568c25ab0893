"""The cards of the weights: the page says what the JSON files say."""

from data.make import cards


def test_the_page_is_made_from_the_cards():
    assert cards.PAGE.read_text(encoding="utf-8") == cards.page()
