"""Forecasting more than one step: one interface for every model, and predictions fed back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from helpers import _checks, metrics
from helpers._checks import whole

FEEDBACKS = ("probability", *metrics.CUTS)


class Forecaster(Protocol):
    """What every model offers here: from the frames so far to the next one.

    Attributes:
        name: what tables call it.
    """

    name: str

    def __call__(self, history: np.ndarray) -> np.ndarray:
        """Return the probability that each voxel of the next frame is filled.

        Args:
            history: float32 (B, T, D, H, W), T ≥ 1, values 0…1, read only: frames observed, or
                predicted before.

        Returns:
            (B, D, H, W), values 0…1.
        """


class Recurrent(Forecaster, Protocol):
    """A forecaster that carries a state, so that one more frame costs one more step.

    `begin` followed by `advance` for each further frame must give what a call with all of these
    frames gives.
    """

    def begin(self, history: np.ndarray) -> tuple[np.ndarray, Any]:
        """Read all of `history` (B, T, D, H, W); return the next frame and the state."""

    def advance(self, frame: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Read one more frame (B, D, H, W); return the next frame and the new state."""


class Several(Forecaster, Protocol):
    """A forecaster that gives several frames at once: the direct way, beside feeding back."""

    def several(self, history: np.ndarray) -> np.ndarray:
        """Return the next K frames, K ≥ 1: (B, T, D, H, W) to (B, K, D, H, W), values 0…1.

        The first of them is what a call returns; only a `SurfaceNet` looks at more voxels for
        several frames than for one, so that its two differ a little.
        """


