"""How far a forecast is from the truth: the Jaccard distance, its protocols and the null models."""

from __future__ import annotations

import functools
import math
import numbers
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helpers import _checks

FRAME_AXES = (-3, -2, -1)


def jaccard_distance(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    axes: int | Sequence[int] = FRAME_AXES,
    threshold: float = 0.5,
) -> np.ndarray:
    """Return the Jaccard distance 1 - |A ∩ B| / |A ∪ B| between the filled voxels of two arrays.

    A voxel is filled where its value is at or above the threshold, in the truth and in the
    prediction. Empty against empty is 0, as in the thesis (about 1.2 % of its frame pairs).

    Args:
        truth: bool, integer or float of any shape, for example (B, T, D, H, W); values 0…1.
        prediction: same shape as `truth`; values 0…1, for example probabilities.
        axes: the axes that hold the voxels of one comparison. With a channel axis, as in
            (B, T, D, H, W, 1), write `axes=(-4, -3, -2, -1)`.
        threshold: above 0, at most 1.

    Returns:
        float64, the shape of `truth` without `axes`; 0 is a perfect match, 1 no common voxel.

    Raises:
        TypeError: the values are not real numbers, or some are masked.
        ValueError: shapes disagree, values are NaN or outside 0…1, an axis is missing, named
            twice or empty, or the last axis is a channel but taken as space.

    Source: P. Jaccard, 1912; union and intersection as in the thesis's evaluation.
    """
    (truth, prediction), axes = filled_voxels(axes, threshold, truth=truth, prediction=prediction)
    return _ratio(truth, prediction, axes)


def per_frame(truth: ArrayLike, prediction: ArrayLike, *, threshold: float = 0.5) -> np.ndarray:
    """Return, for each sample, the mean over its frames of the Jaccard distance.

    The thesis's protocol for the GAN models: each pair of frames counts the same.

    Args:
        truth: (..., T, D, H, W) or (..., T, D, H, W, 1); values 0…1.
        prediction: the same, with or without the channel axis.
        threshold: see `jaccard_distance`.

    Returns:
        float64 (...): one distance per sample.

    Raises:
        TypeError, ValueError: see `jaccard_distance`; fewer than four axes; no frames.
    """
    truth, prediction = _sequences(truth, prediction)
    return jaccard_distance(truth, prediction, threshold=threshold).mean(axis=-1)


def pooled(truth: ArrayLike, prediction: ArrayLike, *, threshold: float = 0.5) -> np.ndarray:
    """Return, for each sample, the Jaccard distance of all its frames taken as one volume.

    The thesis's protocol for the ConvLSTM: intersection and union are summed over the frames of
    a sample before they are divided, so frames with more filled voxels weigh more. A sample that
    is empty throughout, in truth and prediction, counts as 0.

    Args:
        truth: (..., T, D, H, W) or (..., T, D, H, W, 1); values 0…1.
        prediction: the same, with or without the channel axis.
        threshold: see `jaccard_distance`.

    Returns:
        float64 (...): one distance per sample.

    Raises:
        TypeError, ValueError: see `jaccard_distance`; fewer than four axes; no frames.
    """
    truth, prediction = _sequences(truth, prediction)
    return jaccard_distance(truth, prediction, axes=(-4, *FRAME_AXES), threshold=threshold)


def persistence(history: ArrayLike, horizon: int = 1) -> np.ndarray:
    """Forecast that nothing moves: repeat the last observed frame for every step ahead.

    This is the honest null model: at every horizon it knows the history and no more.

    Args:
        history: (..., T, D, H, W) or (..., T, D, H, W, 1), any dtype; T ≥ 1.
        horizon: steps ahead, at least 1.

    Returns:
        (..., horizon, D, H, W) or (..., horizon, D, H, W, 1), the dtype of `history`.

    Raises:
        ValueError: no frames, or a horizon below 1.
        TypeError: the horizon is not a whole number.
    """
    history = _checks.unmasked("history", history)
    axis = _time_axis(history, "history")
    steps = _checks.whole("horizon", horizon, 1)
    return np.repeat(_last(history, axis), steps, axis=axis)


