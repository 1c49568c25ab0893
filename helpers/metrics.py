"""How far a forecast is from the truth: the Jaccard distance, its protocols and the null models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike

from helpers import _checks

FRAME_AXES = (-3, -2, -1)
CUTS = ("half", "expected")
EMPTY = 0.3  # a frame whose voxels are all less likely filled is cut to an empty one


def jaccard_distance(
    truth: ArrayLike, prediction: ArrayLike, *, axes: int | Sequence[int] = FRAME_AXES
) -> np.ndarray:
    """Return the Jaccard distance 1 - |A ∩ B| / |A ∪ B| between the filled voxels of two arrays.

    A voxel is filled where its value is 0.5 or more, in the truth and in the prediction. Empty
    against empty is 0, as in the thesis (about 1.2 % of its frame pairs).

    Args:
        truth: bool, integer or float of any shape, for example (B, T, D, H, W); values 0…1.
        prediction: same shape as `truth`; values 0…1, for example probabilities.
        axes: the axes that hold the voxels of one comparison. With a channel axis, as in
            (B, T, D, H, W, 1), write `axes=(-4, -3, -2, -1)`.

    Returns:
        float64, the shape of `truth` without `axes`; 0 is a perfect match, 1 no common voxel.

    Source: P. Jaccard, 1912; union and intersection as in the thesis's evaluation.
    """
    (truth, prediction), axes = filled_voxels(axes, truth=truth, prediction=prediction)
    intersection = np.count_nonzero(truth & prediction, axis=axes)
    union = np.count_nonzero(truth | prediction, axis=axes)
    return 1 - np.where(union, intersection / np.maximum(union, 1), 1)


def per_frame(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Return, for each sample, the mean over its frames of the Jaccard distance.

    The thesis's protocol for the GAN models: each pair of frames counts the same.

    Args:
        truth, prediction: (..., T, D, H, W); values 0…1, filled from 0.5 on.

    Returns:
        float64 (...): one distance per sample.
    """
    truth, prediction = _sequence("truth", truth), _sequence("prediction", prediction)
    return jaccard_distance(truth, prediction).mean(axis=-1)


