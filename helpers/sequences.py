"""What the models are fed: frame formats, and tf.data pipelines from a packed split."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    split: PackedSplit, frame_format: FrameFormat, task: Task, **options
) -> tf.data.Dataset:
    """Feed batches from a packed split: each one is gathered, unpacked and cast in one go.

    Args:
        split: opened by `helpers.records.packed`; its samples have `frame_format.time_points`.
        frame_format: which frames of a sample are used.
        task: `Shifted()` or `Windows(history=...)`; says what the shapes are.
        options: those of `Order`: `batch_size`, `seed`, `start_step`, `repeat`, `drop_remainder`,
            `symmetries`, `time_reversal`.

    Returns:
        A dataset of (input, target), float32 in {0, 1}, with the channel axis last. Its
        cardinality is known, or infinite with `repeat=True`. To train, write
        `model.fit(from_packed(..., seed=1, repeat=True), steps_per_epoch=..., shuffle=False)`:
        each epoch then has an order of its own, which a dataset of one epoch has not.
    """
    if not hasattr(split, "frames") or not hasattr(split, "shape"):
        raise TypeError(
            f"split is {split!r}; expected a packed split. Open one with helpers.records.packed."
        )
    order = Order(len(split), frame_format, task, **options)
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
        samples, times, symmetries = order.batch(int(step))
        return apply_symmetries(split.frames(samples, times), symmetries)

    def batch(step):
        found = tf.numpy_function(gather, [step], tf.uint8, stateful=False)
        size = order.batch_size if order.drop_remainder else None
        found.set_shape((size, order.windows.shape[1], *split.shape[1:]))
        return tuple(tf.cast(part[..., tf.newaxis], tf.float32) for part in task.split(found))

    if order.repeat:
        steps = tf.data.Dataset.counter(order.start_step)
    else:
        steps = tf.data.Dataset.range(order.start_step, order.steps_per_epoch)
    return steps.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


def in_turn(
    stream: Callable[[int, int], tf.data.Dataset], count: int
) -> Callable[[int], tf.data.Dataset]:
    """Let streams of batches take turns: a batch of each follows the other.

    Args:
        stream: gives the batches of a stream without end, from the stream's number, 0…count-1,
            and the step to begin with.
        count: how many streams there are.

    Returns:
        What `helpers.training.train` asks for: the batches from any step on.
    """

    def from_step(step: int) -> tf.data.Dataset:
        data = tensorflow().data.Dataset
        # Of the first `step` batches, so many were of this stream.
        streams = [stream(n, (step - n + count - 1) // count) for n in range(count)]
        if count == 1:
            return streams[0]
        choice = data.counter(step).map(lambda number: number % count)
        return data.choose_from_datasets(streams, choice)

    return from_step


class Order:
    """Which examples make up which batch of a split.

    An example is a sequence (`Shifted`) or a sequence and a window of it (`Windows`). In epoch e
    the examples of the whole split come in the order `default_rng([seed, e]).permutation`, so
    the shuffle needs no buffer, and any step can be reached at once: to go on where a run
    stopped, pass the number of steps it has done as `start_step`. NumPy alone is needed:
    `apply_symmetries(split.frames(samples, times), symmetries)` are the frames of what `batch`
    returns.

    Attributes:
        batch_size: examples in a batch, at least 1.
        seed: 0 or above; None keeps the order of the files.
        start_step: so many batches have been seen already.
        repeat: go on with the next epoch without end; False is one epoch.
        drop_remainder: leave out the last batch of an epoch if it is short.
        symmetries: turn and mirror each example by one of the 48 cube symmetries.
        time_reversal: let each example run backwards with probability one half.
    """

    def __init__(
        self,
        samples: int,
        frame_format: FrameFormat,
        task: Task,
        *,
        batch_size: int = 32,
        seed: int | None = None,
        start_step: int = 0,
        repeat: bool = False,
        drop_remainder: bool = False,
        symmetries: bool = False,
        time_reversal: bool = False,
    ):
        self.batch_size = _checks.whole("batch_size", batch_size, 1)
        self.seed = None if seed is None else _checks.whole("seed", seed, 0)
        self.start_step = _checks.whole("start_step", start_step, 0)
        self.repeat, self.drop_remainder = bool(repeat), bool(drop_remainder)
        self.symmetries, self.time_reversal = bool(symmetries), bool(time_reversal)
        self.windows = frame_format.times[task.windows(frame_format.steps)]
        self.examples = _checks.whole("The number of samples", samples, 1) * len(self.windows)
        whole, rest = divmod(self.examples, self.batch_size)
        self.steps_per_epoch = whole if self.drop_remainder else whole + bool(rest)
        if not self.steps_per_epoch:
            raise ValueError(
                f"{self.examples} examples make no batch of {self.batch_size}; take a smaller "
                "batch_size or keep the remainder."
            )
        if self.seed is None and (self.symmetries or self.time_reversal):
            raise ValueError("Augmentation is drawn at random; give it a seed.")
        # The latest epochs only: they are used again for each of their batches.
        self._of_epoch = functools.lru_cache(maxsize=2)(self._draw)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what makes up one batch, counted from the first of the first epoch.

        Returns:
            int64: the samples (B,), the time points of their frames (B, frames), and the cube
            symmetries (B,), all 0 without augmentation.
        """
        epoch, number = divmod(step, self.steps_per_epoch)
        chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
        examples, symmetries, backwards = (drawn[chosen] for drawn in self._of_epoch(epoch))
        samples, windows = np.divmod(examples, len(self.windows))
        times = self.windows[windows]
        times[backwards] = times[backwards, ::-1]
        return samples, times, symmetries

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the examples of an epoch in their order, their symmetries and directions."""
        examples = np.arange(self.examples)
        symmetries = np.zeros(self.examples, np.int64)
        backwards = np.zeros(self.examples, bool)
        if self.seed is not None:
            examples = np.random.default_rng([self.seed, epoch]).permutation(self.examples)
            # A second stream, so that augmentation leaves the order as it is.
            rng = np.random.default_rng([self.seed, epoch, 1])
            drawn = rng.integers(48, size=self.examples), rng.integers(2, size=self.examples)
            symmetries = drawn[0] if self.symmetries else symmetries
            backwards = drawn[1] == 1 if self.time_reversal else backwards
        return examples, symmetries, backwards


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


def apply_symmetry(
    array: np.ndarray, index: int, *, axes: tuple[int, int, int] = (-3, -2, -1)
) -> np.ndarray:
    """Turn and mirror an array by one of the 48 cube symmetries.

    Args:
        array: any shape with D = H = W, for example (B, T, D, H, W).
        index: 0…47, see `cube_symmetries`.
        axes: where D, H, W are; write (-4, -3, -2) if a channel axis comes last.

    Returns:
        A view of `array`.
    """
    order, flips = cube_symmetries()[index]
    array = _checks.unmasked("array", array)
    if len({array.shape[axis] for axis in axes}) > 1:
        raise ValueError(
            f"Axes {axes} of shape {array.shape} are not of the same length; expected D = H = W. "
            "With a channel axis write axes=(-4, -3, -2)."
        )
    # Plain transpose and slices: moveaxis and flip do the same, four times as slowly.
    places = list(range(array.ndim))
    slices = [slice(None)] * array.ndim
    for axis, source, flip in zip(axes, order, flips):
        places[axis] = axes[source] % array.ndim
        slices[axis] = slice(None, None, -1 if flip else 1)
    return array.transpose(places)[tuple(slices)]


def apply_symmetries(frames: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """Apply to each example (T, D, H, W) of a batch its own symmetry."""
    if not symmetries.any():
        return frames
    turned = np.empty_like(frames)
    for example, (source, index) in enumerate(zip(frames, symmetries)):
        turned[example] = apply_symmetry(source, index)
    return turned