def moving_null(history: ArrayLike, future: ArrayLike) -> np.ndarray:
    """Return the true frame before each frame of the future: what the thesis's rollouts call null.

    It is not a forecast, since from the second step on it has seen the truth. At the first step
    it equals `persistence`.

    Args:
        history: (..., T, D, H, W) or (..., T, D, H, W, 1): the observed frames.
        future: (..., horizon, D, H, W) or (..., horizon, D, H, W, 1): the true frames that follow.

    Returns:
        The shape and dtype of `future`.

    Raises:
        ValueError: no frames, or the shapes disagree in anything but the number of frames.
    """
    history, future = _checks.unmasked("history", history), _checks.unmasked("future", future)
    axis = _time_axis(history, "history")
    last = _last(history, axis)
    if axis != _time_axis(future, "future") or last.shape != _last(future, axis).shape:
        raise ValueError(
            f"history has shape {history.shape}, future {future.shape}; "
            "they may differ in the number of frames only."
        )
    known = future[(..., slice(None, -1), *(slice(None),) * (-axis - 1))]
    return np.concatenate([last.astype(future.dtype), known], axis=axis)


def changed_voxel_jaccard(
    last: ArrayLike,
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    axes: int | Sequence[int] = FRAME_AXES,
) -> np.ndarray:
    """Return the Jaccard distance between the predicted changes and the true changes.

    The true changes are the voxels in which `truth` differs from `last`, the predicted changes
    those in which `prediction` does. Persistence predicts no change, so it scores 1 wherever
    something moved; 0 is best. No change at all, true or predicted, is 0.

    Args:
        last: the last observed frame, shape of `truth` or with length 1 where it is to be
            repeated, for example (B, 1, D, H, W) for a rollout; values 0…1.
        truth, prediction, axes: see `jaccard_distance`; a voxel is filled from 0.5 on.

    Returns:
        float64, the shape of `truth` without `axes`.

    Raises:
        TypeError, ValueError: see `jaccard_distance`.
    """
    last, truth = _checks.unmasked("last", last), _checks.unmasked("truth", truth)
    (last, truth, prediction), axes = filled_voxels(
        axes, 0.5, last=_repeated(last, truth), truth=truth, prediction=prediction
    )
    return _ratio(last ^ truth, last ^ prediction, axes)


def volume_bias(
    truth: ArrayLike, prediction: ArrayLike, *, axes: int | Sequence[int] = FRAME_AXES
) -> np.ndarray:
    """Return the predicted filled volume minus the true one, relative to the true one.

    Above 0 the forecast is too full, below 0 too empty; -1 means that nothing was predicted.
    Where the truth is empty the result is 0 for an empty prediction and NaN for any other, since
    no relative bias is defined there. Compare over more axes, for example
    `axes=(-4, -3, -2, -1)`, to weigh frames by their volume and to meet empty truths less often.

    Args:
        truth, prediction, axes: see `jaccard_distance`; a voxel is filled from 0.5 on.

    Returns:
        float64, the shape of `truth` without `axes`.

    Raises:
        TypeError, ValueError: see `jaccard_distance`.
    """
    filled, axes = filled_voxels(axes, 0.5, truth=truth, prediction=prediction)
    true, guess = (np.count_nonzero(array, axis=axes) for array in filled)
    bias = (guess - true) / np.maximum(true, 1)
    return np.where((true == 0) & (guess > 0), np.nan, bias)