def pooled(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Return, for each sample, the Jaccard distance of all its frames taken as one volume.

    The thesis's protocol for the ConvLSTM: intersection and union are summed over the frames of
    a sample before they are divided, so frames with more filled voxels weigh more. A sample that
    is empty throughout, in truth and prediction, counts as 0.

    Args and returns: as in `per_frame`.
    """
    truth, prediction = _sequence("truth", truth), _sequence("prediction", prediction)
    return jaccard_distance(truth, prediction, axes=(-4, *FRAME_AXES))


def cut(probability: ArrayLike, rule: str = "half", *, empty: float = EMPTY) -> np.ndarray:
    """Return which voxels a forecast calls filled: one cut for all models that are compared.

    `"half"` calls a voxel filled from 0.5 on. `"expected"` takes from each frame, by its own
    probabilities alone, the most likely voxels, as many as make the expected intersection with
    the truth largest beside the expected union: the harder the forecast, the less likely voxels
    are among them. It does not count that the true frame may be empty, where every filled voxel
    makes the distance 1; so a frame is called empty where no voxel reaches `empty`.

    Frames of 0 and 1 come out as they are, whatever the rule.

    Args:
        probability: (..., D, H, W), values 0…1.
        rule: one of `CUTS`.
        empty: 0…1, for `"expected"` only; with 0 just a frame of zeros is called empty.

    Returns:
        bool, the shape of `probability`.

    Source: S. Nowozin, Optimal decisions from probabilistic models: the intersection-over-union
    case, 2014.
    """
    _checks.choice("rule", rule, CUTS)
    empty = _checks.number("empty", empty, 0, 1)
    (half,), _ = filled_voxels(probability=probability)
    if rule == "half":
        return half
    probability = np.asarray(probability)
    *batch, depth, height, width = probability.shape
    falling = np.sort(probability.reshape(*batch, depth * height * width))[..., ::-1]
    # What to expect where the first 1, 2, 3, … voxels are called filled.
    intersection = np.cumsum(falling, axis=-1, dtype=np.float64)
    union = np.arange(1, falling.shape[-1] + 1) + intersection[..., -1:] - intersection
    best = np.argmax(intersection / union, axis=-1, keepdims=True)
    least = np.take_along_axis(falling, best, axis=-1)[..., np.newaxis, np.newaxis]
    likely = probability.max(axis=FRAME_AXES, keepdims=True) >= empty
    return (probability >= least) & (probability > 0) & likely


def persistence(history: ArrayLike, horizon: int = 1) -> np.ndarray:
    """Forecast that nothing moves: repeat the last observed frame for every step ahead.

    This is the honest null model: at every horizon it knows the history and no more.

    Args:
        history: (..., T, D, H, W), any dtype; T ≥ 1.
        horizon: steps ahead, at least 1.

    Returns:
        (..., horizon, D, H, W), the dtype of `history`.
    """
    last = _sequence("history", history)[..., -1:, :, :, :]
    return np.repeat(last, _checks.whole("horizon", horizon, 1), axis=-4)


def moving_null(history: ArrayLike, future: ArrayLike) -> np.ndarray:
    """Return the true frame before each frame of the future: what the thesis's rollouts call null.

    It is not a forecast, since from the second step on it has seen the truth. At the first step
    it equals `persistence`.

    Args:
        history: (..., T, D, H, W): the observed frames.
        future: (..., horizon, D, H, W): the true frames that follow.

    Returns:
        The shape and dtype of `future`.
    """
    future = _sequence("future", future)
    before = [persistence(history).astype(future.dtype), future[..., :-1, :, :, :]]
    return np.concatenate(before, axis=-4)


def births(before: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Return, for each sample, the share of filled voxels that the frame before does not announce.

    Not announced means that neither the voxel nor any of its 26 neighbours was filled in the
    frame before. The share is the pooled Jaccard distance of a forecast that misses just these
    voxels and gets all others right: about 0.004, 0.012 and 0.040 in the three formats of the
    thesis's test records.

    Args:
        before: (..., T, D, H, W): the frame before each frame of `truth`.
        truth: the same shape; values 0…1, filled from 0.5 on.

    Returns:
        float64 (...): voxels summed over the frames of a sample; 0 where `truth` is empty.
    """
    before, truth = _sequence("before", before), _sequence("truth", truth)
    (before, truth), _ = filled_voxels(before=before, truth=truth)
    from scipy import ndimage

    near = ndimage.binary_dilation(before, np.ones((1,) * (before.ndim - 3) + (3, 3, 3), bool))
    axes = (-4, *FRAME_AXES)
    filled = np.count_nonzero(truth, axis=axes)
    return np.count_nonzero(truth & ~near, axis=axes) / np.maximum(filled, 1)


@dataclass(frozen=True)
class Summary:
    """A mean, the standard deviation `std` of the values, and their count `n`.

    `std` has n - 1 in the denominator and is NaN for one value; `print` shows mean ± standard
    error.
    """

    mean: float
    std: float
    n: int

    @property
    def standard_error(self) -> float:
        """Standard deviation of the mean: `std` / √n."""
        return self.std / math.sqrt(self.n)

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.standard_error:.4f} (sd {self.std:.4f}, n = {self.n})"


def summary(values: ArrayLike) -> Summary:
    """Summarise independent values, one per sample: mean, standard deviation, count.

    Give one value per *sample* (as `per_frame` and `pooled` do): the frames of one sample
    resemble each other, and counting them one by one makes the standard error too small. To
    compare two models on the same samples, summarise the differences.

    Args:
        values: any shape, at least one value; all finite.
    """
    values = np.asarray(values, dtype=np.float64)
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong or not values.size:
        raise ValueError(
            f"{wrong} of {values.size} values are not finite; expected at least one value, and "
            "those that are not finite left out."
        )
    std = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return Summary(float(values.mean()), std, values.size)


