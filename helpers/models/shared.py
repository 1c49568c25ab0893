"""What several networks use: layers, the past of each voxel, windows to learn from, forecasts."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers import metrics, sequences, training
from helpers._checks import whole
from helpers.rollout import Forecaster, checked_history
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

ROLLOUT_HISTORY = 5  # frames, as in the thesis
UNKNOWN = 0.5  # what stands for a frame that was not observed
FAINT = 0.3  # after forecasts, a frame whose voxels are all less likely filled is called empty


def to_patches(voxels, patch: int):
    """Cut a grid into patches of `patch`³ voxels, whose voxels become channels.

    (B, D, H, W, C) to (B, D/p, H/p, W/p, p³·C), the edges of the grid known.
    """
    if patch == 1:
        return voxels
    *edges, channels = voxels.shape[1:]
    d, h, w = (edge // patch for edge in edges)
    cut = ops.reshape(voxels, (-1, d, patch, h, patch, w, patch, channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 3, 5, 2, 4, 6, 7)), (-1, d, h, w, patch**3 * channels)
    )


def to_voxels(patches, patch: int):
    """Put patches together again: the reverse of `to_patches`."""
    if patch == 1:
        return patches
    d, h, w, channels = patches.shape[1:]
    channels //= patch**3
    cut = ops.reshape(patches, (-1, d, h, w, patch, patch, patch, channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 4, 2, 5, 3, 6, 7)),
        (-1, d * patch, h * patch, w * patch, channels),
    )


class Pointwise(keras.layers.Dense):
    """A dense layer that reads each voxel or patch by itself: (…, C) to (…, `units`).

    Voxels are laid in one row first. So TensorFlow adds the bias and applies the activation while
    it multiplies; to a product of more than two axes it would do so one after the other.
    """

    def call(self, x, training=None):
        """See the class."""
        rows = super().call(ops.reshape(x, (-1, x.shape[-1])), training=training)
        return ops.reshape(rows, (*ops.shape(x)[:-1], self.units))

    def normalised(self, x, norm: keras.layers.RMSNormalization):
        """Return `self(norm(x))` in less time: each row is scaled after the product, not before.

        A row of the product has `units` numbers, one of x as many as it has channels.
        """
        rows = ops.reshape(x, (-1, x.shape[-1]))
        scale = _to_mean_square_1(ops.cast(rows, "float32"), norm.epsilon)
        scale = ops.cast(scale, self.compute_dtype)
        # Keras casts weights for mixed precision in `call` only.
        kernel = ops.cast(norm.scale[:, None] * self.kernel, self.compute_dtype)
        rows = ops.matmul(rows, kernel) * scale + ops.cast(self.bias, self.compute_dtype)
        return ops.reshape(self.activation(rows), (*ops.shape(x)[:-1], self.units))


def _to_mean_square_1(rows, epsilon: float):
    """Return what `RMSNormalization` multiplies each row by: (N, C) to (N, 1)."""

    @tf.custom_gradient
    def scale_of(rows):
        # One pass over the rows, where the mean of squares takes two. TensorFlow's gradient of
        # the norm is NaN for a row of zeros; this one is 0.
        norm, count = tf.math.reduce_euclidean_norm(rows, axis=-1, keepdims=True), rows.shape[-1]
        scale = tf.math.rsqrt(norm**2 / count + epsilon)
        return scale, lambda gradient: -gradient * scale**3 * rows / count

    return scale_of(rows)


class Mix(keras.layers.Layer):
    """A residual bottleneck block: x + up(silu(mix(silu(down(x))))), only `mix` sees neighbours.

    (B, D, H, W, C) to the same shape; inside, C / 4 channels.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        inner, policy = max(width // 4, 1), self.dtype_policy
        self.down = Pointwise(inner, activation="silu", name="down", dtype=policy)
        self.mix = keras.layers.Conv3D(
            inner, 3, padding="same", activation="silu", name="mix", dtype=policy
        )
        self.up = Pointwise(width, name="up", dtype=policy)

    def build(self, shape):
        """Make the weights of the three layers."""
        self.down.build(shape)
        self.mix.build((*shape[:-1], self.down.units))
        self.up.build((*shape[:-1], self.down.units))

    def call(self, x):
        """Return x plus what the block adds to it."""
        return x + self.added(x)

    def added(self, x, norm: keras.layers.RMSNormalization | None = None):
        """Return what the block adds: the branch beside the direct way, which `norm` is no part of.

        Args:
            x: see the class.
            norm: scales what the branch reads; None leaves it as it is.
        """
        read = self.down(x) if norm is None else self.down.normalised(x, norm)
        return self.up(self.mix(read))


def check_shape(shape, expected: Sequence[int | str]) -> None:
    """See that frames have the sizes that a network was made for; a letter stands for any.

    Raises:
        ValueError: they have others.
    """
    sizes = [size if isinstance(size, int) else found for found, size in zip(shape, expected)]
    if len(shape) != len(expected) or list(shape) != sizes:
        raise ValueError(
            f"frames has shape {tuple(shape)}; expected ({', '.join(map(str, expected))})."
        )


def check_steps(config) -> None:
    """See that the `steps` of a configuration are different ones."""
    if len(set(config.steps)) < len(config.steps):
        raise ValueError(f"steps is {config.steps}; expected each time step once.")


def in_turn(
    split,
    formats: Sequence[sequences.FrameFormat],
    plan: training.Plan,
    task: sequences.Task,
    prepare: Callable | None = None,
    **options,
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on.

    Args:
        split: a `helpers.records.PackedSplit`.
        formats: with several, one batch of each follows the other.
        plan: of the training: batch size and seed.
        task: what an example is, see `helpers.sequences`.
        prepare: turns a format and a batch into what the network reads.
        options: of `helpers.sequences.from_packed`, such as `symmetries=True`.
    """

    def stream(number: int, step: int) -> tf.data.Dataset:
        data = sequences.from_packed(
            split,
            formats[number],
            task,
            batch_size=plan.batch_size,
            seed=plan.seed + number,
            repeat=True,
            drop_remainder=True,
            start_step=step,
            **options,
        )
        return data.map(functools.partial(prepare, formats[number])) if prepare else data

    return sequences.in_turn(stream, len(formats))


def outputs(config) -> list[str]:
    """Return the names of the outputs of a network that forecasts `ahead` frames."""
    return ["next", "later"] if config.ahead > 1 else ["next"]


def past_bits(frames):
    """Return the past of each voxel as one number: (B, T, D, H, W) to int32 (B, D, H, W).

    Bit a is 1 where the voxel was filled a frames before the last one. T is at most 31.
    """
    value = (1 << np.arange(frames.shape[1] - 1, -1, -1)).astype("int32")
    filled = ops.cast(frames > UNKNOWN, "int32")
    # Whole numbers, which no lower precision can round.
    return ops.sum(filled * value[:, None, None, None], axis=1)


def hide(frames, observed):
    """Put `UNKNOWN` in the place of the frames before the last `observed` (B,).

    Args, returns: float frames (B, T, D, H, W).
    """
    age = tf.range(frames.shape[1], 0, -1, dtype=observed.dtype)
    return tf.where((age <= observed[:, None])[:, :, None, None, None], frames, UNKNOWN)


def example(config, frames, observed, step, weight) -> tuple[dict, dict, dict]:
    """Split frames (B, history + ahead, D, H, W) into what `fit` reads."""
    frames = tf.cast(frames, tf.float32)
    inputs = {
        "frames": hide(frames[:, : config.history], observed),
        "observed": observed,
        "step": step,
    }
    target = frames[:, config.history :]
    targets, weights = {"next": target[:, :1]}, {"next": weight}
    if config.ahead > 1:
        targets["later"], weights["later"] = target[:, 1:], weight
    return inputs, targets, weights


@dataclass(frozen=True)
class Examples:
    """What one batch of training examples is drawn from, the same for the same seed and step.

    An example is a window of a sample in one of the formats: 1 to all but one of its frames seen,
    of which the network reads the last `config.history`, and the next `config.ahead` to forecast.
    The window may lie anywhere at least `border` time points from both ends of a sample, may be
    turned and mirrored, and may run backwards.

    Attributes:
        split: a `helpers.records.PackedSplit`.
        formats: the formats, drawn with equal chance.
        config: of the network; its `steps` hold those of the formats.
        batch_size: examples in a batch.
        seed: of all that is drawn.
        border: time points, so that few windows see the empty ends of a sample.
        augment: turn, mirror and reverse.
        weights: of the formats in the loss, by time step; 1 unless told.
        fives: in this share of the examples, 0…1, five frames are seen, as in the thesis's
            rollouts; in the others, each number that the format has is equally likely, before it
            is cut to what the network reads.
    """

    split: object
    formats: Sequence[sequences.FrameFormat]
    config: Any
    batch_size: int
    seed: int = 1
    border: int = 12
    augment: bool = True
    weights: Mapping[int, float] | None = None
    fives: float = 0.0

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Return frames uint8 (B, history + ahead, D, H, W), observed, step, weight, each (B,)."""
        rng = np.random.default_rng([self.seed, step])
        config, size = self.config, self.batch_size
        samples = rng.integers(len(self.split), size=size)
        chosen = rng.integers(len(self.formats), size=size)
        strides = np.array([found.TINC for found in self.formats])[chosen]
        longest = np.array([found.steps - 1 for found in self.formats])[chosen]
        observed = np.minimum(rng.integers(1, longest + 1), config.history)
        if self.fives:
            observed[rng.random(size) < self.fives] = min(ROLLOUT_HISTORY, config.history)
        span = (observed + config.ahead - 1) * strides
        free = np.maximum(self.split.shape[0] - 2 * self.border - span, 1)
        start = self.border + (rng.random(size) * free).astype(int)
        # Frames before the observed ones are read, too, and struck out afterwards.
        places = np.arange(-config.history, config.ahead)
        times = start[:, None] + (observed[:, None] + places) * strides[:, None]
        times = np.clip(times, 0, self.split.shape[0] - 1)
        if self.augment:
            backwards = rng.integers(2, size=size).astype(bool)
            times[backwards] = self.split.shape[0] - 1 - times[backwards]
        frames = self.split.frames(samples, times)
        if self.augment:
            frames = sequences.apply_symmetries(frames, rng.integers(48, size=size))
        weights = np.float32([(self.weights or {}).get(found.TINC, 1) for found in self.formats])
        return frames, observed, strides, weights[chosen]

    def dataset(self, start_step: int = 0) -> tf.data.Dataset:
        """Return batches (inputs, targets, weight) without end, from a step on."""
        first = self.batch(start_step)  # all batches are of the same types and shapes

        def make(step):
            found = tf.numpy_function(
                lambda number: self.batch(int(number)),
                [step],
                [part.dtype for part in first],
                stateful=False,
            )
            for part, known in zip(found, first):
                part.set_shape(known.shape)
            return self.example(*found)

        data = tf.data.Dataset.counter(start_step).map(make, 2, deterministic=True)
        return data.prefetch(4)

    def example(self, *batch) -> tuple[dict, dict, dict]:
        """Split a batch into what `fit` reads."""
        return example(self.config, *batch)


class SeveralForecaster:
    """A network for several frames, in the interface `helpers.rollout.Several`.

    Each network has a class of its own, which says how it is asked.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; the model knows its time step.
        name: how tables and figures call it.
        symmetries: forecast so many turned and mirrored copies of a history and average: 1, 8
            (the mirrorings) or 48 (all symmetries of the cube).
        ahead: take so many frames from each forecast before feeding back; None takes all that
            the model gives, 1 feeds back each frame.
        thresholds: for each frame that the model gives, the probability above which a voxel is
            best called filled, as `best_thresholds` in `helpers.models.shared` finds it; None in
            place of a number is `fitting_threshold`, another one for each forecast. The forecast
            is shifted, so that these become 0.5. No list at all leaves the probabilities as they
            are. They are for what follows observed frames: where the last frame of the history is
            a forecast, each of several frames has its `fitting_threshold`, and is called empty
            only if `FAINT`.
        kept: what the model says is kept here, and the model is not asked again, even if it
            was trained on meanwhile. Forecasters may share it; it grows until it is cleared.
        follower: forecasts each frame after the next one a second time, step by step: from the
            history and the frames before it, as they were forecast so far. The mean of both
            counts. Without thresholds of its own; it may wrap the same model. It is not asked where
            the last frame of the history is a forecast: so far ahead, one decision after another
            would empty the frames.

    Raises:
        TypeError: not a model of this class; the follower is no forecaster.
        ValueError: the model does not know the format's time step; no such number.
    """

    network: type  # what `model` must be

    def __init__(
        self,
        model: keras.Model,
        frame_format: sequences.FrameFormat,
        name: str | None = None,
        *,
        symmetries: int = 1,
        ahead: int | None = None,
        thresholds: Sequence[float | None] | None = None,
        kept: dict | None = None,
        follower: Forecaster | None = None,
    ):
        if not isinstance(model, self.network):
            raise TypeError(
                f"model is {model!r}; expected a {self.network.__name__} from build() or load()."
            )
        config = model.config
        self.model, self.name = model, name or self.network.__name__
        self.step = frame_format.TINC
        if self.step not in config.steps:
            raise ValueError(
                f"{frame_format.name} has time step {self.step}; this model knows "
                f"{', '.join(map(str, config.steps))}."
            )
        if symmetries not in (1, 8, 48):
            raise ValueError(f"symmetries is {symmetries}; choose 1, 8 or 48.")
        self.symmetries = symmetries
        self.ahead = config.ahead if ahead is None else whole("ahead", ahead, 1)
        if self.ahead > config.ahead:
            raise ValueError(f"ahead is {ahead}; this model gives {config.ahead} frames at most.")
        self.thresholds = _checked_thresholds(thresholds, config.ahead)
        self.kept = kept
        if follower is not None and not callable(follower):
            raise TypeError(f"follower is {follower!r}; expected a forecaster or None.")
        if (theirs := getattr(follower, "step", self.step)) != self.step:
            raise ValueError(f"the follower has time step {theirs}; expected {self.step}.")
        self.follower = follower

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32."""
        return self._mean(history, 1)[:, 0]

    def several(self, history) -> np.ndarray:
        """Forecast the next `ahead` frames: (B, T, D, H, W) to (B, ahead, D, H, W), float32.

        Raises:
            ValueError, TypeError: see `helpers.rollout.checked_history`.
        """
        return self._mean(history, self.ahead)

    def _mean(self, history, ahead: int) -> np.ndarray:
        history = checked_history(history, grid=(self.model.config.grid,) * 3)
        mean = self._plain(history, ahead)
        observed = forecasts_at_end(history[:, -1:]) == 0
        if self.follower is not None and ahead > 1:
            self._follow(history, mean, observed)
        return _shifted_each(mean, self.thresholds, observed)

    def _follow(self, history: np.ndarray, mean: np.ndarray, observed: np.ndarray) -> None:
        """Average the frames after the next one, (B, ahead, …), with what the follower says.

        Only where the last frame of the history was `observed`, bool (B,).
        """
        for number in range(1, mean.shape[1] if observed.any() else 1):
            before = _shifted_each(mean[:, [number - 1]], [None])  # a copy
            history = np.concatenate([history, before], axis=1)
            both = (mean[:, number] + self.follower(history)) / 2
            mean[observed, number] = both[observed]

    def _plain(self, history: np.ndarray, ahead: int) -> np.ndarray:
        """Forecast at once, without thresholds: (B, T, D, H, W) to (B, ahead, D, H, W)."""
        config = self.model.config
        history = history[:, -config.history :]
        count, observed = history.shape[:2]
        frames = np.full((count, config.history, *history.shape[2:]), UNKNOWN, np.float32)
        frames[:, -observed:] = history
        mean = np.zeros((count, ahead, *history.shape[2:]), np.float32)
        for index in range(self.symmetries):
            turned = np.ascontiguousarray(sequences.apply_symmetry(frames, index))
            found = self._remembered(turned, observed, ahead)[:, :ahead]
            back = sequences.inverse_symmetry(index)
            mean += sequences.apply_symmetry(found, back) / self.symmetries
        return mean

    def _remembered(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        if self.kept is None:
            return self._probability(frames, observed, ahead)
        known = np.ascontiguousarray(frames[:, -observed:])
        key = (self._networks(), self.step, observed, ahead, hashlib.sha256(known).digest())
        if key not in self.kept:
            self.kept[key] = self._probability(frames, observed, ahead)[:, :ahead].copy()
        return self.kept[key]

    def _networks(self) -> tuple:
        """Return all networks that take part in a forecast."""
        return (self.model,)

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        """Ask the network: frames (B, `history`, D, H, W) to at least (B, `ahead`, D, H, W)."""
        raise NotImplementedError


class Together:
    """The mean of what several forecasters say; see `helpers.rollout.Several`.

    Networks that are built differently err differently, and part of that goes out of the mean.

    Attributes:
        forecasters: without thresholds of their own, which would shift what is averaged.
        name: how tables and figures call it.
        ahead: so many frames at once, as many as all of them give.
        thresholds: of the mean, see `helpers.models.patchnet.forecaster`.
        shares: of each forecaster in the mean, one tuple for each frame ahead, each with sum 1;
            None gives all the same.

    Raises:
        ValueError: no forecasters; wrong thresholds or shares.
    """

    def __init__(
        self,
        forecasters: Sequence[SeveralForecaster],
        name: str = "mean",
        thresholds: Sequence[float | None] | None = None,
        shares: Sequence[Sequence[float]] | None = None,
    ):
        if not forecasters:
            raise ValueError("forecasters is empty; expected at least one.")
        self.forecasters, self.name = tuple(forecasters), name
        self.ahead = min(each.ahead for each in self.forecasters)
        self.thresholds = _checked_thresholds(thresholds, self.ahead)
        if shares is None:
            shares = np.full((self.ahead, len(forecasters)), 1 / len(forecasters))
        self.shares = np.asarray(shares, np.float32)
        wanted = (self.ahead, len(forecasters))
        if self.shares.shape != wanted or not (
            (self.shares >= 0).all() and np.allclose(self.shares.sum(axis=1), 1)
        ):
            raise ValueError(
                f"shares is {shares}; expected for each of {wanted[0]} frames {wanted[1]} numbers "
                "from 0 on with sum 1."
            )

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32."""
        found = [each(history)[:, np.newaxis] for each in self.forecasters]
        return self._mean(history, found)[:, 0]

    def several(self, history) -> np.ndarray:
        """Forecast the next `ahead` frames: (B, T, D, H, W) to (B, ahead, D, H, W), float32."""
        found = [each.several(history)[:, : self.ahead] for each in self.forecasters]
        return self._mean(history, found)

    def _mean(self, history, found) -> np.ndarray:
        shares = self.shares[: found[0].shape[1], :, None, None, None]
        mean = sum(shares[:, number] * each for number, each in enumerate(found))
        return _shifted_each(mean, self.thresholds, forecasts_at_end(history[:, -1:]) == 0)


def forecasts_at_end(history: np.ndarray) -> np.ndarray:
    """Count the frames since the last one of 0 and 1 alone, which was observed: (B, T, …) to (B,).

    What is fed back holds probabilities in between. Binary feedback passes for observed frames, and
    so does a forecast that is sure of every voxel.
    """
    axes = tuple(range(2, history.ndim))
    observed = ((history == 0) | (history == 1)).all(axis=axes)
    return np.where(observed.any(1), observed[:, ::-1].argmax(1), observed.shape[1])


def _checked_thresholds(thresholds, ahead: int) -> tuple[float | None, ...] | None:
    if thresholds is None:
        return None
    found = np.asarray([0.5 if each is None else each for each in thresholds], np.float32)
    if found.shape != (ahead,) or not ((0 < found) & (found < 1)).all():
        raise ValueError(f"thresholds is {thresholds}; expected {ahead} numbers between 0 and 1.")
    return tuple(thresholds)


def _shifted_each(mean: np.ndarray, thresholds, observed: np.ndarray | None = None) -> np.ndarray:
    """Shift the frames of a forecast (B, K, D, H, W), each by its threshold.

    Several frames of a history that ends with a forecast, where `observed` (B,) is False, each
    have a threshold of their own.
    """
    mean = np.clip(mean, 0, 1)  # where rounding took it beyond
    count = mean.shape[1]
    far = np.zeros(len(mean), bool) if observed is None or count == 1 else ~observed
    for number, threshold in enumerate((thresholds or ())[:count]):
        frame = mean[:, number]
        if threshold is None:
            threshold = fitting_threshold(frame)
        threshold = np.broadcast_to(np.float32(threshold), len(mean)).copy()
        if far.any():
            threshold[far] = fitting_threshold(frame[far], FAINT)
        mean[:, number] = shifted(frame, threshold[:, None, None, None])
    return mean


def shifted(probability: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Shift the odds of a probability so that `threshold` becomes 0.5; 0 and 1 stay."""
    # p (1 - q) / (p (1 - q) + (1 - p) q), with q the threshold: the odds divided by q's odds.
    yes, no = probability * (1 - threshold), (1 - probability) * threshold
    return yes / np.maximum(yes + no, np.finfo(np.float32).tiny)


def fitting_threshold(probability: np.ndarray, empty: float = 0.5) -> np.ndarray:
    """Return the threshold that suits each frame, from its own forecast: (…, D, H, W) to (…).

    Let voxels be called filled in the order of falling probability, and divide the expected
    intersection with the truth by the expected union. Where this is largest, at J, the last voxel
    had at least J / (1 + J), and the next one has at most that: the threshold (S. Nowozin, 2014).
    Where no voxel reaches the probability `empty`, 1/2 at most, it is 1/2: the frame is called
    empty. By the expected ratio that is never best; but it does not count that the true frame
    may be empty, where every filled voxel makes the distance 1.
    """
    shape = probability.shape[: -len(metrics.FRAME_AXES)]
    falling = -np.sort(-probability.reshape(*shape, -1).astype(np.float64), axis=-1)
    intersection = np.cumsum(falling, axis=-1)
    taken = np.arange(1, falling.shape[-1] + 1)
    index = (intersection / (taken + intersection[..., -1:] - intersection)).max(axis=-1)
    return np.where(falling[..., 0] < empty, 0.5, index / (1 + index)).astype(np.float32)


def best_thresholds(truth: np.ndarray, probability: np.ndarray, **options) -> list[float | None]:
    """Find the threshold of each step ahead: two arrays (N, K, D, H, W) to K thresholds.

    Args: see `best_threshold`, whose `axes` are counted without the axis K.
    """
    steps = range(truth.shape[1])
    return [best_threshold(truth[:, k], probability[:, k], **options)[0] for k in steps]


def best_threshold(
    truth: np.ndarray,
    probability: np.ndarray,
    choices: Sequence[float] = tuple(np.arange(4, 25) / 40),
    axes: tuple[int, ...] = metrics.FRAME_AXES,
    fitting: bool = False,
) -> tuple[float | None, float]:
    """Find the threshold with the smallest mean Jaccard distance, and that distance.

    A voxel is worth calling filled where its probability is above J / (1 + J), with J the Jaccard
    index that can be reached: the harder the forecast, the lower the threshold.

    Args:
        truth: (N, …, D, H, W), 0 or 1.
        probability: of the same shape.
        choices: thresholds to try, 0.1 to 0.6 unless told.
        axes: what one distance is over.
        fitting: try `fitting_threshold`, too; where it is better, None stands for it.
    """
    means = [
        metrics.jaccard_distance(truth, probability, axes=axes, threshold=float(q)).mean()
        for q in choices
    ]
    best, least = round(float(choices[int(np.argmin(means))]), 3), float(min(means))
    if fitting:
        own = fitting_threshold(probability)[..., None, None, None]
        mean = float(metrics.jaccard_distance(truth, probability >= own, axes=axes).mean())
        if mean < least:
            best, least = None, mean
    return best, least