def births(before: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Return, for each sample, the share of filled voxels that the frame before does not announce.

    Not announced means that neither the voxel nor any of its 26 neighbours was filled in the
    frame before. The share is the pooled Jaccard distance of a forecast that misses just these
    voxels and gets all others right: about 0.004, 0.012 and 0.040 in the three formats of the
    thesis's test records.

    Args:
        before: (..., T, D, H, W) or (..., T, D, H, W, 1): the frame before each frame of `truth`.
        truth: the same shape; values 0…1, filled from 0.5 on.

    Returns:
        float64 (...): voxels summed over the frames of a sample; 0 where `truth` is empty.

    Raises:
        TypeError, ValueError: see `per_frame`.
    """
    before, truth = _sequences(before, truth, ("before", "truth"))
    (before, truth), _ = filled_voxels(FRAME_AXES, 0.5, before=before, truth=truth)
    from scipy import ndimage

    near = ndimage.binary_dilation(before, np.ones((1,) * (before.ndim - 3) + (3, 3, 3), bool))
    axes = (-4, *FRAME_AXES)
    filled = np.count_nonzero(truth, axis=axes)
    return np.count_nonzero(truth & ~near, axis=axes) / np.maximum(filled, 1)


@dataclass(frozen=True)
class Summary:
    """The mean of a measure with its spread and count; `print` shows mean ± standard error.

    Attributes:
        mean: over the values.
        std: standard deviation of the values (n - 1 in the denominator; NaN for one value).
        n: how many values.
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

    Raises:
        ValueError: no values, or some are NaN or infinite.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if not values.size:
        raise ValueError("There are no values to summarise.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite; "
            "decide what they mean and leave them out before summarising."
        )
    std = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return Summary(float(values.mean()), std, values.size)


def keras_jaccard(protocol: str = "pooled", *, threshold: float = 0.5, name: str | None = None):
    """Return a `keras.metrics.Metric` of the mean Jaccard distance, the same as NumPy's.

    Truth and prediction are (B, T, D, H, W) or (B, D, H, W), with or without a channel axis of
    length 1. The mean is taken over samples, however they are split into batches:
    `metric.result()` equals `summary(pooled(truth, prediction)).mean` up to rounding. Its method
    `distances` gives the values per sample. In a compiled step nothing can be raised, so a
    prediction that is NaN or outside 0…1 makes the result NaN.

    Args:
        protocol: `"pooled"` or `"per_frame"`; without a time axis both are the same.
        threshold: see `jaccard_distance`.
        name: shown by `fit`; by default `jaccard_pooled` or `jaccard_per_frame`.

    Raises:
        ValueError: no such protocol, or a threshold outside 0…1; later, shapes that disagree.
    """
    if protocol not in ("pooled", "per_frame"):
        raise ValueError(f"There is no protocol {protocol!r}; choose 'pooled' or 'per_frame'.")
    check_threshold(threshold)
    return _metric_class()(protocol, threshold, name=name or f"jaccard_{protocol}")


@functools.cache
def _metric_class():
    """Define the metric class once, when Keras is first needed."""
    import keras
    from keras import ops

    def volumes(values, what: str):
        """Drop a channel axis of length 1: (B, D, H, W) or (B, T, D, H, W) remain."""
        values = ops.convert_to_tensor(values)
        if len(values.shape) > 4 and values.shape[-1] == 1:
            values = ops.squeeze(values, -1)
        if len(values.shape) not in (4, 5):
            raise ValueError(
                f"{what} has shape {tuple(values.shape)}; expected (B, T, D, H, W) or "
                "(B, D, H, W), with or without a channel axis of length 1."
            )
        return values

    def in_range(values):
        values = ops.reshape(values, (ops.shape(values)[0], -1))
        if keras.backend.standardize_dtype(values.dtype) == "bool":
            return ops.all(values | True, axis=1)
        return ops.all((values >= 0) & (values <= 1), axis=1)  # NaN is neither

    def filled(values, threshold: float):
        if "float" not in keras.backend.standardize_dtype(values.dtype):
            return ops.cast(values, "bool")
        return values >= ops.cast(threshold, values.dtype)

    @keras.saving.register_keras_serializable("forecasting_4d")
    class JaccardDistance(keras.metrics.Mean):
        """Mean Jaccard distance over samples; made by `helpers.metrics.keras_jaccard`."""

        def __init__(self, protocol: str, threshold: float, name: str | None = None, **kwargs):
            super().__init__(name=name, dtype="float64", **kwargs)
            self.protocol, self.threshold = protocol, threshold

        def distances(self, y_true, y_pred):
            """Return the distance of each sample, float64 (B,)."""
            truth, guess = volumes(y_true, "y_true"), volumes(y_pred, "y_pred")
            if len(truth.shape) != len(guess.shape) or any(
                a != b for a, b in zip(truth.shape, guess.shape) if None not in (a, b)
            ):
                raise ValueError(
                    f"y_true has shape {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}; "
                    "they must agree."
                )
            good = in_range(truth) & in_range(guess)
            truth, guess = filled(truth, self.threshold), filled(guess, self.threshold)
            frames_apart = self.protocol == "per_frame" or len(truth.shape) == 4
            axes = (-3, -2, -1) if frames_apart else (-4, -3, -2, -1)
            both = ops.sum(ops.cast(truth & guess, "int32"), axis=axes)
            either = ops.sum(ops.cast(truth | guess, "int32"), axis=axes)
            both, either = ops.cast(both, "float64"), ops.cast(either, "float64")
            empty = ops.cast(either == 0, "float64")
            distance = 1 - (both + empty) / (either + empty)
            if len(distance.shape) == 2:
                distance = ops.mean(distance, axis=1)
            return ops.where(good, distance, ops.cast(math.nan, "float64"))

        def update_state(self, y_true, y_pred, sample_weight=None):
            if sample_weight is not None:
                raise ValueError("The Jaccard distance takes no sample weights.")
            super().update_state(self.distances(y_true, y_pred))

        def get_config(self):
            return {"name": self.name, "protocol": self.protocol, "threshold": self.threshold}

    return JaccardDistance


def _ratio(one: np.ndarray, other: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the Jaccard distance of boolean arrays; 0 where both are empty."""
    both = np.count_nonzero(one & other, axis=axes)
    either = np.count_nonzero(one | other, axis=axes)
    empty = either == 0
    return 1 - (both + empty) / (either + empty)


def filled_voxels(
    axes: int | Sequence[int], threshold: float, **arrays: ArrayLike
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Check arrays of one shape: which of their voxels are filled, as bool, and the axes.

    Raises:
        TypeError, ValueError: see `jaccard_distance`.
    """
    check_threshold(threshold)
    arrays = {name: _checks.voxels(name, array) for name, array in arrays.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"The shapes must agree; found {found}.")
    shape = next(iter(arrays.values())).shape
    chosen = _axes(axes, shape)
    if len(chosen) == 3 < len(shape) and chosen[-1] == len(shape) - 1 and shape[-1] == 1:
        raise ValueError(
            f"The last axis of shape {shape} looks like a channel, not like the width: write "
            "axes=(-4, -3, -2, -1) or drop it with array[..., 0]."
        )
    if 0 in [shape[axis] for axis in chosen]:
        raise ValueError(f"There are no voxels to compare along axes {axes} of shape {shape}.")
    return [_thresholded(array, threshold) for array in arrays.values()], chosen


def check_threshold(threshold: float) -> None:
    """Refuse, by a ValueError, a threshold that is not a number above 0 and at most 1."""
    if not isinstance(threshold, numbers.Real) or not 0 < threshold <= 1:
        raise ValueError(f"The threshold is {threshold!r}; expected a number above 0, at most 1.")


def _thresholded(array: np.ndarray, threshold: float) -> np.ndarray:
    """Return which voxels are filled, as bool."""
    if array.dtype == bool:
        return array
    # A NumPy number would compare in its own precision, not in the array's as Keras does.
    return array >= float(threshold)


def _axes(axes: int | Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes as sorted non-negative numbers."""
    try:
        chosen = [operator.index(axis) for axis in (axes if np.iterable(axes) else (axes,))]
    except TypeError:
        raise ValueError(
            f"axes is {axes!r}; expected whole numbers such as (-3, -2, -1)."
        ) from None
    for axis in chosen:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"There is no axis {axis} in shape {shape}; axes is {axes!r}.")
    positive = sorted(axis % len(shape) for axis in chosen)
    if not positive or len(set(positive)) < len(positive):
        raise ValueError(f"axes is {axes!r}; name at least one axis, and each one once.")
    return tuple(positive)


def _sequences(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str] = ("truth", "prediction")
) -> list[np.ndarray]:
    """Drop the channel axes: two arrays (..., T, D, H, W)."""
    arrays = [_checks.unmasked(name, array) for name, array in zip(names, (first, second))]
    axes = [_time_axis(array, name) for array, name in zip(arrays, names)]
    return [array[..., 0] if axis == -5 else array for array, axis in zip(arrays, axes)]


def _time_axis(array: np.ndarray, name: str) -> int:
    """Find the time axis: -4, or -5 if the last axis is a channel of length 1."""
    axis = -5 if array.ndim and array.shape[-1] == 1 else -4
    if array.ndim < -axis or array.shape[axis] == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (..., T, D, H, W) or (..., T, D, H, W, 1) "
            "with at least one frame."
        )
    return axis


def _last(frames: np.ndarray, axis: int) -> np.ndarray:
    """Return the last frame with its time axis kept."""
    return np.take(frames, [-1], axis=axis)


def _repeated(last: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Repeat the last frame to the shape of the truth, without a copy."""
    if last.ndim != truth.ndim or any(n not in (1, m) for n, m in zip(last.shape, truth.shape)):
        raise ValueError(
            f"last has shape {last.shape}, truth {truth.shape}; they must agree, except that an "
            "axis of last may have length 1."
        )
    return np.broadcast_to(last, truth.shape)
