"""What the models are fed: frame formats, and tf.data pipelines from a packed split."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import _checks
from helpers.records import PackedSplit
from helpers.workshop import tensorflow

if TYPE_CHECKING:  # an order of examples and their symmetries need NumPy alone
    import tensorflow as tf


@dataclass(frozen=True)
class FrameFormat:
    """Which frames of a sample are used: the middle `T` time points, of which every `TINC`-th.

    The larger `TINC` is, the more moves from frame to frame. The thesis uses T20_TINC1, T40_TINC2
    and T80_TINC4, 20 frames each.

    Attributes:
        T: how many time points in the middle; even, from 2 to `time_points`.
        TINC: the step from frame to frame, in time points; divides T, and leaves two frames.
        time_points: how many time points a sample has, at least 2; 128 in the thesis.
        own: of other data than the thesis's, though they have 128 time points, too.
    """

    T: int = _checks.field(whole=True)
    TINC: int = _checks.field(1, whole=True)
    time_points: int = _checks.field(128, whole=True)
    own: bool = _checks.field(False, choices=(False, True))

    def __post_init__(self):
        _checks.configuration(self)
        if not 2 <= self.T <= self.time_points or self.T % 2:
            raise ValueError(
                f"T is {self.T} of {self.time_points} time points; it must be even, and from 2 to "
                "the number of time points."
            )
        if self.TINC < 1 or self.T % self.TINC or self.steps < 2:
            raise ValueError(
                f"TINC is {self.TINC}; expected a divisor of T = {self.T} from 1 to {self.T // 2}, "
                "so that at least two frames are left."
            )

    @property
    def name(self) -> str:
        """The thesis's name, for example `T20_TINC1`; `T20_TINC1_of_30` of other data."""
        name = f"T{self.T}_TINC{self.TINC}"
        return f"{name}_of_{self.time_points}" if self.foreign else name

    @property
    def foreign(self) -> bool:
        """Whether it is of other data than the thesis's."""
        return self.own or self.time_points != 128

    @property
    def steps(self) -> int:
        """How many frames it keeps: T / TINC."""
        return self.T // self.TINC

    @property
    def times(self) -> np.ndarray:
        """The time points it keeps, int64 (steps,)."""
        first = (self.time_points - self.T) // 2
        return np.arange(first, first + self.T, self.TINC, dtype=np.int64)

    @classmethod
    def parse(cls, name: str) -> FrameFormat:
        """Make a format from its name, for example `T20_TINC1`; another one is a ValueError."""
        match = re.fullmatch(r"T(\d+)_TINC(\d+)(?:_of_(\d+))?", name)
        if not match:
            raise ValueError(f"{name!r} is not a format; expected a name such as 'T20_TINC1'.")
        T, TINC, time_points = (int(each) for each in match.groups(default="128"))
        # 128 is told only of other data.
        return cls(T, TINC, time_points, own=match[3] == "128")

    def select(self, frames: np.ndarray) -> np.ndarray:
        """Return the frames of this format: (..., T, D, H, W) to (..., steps, D, H, W), a view."""
        frames = _checks.unmasked("frames", frames)
        if frames.ndim < 4 or frames.shape[-4] != self.time_points:
            raise ValueError(
                f"frames has shape {frames.shape}; expected "
                f"(..., {self.time_points}, D, H, W). "
                f"For other data write FrameFormat({self.T}, {self.TINC}, time_points=...)."
            )
        first = self.times[0]
        return frames[..., first : first + self.T : self.TINC, :, :, :]


T20_TINC1 = FrameFormat(20, 1)
T40_TINC2 = FrameFormat(40, 2)
T80_TINC4 = FrameFormat(80, 4)
THESIS_FORMATS = (T20_TINC1, T40_TINC2, T80_TINC4)
FORMATS = {found.name: found for found in THESIS_FORMATS}


