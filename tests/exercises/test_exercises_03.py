"""The exercises of notebook 03, and what it teaches against the helpers."""

import numpy as np
import pytest
from answers import says
from notebook_code import definition
from scipy.ndimage import gaussian_filter

from helpers import exercises, metrics


def pooled(truth, prediction, axes=(1, 2, 3, 4)):
    union = (truth | prediction).sum(axes)
    return np.where(union > 0, 1 - (truth & prediction).sum(axes) / np.maximum(union, 1), 0.0)


def unguarded(truth, prediction, axes=(1, 2, 3, 4)):
    with np.errstate(invalid="ignore"):
        return 1 - (truth & prediction).sum(axes) / (truth | prediction).sum(axes)


test_pooled = says(
    exercises.check_pooled,
    (pooled, "solved"),
    (unguarded, "0/0"),
    (lambda a, b: metrics.per_frame(a, b), "mean over frames"),
    (lambda a, b: pooled(a, b).mean(), "one number per sequence"),
    (lambda a, b: 1 - pooled(a, b), "Jaccard index"),
)


def apart(one, other):
    return metrics.per_frame(one, other).mean()


def ratio(inputs, targets, predictions):
    return apart(inputs, predictions) / apart(targets, predictions)


def at_once(one, other):
    """What `jaccard_by_hand` of notebook 03 gives for whole arrays."""
    return 1 - (one & other).sum() / (one | other).sum()


def frame_by_frame(*arrays):
    return zip(*(array.reshape(-1, 1, 1, *array.shape[2:]) for array in arrays))


test_copying_ratio = says(
    exercises.check_copying_ratio,
    (ratio, "solved"),
    (lambda i, t, p: 1 / ratio(i, t, p), "Upside down"),
    (lambda i, t, p: (metrics.per_frame(i, p) / metrics.per_frame(t, p)).mean(), "divide first"),
    (lambda i, t, p: np.mean([ratio(*each) for each in frame_by_frame(i, t, p)]), "divide first"),
    (lambda i, t, p: metrics.pooled(i, p).mean() / metrics.pooled(t, p).mean(), "You pool"),
    (lambda i, t, p: at_once(i, p) / at_once(t, p), "You pool"),
    (lambda i, t, p: apart(i, t) / apart(t, p), "On top: from the *prediction*"),
    (lambda i, t, p: apart(i, p) / apart(i, t), "Below: from the *prediction*"),
    (lambda i, t, p: apart(i, p), "to the input alone"),
    (lambda i, t, p: 2 * ratio(i, t, p), "Expected"),
)


def extrapolated(frames, sigma):
    blurred = gaussian_filter(frames.astype(float), sigma=sigma)
    return 2 * blurred[:, 1:-1] - blurred[:, :-2]


SPACE = (0, 0, 0.7, 0.7, 0.7)


def as_they_are(frames, kind):
    """Blur whole numbers, whatever their type becomes afterwards."""
    blurred = gaussian_filter(frames, sigma=SPACE).astype(kind)
    return 2 * blurred[:, 1:-1] - blurred[:, :-2]


test_blurred_extrapolation = says(
    exercises.check_blurred_extrapolation,
    (lambda frames: extrapolated(frames, SPACE) >= 0.5, "solved"),
    (lambda frames: extrapolated(frames, 0.7) >= 0.5, "sees the future"),
    (lambda frames: extrapolated(frames, SPACE), "boolean"),
    (lambda frames: extrapolated(frames, SPACE)[:, 1:] >= 0.5, "has shape (2, 2, 16, 16, 16)"),
    (lambda frames: frames[:, 1:-1] >= 0.5, "That is persistence"),
    (lambda frames: frames[:, 2:] >= 0.5, "At ["),
    (lambda frames: 2 * frames[:, 1:-1] - frames[:, :-2] >= 0.5, "0 - 1 is 255"),
    (
        lambda frames: gaussian_filter(2 * frames[:, 1:-1] - frames[:, :-2], SPACE) >= 0.5,
        "0 - 1 is 255",
    ),
    (lambda frames: as_they_are(frames, np.uint8) >= 0.5, "frames.astype(float)"),
    (lambda frames: as_they_are(frames, float) >= 0.5, "frames.astype(float)"),
)


def test_the_distance_taught_is_the_helpers(rng):
    by_hand = definition("03", "jaccard_by_hand", np=np)
    truth, prediction = rng.random((2, 20, 4, 5, 6)) * (rng.random((2, 20, 1, 1, 1)) < 0.8)
    truth = truth >= 0.7
    expected = metrics.jaccard_distance(truth, prediction)
    assert [by_hand(a, b) for a, b in zip(truth, prediction)] == pytest.approx(expected, rel=1e-12)
