"""The viewer: what its sliders change, what stays, and what it refuses."""

import os

import numpy as np
import pytest

from helpers import metrics, pictures
from helpers.panels.viewer import Viewer, viewer


@pytest.fixture(autouse=True)
def matplotlib(monkeypatch):
    monkeypatch.setenv("WORKSHOP_3D", "matplotlib")


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
    return viewer(*frames, times=[10, 12, 14, 16], name="CNN")


def shown(panel):
    return panel._solid.value, panel._flat.value


def test_steps_through_time_and_leaves_the_rest(panel):
    panel.controls["turn"].value = 60
    panel.controls["slice"].value = 1
    before, rest = shown(panel), {n: c.value for n, c in panel.controls.items() if n != "time"}
    panel.controls["time"].value = 2
    after = shown(panel)
    assert all(a != b for a, b in zip(before, after))
    assert {n: c.value for n, c in panel.controls.items() if n != "time"} == rest
    panel.controls["time"].value = 0
    assert shown(panel) == before


def test_the_threshold_changes_the_distance(panel, frames):
    truth, prediction = frames
    for threshold in (0.5, 0.65, 0.8):
        panel.controls["threshold"].value = threshold
        cut = (prediction >= threshold).astype(np.uint8)
        found = metrics.jaccard_distance(truth, cut)
        text = panel._text.value
        assert f"CNN {found[0]:.3f}" in text and f"frames {found.mean():.3f}" in text
        assert "t = 10" in text


@pytest.mark.parametrize("control", ["turn", "tilt"])
def test_the_camera_changes_the_solid_only(panel, control):
    before = shown(panel)
    panel.controls[control].value += 30
    after = shown(panel)
    assert before[0] != after[0] and before[1] == after[1]


def test_the_slice_changes_the_slice_only(panel):
    panel.controls["slice"].value = 1
    before = shown(panel)
    panel.controls["slice"].value = 4
    after = shown(panel)
    assert before[0] == after[0] and before[1] != after[1]


def test_another_axis_has_another_number_of_slices(panel):
    panel.controls["axis"].value = "W"
    panel.controls["slice"].value = 6
    assert panel.controls["slice"].max == 6
    panel.controls["axis"].value = "D"
    assert panel.controls["slice"].max == panel.controls["slice"].value == 4


@pytest.mark.parametrize("what", ["truth", "prediction", "difference"])
def test_what_is_shown_and_an_empty_frame(panel, what):
    panel.controls["shown"].value = what
    before = shown(panel)
    panel.controls["threshold"].value = 0.95  # nothing is forecast
    panel.controls["time"].value = 3  # and nothing is there
    assert all(a != b for a, b in zip(before, shown(panel)))
    assert "CNN 0.000" in panel._text.value


def test_truth_alone(frames):
    panel = viewer(frames[0])
    assert panel.controls["shown"].options == ("truth",)
    assert panel.controls["threshold"].disabled
    assert "8 filled voxels" in panel._text.value


def test_the_scene_for_the_mouse(monkeypatch, frames):
    monkeypatch.delenv("WORKSHOP_3D")
    panel = viewer(*frames)
    if isinstance(pictures.view_3d(frames[0][0], backend="html"), pictures.Picture):
        pytest.skip("PyVista cannot draw here")
    assert panel._scene.value == ""
    panel.controls["mouse"].value = True
    assert "<iframe" in panel._scene.value
    panel.controls["mouse"].value = False
    assert panel._scene.value == ""
    monkeypatch.setenv("WORKSHOP_3D", "html")
    panel = viewer(*frames)
    assert panel.controls["mouse"].value and panel._solid.value[:4] == b"\x89PNG"
    assert os.environ["WORKSHOP_3D"] == "html"


def test_the_name_of_a_model_is_text_not_html(frames):
    text = viewer(*frames, name="<img src=x onerror=alert(1)>")._text.value
    assert "<img" not in text and "&lt;img src=x" in text


def test_every_control_has_words(panel):
    assert panel._words.value.count("hit") > 1 and panel._solid.tooltip is None
    assert isinstance(panel, Viewer)
    assert all(control.description for control in panel.controls.values())


BAD = {
    "no sequence": (np.zeros((4, 4, 4)), None, "expected \\(T, D, H, W\\)"),
    "no frames": (np.zeros((0, 4, 4, 4)), None, "at least 1"),
    "other shapes": (np.zeros((2, 4, 4, 4)), np.zeros((3, 4, 4, 4)), "expected the same"),
    "too large": (np.full((1, 4, 4, 4), 2), None, "0…1"),
    "NaN": (np.zeros((1, 4, 4, 4)), np.full((1, 4, 4, 4), np.nan), "NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    truth, prediction, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        viewer(truth, prediction)


def test_a_time_for_each_frame():
    with pytest.raises(ValueError, match="3 entries for 2 frames"):
        viewer(np.zeros((2, 4, 4, 4)), times=[1, 2, 3])