@dataclass(frozen=True)
class Shifted:
    """The ConvLSTM's task: from each frame of a sequence to the next one.

    (B, T-1, D, H, W, 1), frames 0…T-2, to (B, T-1, D, H, W, 1), frames 1…T-1. The target of step
    t is input at step t+1, so a model for this task must be causal.
    """

    def windows(self, steps: int) -> np.ndarray:
        """Return which frames each example of a sequence uses, int64 (examples, frames)."""
        return np.arange(steps)[np.newaxis]

    def split(self, frames):
        """Split (B, T, ...) into input and target."""
        return frames[:, :-1], frames[:, 1:]


@dataclass(frozen=True)
class Windows:
    """The task of the other models: from `history` frames to the one that follows.

    (B, history, D, H, W, 1) to (B, D, H, W, 1). A sequence of T frames gives T - history
    examples.

    Attributes:
        history: how many frames are observed, at least 1 and below the format's frames.
    """

    history: int = _checks.field(least=1, whole=True)

    def __post_init__(self):
        _checks.configuration(self)

    def windows(self, steps: int) -> np.ndarray:
        """Return which frames each example of a sequence uses, int64 (examples, frames)."""
        if self.history >= steps:
            raise ValueError(
                f"history is {self.history} of {steps} frames; at most {steps - 1} leave a frame "
                "to forecast."
            )
        return np.arange(steps - self.history)[:, np.newaxis] + np.arange(self.history + 1)

    def split(self, frames):
        """Split (B, history + 1, ...) into input and target."""
        return frames[:, :-1], frames[:, -1]


Task = Shifted | Windows


def from_packed(
    split: PackedSplit,
    frame_format: FrameFormat,
    task: Task,
    *,
    start_step: int = 0,
    repeat: bool = False,
    **options,
) -> tf.data.Dataset:
    """Feed batches from a packed split: each one is gathered, unpacked and cast in one go.

    Args:
        split: opened by `helpers.records.packed`; its samples have `frame_format.time_points`.
        frame_format: which frames of a sample are used.
        task: `Shifted()` or `Windows(history=...)`; says what the shapes are.
        start_step: so many batches have been seen already.
        repeat: go on with the next epoch without end; False is one epoch.
        options: those of `Order`: `batch_size`, `seed`, `drop_remainder`.

    Returns:
        A dataset of (input, target), float32 in {0, 1}, with the channel axis last. Its
        cardinality is known, or infinite with `repeat=True`. To train, write
        `model.fit(from_packed(..., seed=1, repeat=True), steps_per_epoch=..., shuffle=False)`:
        each epoch then has an order of its own, which a dataset of one epoch has not.
    """
    if not isinstance(split, PackedSplit):
        raise TypeError(
            f"split is {split!r}; expected a packed split. Open one with helpers.records.packed."
        )
    order = Order(frame_format, task, len(split), **options)
    start_step = _checks.whole("start_step", start_step, 0)
    if split.shape[0] != frame_format.time_points:
        raise ValueError(
            f"The samples have {split.shape[0]} time points, the format "
            f"{frame_format.time_points}; write FrameFormat({frame_format.T}, "
            f"{frame_format.TINC}, time_points={split.shape[0]})."
        )
    if frame_format.name in FORMATS and split.objects is None:
        raise ValueError(
            f"{frame_format.name} is the thesis's name, and these samples are none of cavities; "
            f"write FrameFormat({frame_format.T}, {frame_format.TINC}, own=True)."
        )
    tf = tensorflow()

    def gather(step: np.ndarray) -> np.ndarray:
        return split.frames(*order.batch(int(step)))

    def batch(step):
        found = tf.numpy_function(gather, [step], tf.uint8, stateful=False)
        size = order.batch_size if order.drop_remainder else None
        found.set_shape((size, order.windows.shape[1], *split.shape[1:]))
        return tuple(tf.cast(part[..., tf.newaxis], tf.float32) for part in task.split(found))

    if repeat:
        steps = tf.data.Dataset.counter(start_step)
    else:
        steps = tf.data.Dataset.range(start_step, order.steps_per_epoch)
    return steps.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


