"""The exercises of notebook 03, and what it teaches against the helpers."""

import numpy as np
import pytest
from notebook_code import definition
from scipy.ndimage import gaussian_filter

from helpers import exercises, metrics


def pooled(truth, prediction, axes=(1, 2, 3, 4)):
    union = (truth | prediction).sum(axes)
    return np.where(union > 0, 1 - (truth & prediction).sum(axes) / np.maximum(union, 1), 0.0)


def unguarded(truth, prediction, axes=(1, 2, 3, 4)):
    with np.errstate(invalid="ignore"):
        return 1 - (truth & prediction).sum(axes) / (truth | prediction).sum(axes)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (pooled, "solved"),
        (unguarded, "0/0"),
        (lambda a, b: metrics.per_frame(a, b), "mean over frames"),
        (lambda a, b: pooled(a, b).mean(), "one number per sequence"),
        (lambda a, b: 1 - pooled(a, b), "Jaccard index"),
        (lambda a, b: None, "returns nothing yet"),
    ],
)
def test_pooled(answer, hint, capsys):
    assert exercises.check_pooled(answer) == (hint == "solved")
    assert hint in capsys.readouterr().out


def ratio(inputs, targets, predictions):
    to_input = metrics.per_frame(inputs, predictions).mean()
    return to_input / metrics.per_frame(targets, predictions).mean()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (ratio, "solved"),
        (lambda i, t, p: 1 / ratio(i, t, p), "Upside down"),
        (lambda i, t, p: metrics.per_frame(i, p) / metrics.per_frame(t, p), "one number"),
        (lambda i, t, p: 2 * ratio(i, t, p), "Expected"),
    ],
)
def test_copying_ratio(answer, hint, capsys):
    assert exercises.check_copying_ratio(answer) == (hint == "solved")
    assert hint in capsys.readouterr().out


def extrapolated(frames, sigma):
    blurred = gaussian_filter(frames.astype(float), sigma=sigma)
    return 2 * blurred[:, 1:-1] - blurred[:, :-2]


SPACE = (0, 0, 0.7, 0.7, 0.7)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda frames: extrapolated(frames, SPACE) >= 0.5, "solved"),
        (lambda frames: extrapolated(frames, 0.7) >= 0.5, "sees the future"),
        (lambda frames: extrapolated(frames, SPACE), "boolean"),
        (lambda frames: extrapolated(frames, SPACE)[:, 1:] >= 0.5, "Expected shape"),
        (lambda frames: frames[:, 1:-1] >= 0.5, "voxels differ"),
    ],
)
def test_blurred_extrapolation(answer, hint, capsys):
    assert exercises.check_blurred_extrapolation(answer) == (hint == "solved")
    assert hint in capsys.readouterr().out


def test_the_distance_taught_is_the_helpers(rng):
    by_hand = definition("03", "jaccard_by_hand", np=np)
    truth, prediction = rng.random((2, 20, 4, 5, 6)) * (rng.random((2, 20, 1, 1, 1)) < 0.8)
    truth = truth >= 0.7
    expected = metrics.jaccard_distance(truth, prediction)
    assert [by_hand(a, b) for a, b in zip(truth, prediction)] == pytest.approx(expected, rel=1e-12)
