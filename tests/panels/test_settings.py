"""What can be turned in the laboratory: what is refused, and what it does to each model."""

import dataclasses

import pytest

from helpers.panels import settings
from helpers.panels.settings import MODELS, Settings, parameters


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 33}, "width is 33; choose one of 8, 16"),
        ({"history": 17}, "history is 17; expected 1 to 16"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected 1e-06 to 10"),
        ({"batch_size": True}, "batch_size is True; expected a whole number, 1 to 64"),
        ({"model": "GPT"}, "model is 'GPT'; choose one of ConvLSTM, CNN, WGAN-GP"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Settings(**change)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("name", "values"), [("history", (1, 16)), ("width", (8, 64)), ("depth", (1, 4))]
)
def test_a_knob_turns_the_model(model, name, values):
    one, other = (parameters(Settings(model=model, **{name: value})) for value in values)
    assert one == other if name in MODELS[model].lacks else one < other


def test_what_a_model_lacks_is_left_out():
    assert "penalty" in Settings(model="WGAN-GP").used()
    assert "penalty" not in Settings(model="CNN").used()
    assert "history" not in Settings(model="ConvLSTM").used()


def test_every_setting_is_explained():
    assert list(settings.TIPS) == [field.name for field in dataclasses.fields(Settings)]