@dataclass
class Order:
    """Which examples make up which batch of a split.

    An example is a sequence (`Shifted`) or a sequence and a window of it (`Windows`). In epoch e
    the examples of the whole split come in the order `default_rng([seed, e]).permutation`, so
    the shuffle needs no buffer, and any step can be reached at once: a run that was stopped goes
    on where it was. NumPy alone is needed: `split.frames(*order.batch(step))` are the frames.

    Attributes:
        frame_format, task: see `from_packed`.
        samples: so many does the split hold.
        batch_size: examples in a batch, at least 1.
        seed: 0 or above; None keeps the order of the files.
        drop_remainder: leave out the last batch of an epoch if it is short.
    """

    frame_format: FrameFormat
    task: Task
    samples: int = _checks.field(least=1, whole=True)
    batch_size: int = _checks.field(32, least=1, whole=True)
    seed: int | None = _checks.field(None, least=0, whole=True, optional=True)
    drop_remainder: bool = _checks.field(False, choices=(False, True))

    def __post_init__(self):
        _checks.configuration(self)
        self.windows = self.frame_format.times[self.task.windows(self.frame_format.steps)]
        self.examples = self.samples * len(self.windows)
        whole, rest = divmod(self.examples, self.batch_size)
        self.steps_per_epoch = whole if self.drop_remainder else whole + bool(rest)
        if not self.steps_per_epoch:
            raise ValueError(
                f"{self.examples} examples make no batch of {self.batch_size}; take a smaller "
                "batch_size or keep the remainder."
            )
        # The latest epochs only: they are used again for each of their batches.
        self._of_epoch = functools.lru_cache(maxsize=2)(self._draw)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what makes up one batch, counted from the first of the first epoch.

        Returns:
            int64: the samples (B,), and the time points of their frames (B, frames).
        """
        epoch, number = divmod(step, self.steps_per_epoch)
        chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
        samples, windows = np.divmod(self._of_epoch(epoch)[chosen], len(self.windows))
        return samples, self.windows[windows]

    def _draw(self, epoch: int) -> np.ndarray:
        """Return the numbers of all examples in the order of an epoch."""
        if self.seed is None:
            return np.arange(self.examples)
        return np.random.default_rng([self.seed, epoch]).permutation(self.examples)


@functools.cache
def cube_symmetries() -> tuple[tuple[tuple[int, ...], tuple[bool, ...]], ...]:
    """Return the 48 symmetries of the cube as (order of the axes, axes to flip) pairs.

    The axes (0, 1, 2) are D, H, W. A symmetry first puts the axes in the given order, then flips
    the marked ones. Number 0 changes nothing, numbers 0…7 are the mirrorings without a turn.
    """
    return tuple(
        itertools.product(
            itertools.permutations((0, 1, 2)), itertools.product((False, True), repeat=3)
        )
    )


def inverse_symmetry(index: int) -> int:
    """Return the number of the symmetry that undoes symmetry `index`."""
    order, flips = cube_symmetries()[index]
    back = tuple(int(axis) for axis in np.argsort(order))
    return cube_symmetries().index((back, tuple(flips[axis] for axis in back)))


def apply_symmetry(array: np.ndarray, index: int) -> np.ndarray:
    """Turn and mirror an array (..., D, H, W), D = H = W, by one of the 48 cube symmetries.

    Returns a view of the array; `index` is 0…47, see `cube_symmetries`.
    """
    order, flips = cube_symmetries()[index]
    array = _checks.unmasked("array", array)
    if len(set(array.shape[-3:])) > 1:
        raise ValueError(
            f"array has shape {array.shape}; expected (..., D, H, W) with D = H = W and no channel."
        )
    # Plain transpose and slices: moveaxis and flip do the same, four times as slowly.
    first = array.ndim - 3
    turned = array.transpose(*range(first), *(first + axis for axis in order))
    mirrored: tuple[Any, ...] = (..., *(slice(None, None, -1 if flip else 1) for flip in flips))
    return turned[mirrored]


def apply_symmetries(frames: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """Apply to each example (T, D, H, W) of a batch its own symmetry."""
    if not symmetries.any():
        return frames
    turned = np.empty_like(frames)
    for example, (source, index) in enumerate(zip(frames, symmetries)):
        turned[example] = apply_symmetry(source, index)
    return turned
