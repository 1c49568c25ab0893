"""The viewer: what its sliders change, what stays, and what it refuses."""

import hashlib
import pickle

import numpy as np
import pytest

from helpers import metrics
from helpers.panels.viewer import Viewer
from helpers.pictures import process


class Painter:
    """Paints another colour for each scene: what PyVista makes of one is tested elsewhere."""

    def draw(self, scene, backend):
        if backend == "html":
            return "<p>a scene</p>"
        seen = hashlib.md5(pickle.dumps([scene["view"], scene["panels"]])).digest()
        return np.full((scene["size"], scene["size"], 3), list(seen[:3]), np.uint8)


@pytest.fixture(autouse=True)
def painter(monkeypatch):
    monkeypatch.delenv("WORKSHOP_3D", raising=False)
    monkeypatch.setattr(process, "worker", Painter)


@pytest.fixture
def frames():
    truth = np.zeros((4, 5, 6, 7), np.uint8)
    for time in range(3):  # the last frame is empty
        truth[time, 1:3, 1 + time : 3 + time, 2:4] = 1
    prediction = np.full(truth.shape, 0.1, np.float32)
    prediction[truth == 1] = 0.7
    prediction[:, 4, 5, 6] = 0.6
    return truth, prediction


@pytest.fixture
def panel(frames):
    return Viewer(*frames, times=[10, 12, 14, 16], name="<CNN>")


def shown(panel):
    return panel._solid.value, panel._flat.value


@pytest.mark.parametrize(
    ("control", "value", "changed"),
    [
        ("time", 2, (True, True)),
        ("turn", 60, (True, False)),
        ("tilt", 60, (True, False)),
        ("slice", 4, (False, True)),
    ],
)
def test_a_control_changes_what_it_names_and_leaves_the_rest(panel, control, value, changed):
    panel.controls["slice"].value = 1
    rest = {name: each.value for name, each in panel.controls.items()}
    before = shown(panel)
    panel.controls[control].value = value
    assert tuple(a != b for a, b in zip(before, shown(panel))) == changed
    assert {name: each.value for name, each in panel.controls.items()} == rest | {control: value}
    panel.controls[control].value = rest[control]
    assert shown(panel) == before


def test_the_threshold_changes_the_distance(panel, frames):
    truth, prediction = frames
    for threshold in (0.5, 0.65, 0.8):
        panel.controls["threshold"].value = threshold
        found = metrics.jaccard_distance(truth, prediction >= threshold)
        text = panel._text.value
        assert f"&lt;CNN&gt; {found[0]:.3f}" in text and f"frames {found.mean():.3f}" in text
        assert "t = 10" in text


@pytest.mark.parametrize("what", ["truth", "prediction", "difference"])
def test_what_is_shown_and_an_empty_frame(panel, what):
    panel.controls["shown"].value = what
    before = shown(panel)
    panel.controls["threshold"].value = 0.95  # nothing is forecast
    panel.controls["time"].value = 3  # and nothing is there
    assert all(a != b for a, b in zip(before, shown(panel)))
    assert "CNN&gt; 0.000" in panel._text.value
    assert "voxels" in panel._words.value.lower()
    assert all(control.description for control in panel.controls.values())


def test_truth_alone(frames):
    panel = Viewer(frames[0])
    assert panel.controls["shown"].options == ("truth",)
    assert panel.controls["threshold"].disabled
    assert "8 filled voxels" in panel._text.value


def test_the_scene_for_the_mouse(monkeypatch, frames):
    panel = Viewer(*frames)
    assert panel._scene.value == ""
    panel.controls["mouse"].value = True
    assert "<iframe" in panel._scene.value
    panel.controls["mouse"].value = False
    assert panel._scene.value == ""
    monkeypatch.setenv("WORKSHOP_3D", "html")
    panel = Viewer(*frames)  # on from the start, beside a picture that stays one
    assert "<iframe" in panel._scene.value and panel._solid.value[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((4, 4, 4)), None, "expected 4 axes"),
        (np.zeros((2, 4, 4, 4)), np.zeros((3, 4, 4, 4)), "expected the same"),
        (np.zeros((1, 4, 4, 4)), np.full((1, 4, 4, 4), np.nan), "NaN"),
        (np.zeros((3, 4, 4, 4)), None, "2 entries for 3 frames"),
    ],
)
def test_bad_input(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        Viewer(truth, prediction, times=[1, 2])
