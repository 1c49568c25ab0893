"""The explorer: the distances it shows, and what it does not ask a model twice."""

import numpy as np
import pytest

from helpers import metrics, models, rollout
from helpers.panels.explorer import Explorer
from helpers.sequences import T20_TINC1


@pytest.fixture
def frames(session):
    return T20_TINC1.select(session.frames[:3])


def test_the_distances_are_those_of_rollout(frames):
    compared = {"CNN": models.load("cnn", T20_TINC1), "none": rollout.Persistence()}
    panel = Explorer(compared, frames, T20_TINC1)
    for sample, start in ((0, 5), (2, 12)):
        panel.controls["sample"].value = sample
        panel.controls["start"].value = start
        for name, model in (*compared.items(), ("persistence", rollout.Persistence())):
            ahead = rollout.rollout(model, frames[sample : sample + 1, :start], 20 - start)[0]
            expected = metrics.jaccard_distance(frames[sample, start:], ahead)
            assert panel.distances[name] == pytest.approx(expected)


def test_sliding_is_quick(frames):
    calls = []

    class Counted(rollout.Persistence):
        def begin(self, history):
            calls.append(history.shape)
            return super().begin(history)

    panel = Explorer({"one": Counted()}, frames, T20_TINC1)
    for horizon in (4, 9, 2):
        before = panel._errors.value
        panel.controls["horizon"].value = horizon
        assert panel._errors.value != before and " alt=" in panel._errors.value
    assert len(calls) == 1
    panel.controls["start"].value = 19
    assert panel.controls["horizon"].max == panel.controls["horizon"].value == 1
    panel.controls["start"].value = 5
    assert len(calls) == 2


def test_a_model_that_raises_is_told(frames):
    def broken(history):
        raise ValueError("<boom>")

    broken.name = "broken"
    panel = Explorer({"good": rollout.Persistence(), "broken": broken}, frames, T20_TINC1)
    assert "ValueError: &lt;boom&gt;" in panel._text.value
    panel.controls["other"].value = "good"
    assert panel._text.value == "" and "good" in panel.distances


def test_frames_of_another_format_are_refused():
    with pytest.raises(ValueError, match="pass frame_format.select"):
        Explorer({"p": rollout.Persistence()}, np.zeros((1, 21, 4, 4, 4)), T20_TINC1)
