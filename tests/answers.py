"""How the checks of the exercises are tested: an answer, and a piece of what must be said to it."""

from collections.abc import Callable

import pytest


def says(check: Callable, *cases: tuple) -> Callable:
    """Make a test that holds what a check says of answers; `"solved"` is said of right ones only.

    Args:
        check: the check of an exercise.
        cases: an answer, or a tuple of those that the check takes, and part of what is said.
    """

    @pytest.mark.parametrize(("answer", "hint"), cases)
    def test(answer, hint, capsys):
        solved = check(*answer) if isinstance(answer, tuple) else check(answer)
        text = capsys.readouterr().out
        assert hint in text, text
        assert solved == (hint == "solved")

    return test