@dataclass(frozen=True)
class Persistence:
    """The null model as a forecaster: the next frame equals the last one; there is no state."""

    name: str = "persistence"

    def __call__(self, history: ArrayLike) -> np.ndarray:
        """Return the last frame: (B, T, D, H, W) to (B, D, H, W)."""
        return metrics.persistence(checked_history(history))[:, 0]

    def begin(self, history: ArrayLike) -> tuple[np.ndarray, None]:
        return self(history), None

    def advance(self, frame: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        return frame, None


def rollout(
    forecaster: Forecaster,
    history: ArrayLike,
    horizon: int,
    *,
    feedback: str = "probability",
    keep: int | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Forecast `horizon` frames: each prediction is fed back as if it had been observed.

    The truth is not an argument, so no forecaster can see it. A `Recurrent` forecaster carries
    its state while no frame has to be forgotten: a history of n and a horizon of h then cost
    n + h - 1 steps, where reading all again costs n + (n + 1) + … + (n + h - 1). A forecaster that
    gives `Several` frames at once is asked again only when they are used up.

    Args:
        forecaster: see `Forecaster`, `Recurrent` and `Several`.
        history: (B, T, D, H, W), the observed frames, T ≥ 1; values 0…1.
        horizon: steps ahead, at least 1.
        feedback: what is fed back: `"probability"`, as in the thesis, or frames of 0 and 1 like
            the observed ones, made by `metrics.cut`: `"half"` cuts at 0.5, `"expected"` where
            the frame itself lets expect the smallest distance.
        keep: the forecaster sees at most so many of the latest frames; None is all of them. The
            thesis keeps as many as it began with.
        batch_size: so many sequences at a time.

    Returns:
        float32 (B, horizon, D, H, W): probabilities, whatever is fed back.
    """
    history, horizon = checked_history(history), whole("horizon", horizon, 1)
    _checks.choice("feedback", feedback, FEEDBACKS)
    observed = history.shape[1]
    times = range(observed, observed + horizon)
    keep = times[-1] if keep is None else whole("keep", keep, 1)
    predicted = np.zeros((len(history), horizon, *history.shape[2:]), np.float32)
    for batch in _batches(forecaster, len(history), batch_size):
        frames = np.concatenate([history[batch], predicted[batch]], axis=1)
        for time, prediction in _forecasts(forecaster, frames, times, keep):
            step = predicted[batch, time - observed]
            step[:] = prediction
            frames[:, time] = step if feedback == "probability" else metrics.cut(step, feedback)
    return predicted


def next_frames(
    forecaster: Forecaster, sequences: ArrayLike, *, first: int = 1, batch_size: int = 32
) -> np.ndarray:
    """Forecast every frame of the sequences from the true frames before it.

    Args:
        forecaster: see `Forecaster` and `Recurrent`.
        sequences: (B, T, D, H, W), the true frames, T > first; values 0…1.
        first: the first frame to forecast, at least 1.
        batch_size: see `rollout`.

    Returns:
        float32 (B, T - first, D, H, W): probabilities of the frames first…T-1. Frame t is
        forecast from all frames before t.
    """
    first = whole("first", first, 1)
    sequences = checked_history(sequences, frames=first + 1, what="sequences")
    steps = sequences.shape[1]
    predicted = np.empty((len(sequences), steps - first, *sequences.shape[2:]), np.float32)
    for batch in _batches(forecaster, len(sequences), batch_size):
        times = range(first, steps)
        for time, prediction in _forecasts(forecaster, sequences[batch], times, steps, single=True):
            predicted[batch, time - first] = prediction
    return predicted


def checked_history(history: ArrayLike, **options) -> np.ndarray:
    """Return a history as float32, or say what is wrong with it; see `check_frames`."""
    return check_frames(history, **options).astype(np.float32, copy=False)


def check_frames(
    history: ArrayLike,
    grid: tuple[int, int, int] | None = None,
    frames: int = 1,
    what: str = "history",
) -> np.ndarray:
    """Return a history as an array of the dtype it has, or say what is wrong with it.

    Args:
        history: bool, integers or floats (B, T, D, H, W) without a channel axis; values 0…1.
        grid: the (D, H, W) that the frames must have; any when None.
        frames: at least so many frames.
        what: what errors call it.
    """
    history = _checks.voxels(what, history, remedy="scale the frames to 0…1")
    shape = history.shape
    if history.ndim != 5 or shape[-1] == 1:
        hint = ""
        if history.ndim > 4 and shape[-1] == 1:
            hint = f" The last axis looks like a channel: drop it with {what}[..., 0]."
        elif history.ndim == 4:
            hint = f" For a single sequence write {what}[np.newaxis]."
        raise ValueError(f"{what} has shape {shape}; expected (B, T, D, H, W).{hint}")
    if 0 in (shape[0], *shape[2:]) or shape[1] < frames:
        raise ValueError(
            f"{what} has {shape[1]} frames, shape {shape}: nothing to forecast from; expected "
            f"(B, T, D, H, W) with at least {frames} frames, one sequence and one voxel."
        )
    if grid is not None and shape[2:] != tuple(grid):
        raise ValueError(
            f"{what} has frames of {shape[2:]} voxels; expected {tuple(grid)}, the grid that the "
            "forecaster was made for."
        )
    return history


def _batches(forecaster: Forecaster, count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover 0…count, if there is a forecaster for them."""
    if not callable(forecaster) or isinstance(forecaster, type):
        raise TypeError(
            f"{forecaster!r} is not a forecaster; expected one that is called with a history "
            "(B, T, D, H, W) and returns (B, D, H, W), for example Persistence()."
        )
    size = whole("batch_size", size, 1)
    return (slice(start, start + size) for start in range(0, count, size))


def _forecasts(
    forecaster: Any,  # a Forecaster, perhaps Recurrent or Several
    frames: np.ndarray,
    times: range,
    keep: int,
    single: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (time, probability (B, D, H, W)) for each time, from the frames before it.

    Frame t is read only after the forecast of frame t has been taken, so whoever takes it may
    first write it into `frames` (B, T, D, H, W). With `single` each frame is asked for by itself.
    """
    several = hasattr(forecaster, "several") and not single
    carried = hasattr(forecaster, "begin") and times[-1] <= keep
    # A view that a forecaster cannot write to: the frames are read again.
    view = frames[:]
    view.flags.writeable = False
    block: list[np.ndarray] = []
    state = None
    for time in times:
        seen = view[:, max(0, time - keep) : time]
        if several:
            if not block:
                given = np.asarray(forecaster.several(seen))  # (B, K, D, H, W)
                block = list(np.moveaxis(given, 1, 0))
            found = block.pop(0)
        elif not carried:
            found = forecaster(seen)
        elif time == times[0]:
            found, state = forecaster.begin(seen)
        else:
            found, state = forecaster.advance(view[:, time - 1], state)
        yield time, _checked_prediction(found, frames)


def _checked_prediction(found: ArrayLike, frames: np.ndarray) -> np.ndarray:
    """Return what a forecaster returned as an array (B, D, H, W), or say what is wrong with it."""
    what = "The forecaster's prediction"
    found = _checks.voxels(
        what, found, remedy="a probability needs a sigmoid at the end of the model"
    )
    expected = (len(frames), *frames.shape[2:])
    if found.shape != expected:
        raise ValueError(
            f"{what} has shape {found.shape}; expected (B, D, H, W) = {expected}, one frame for "
            "each sequence and no channel axis."
        )
    return found