def keras_jaccard(protocol: str = "pooled"):
    """Return a `keras.metrics.Metric` of the mean Jaccard distance, the same as NumPy's.

    Truth and prediction are (B, T, D, H, W) or (B, D, H, W), with or without a channel axis of
    length 1. The mean is taken over samples, however they are split into batches:
    `metric.result()` equals `summary(pooled(truth, prediction)).mean` up to rounding. In a
    compiled step nothing can be raised, so a prediction that is NaN or outside 0…1 makes the
    result NaN.

    Args:
        protocol: `"pooled"` or `"per_frame"`; without a time axis both are the same. `fit` shows it
            as `jaccard_pooled` or `jaccard_per_frame`.
    """
    import keras

    _checks.choice("protocol", protocol, ("pooled", "per_frame"))
    options = {"name": f"jaccard_{protocol}", "dtype": "float64", "protocol": protocol}
    return keras.metrics.MeanMetricWrapper(_keras_distances, **options)


def _keras_distances(y_true, y_pred, protocol: str):
    """Return the Jaccard distance of each sample, float64 (B,), by operations of Keras."""
    from keras import ops

    def without_channel(values):
        values = ops.convert_to_tensor(values)
        channel = len(values.shape) > 4 and values.shape[-1] == 1
        return ops.squeeze(values, -1) if channel else values

    truth, guess = without_channel(y_true), without_channel(y_pred)
    ndim = len(truth.shape)
    if (
        ndim not in (4, 5)
        or len(guess.shape) != ndim
        or any(a != b for a, b in zip(truth.shape, guess.shape) if None not in (a, b))
    ):
        raise ValueError(
            f"y_true has shape {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}; expected the "
            "same (B, T, D, H, W) or (B, D, H, W), with or without a channel axis of length 1."
        )
    good = [
        ops.all(ops.greater_equal(each, 0) & ops.less_equal(each, 1), axis=range(1, ndim))
        for each in (truth, guess)  # NaN is neither
    ]
    one, other = ops.greater_equal(truth, 0.5), ops.greater_equal(guess, 0.5)
    axes = (-4, *FRAME_AXES) if protocol == "pooled" and ndim == 5 else FRAME_AXES
    intersection = ops.cast(ops.count_nonzero(one & other, axis=axes), "float64")
    union = ops.cast(ops.count_nonzero(one | other, axis=axes), "float64")
    distance = 1 - ops.where(union > 0, intersection / ops.maximum(union, 1), 1)
    if len(distance.shape) == 2:
        distance = ops.mean(distance, axis=1)
    return ops.where(good[0] & good[1], distance, math.nan)


def filled_voxels(
    axes: int | Sequence[int] = FRAME_AXES, **arrays: ArrayLike
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Check arrays of one shape: which of their voxels are filled, as bool, and the axes."""
    checked = {name: _checks.voxels(name, array) for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in checked.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"The shapes must agree; found {shapes}.")
    shape = next(iter(shapes.values()))
    chosen = normalize_axis_tuple(axes, len(shape), "axes")
    if len(chosen) == 3 < len(shape) and max(chosen) == len(shape) - 1 and shape[-1] == 1:
        raise ValueError(
            f"The last axis of shape {shape} looks like a channel, not like the width: write "
            "axes=(-4, -3, -2, -1) or drop it with array[..., 0]."
        )
    if 0 in [shape[axis] for axis in chosen]:
        raise ValueError(f"There are no voxels to compare along axes {axes} of shape {shape}.")
    filled = [found if found.dtype == bool else found >= 0.5 for found in checked.values()]
    return filled, chosen


def _sequence(name: str, array: ArrayLike) -> np.ndarray:
    """Return an array (..., T, D, H, W), or say what is wrong with its shape."""
    array = _checks.unmasked(name, array)
    if array.ndim < 4 or array.shape[-4] == 0 or array.shape[-1] == 1:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (..., T, D, H, W) with at least one frame. "
            "Drop a channel at the end with array[..., 0]."
        )
    return array
