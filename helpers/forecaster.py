"""Beyond the thesis: a network without memory that reads the whole history at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, sequences, training
from helpers._checks import whole
from helpers.convlstm import Mix, Pointwise, to_patches, to_voxels
from helpers.rollout import Forecaster, checked_history
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

ROLLOUT_HISTORY = 5  # frames, as in the thesis
UNKNOWN = 0.5  # what stands for a frame that was not observed
FAINT = 0.3  # after forecasts, a frame whose voxels are all less likely filled is called empty


def check_steps(config) -> None:
    """Check the field `steps` of a frozen dataclass and keep it as a tuple.

    Raises:
        TypeError: it is no tuple or list, is empty, or holds something other than whole numbers.
        ValueError: a number below 1, or one that is there twice.
    """
    if not isinstance(config.steps, (tuple, list)) or not config.steps:
        raise TypeError(f"steps is {config.steps!r}; expected a tuple such as (1, 2, 4).")
    object.__setattr__(config, "steps", tuple(whole("steps", step, 1) for step in config.steps))
    if len(set(config.steps)) < len(config.steps):
        raise ValueError(f"steps is {config.steps}; expected each time step once.")


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network: `shipped()` and `workshop()` are two of them.

    Each voxel first looks at its own past: `history` frames become channels, with the times of
    its last flips beside them, and a small network reads them. Then patches of `patch`³ voxels
    become the channels of a coarser grid, where `blocks` residual blocks let neighbours talk.
    Back at voxels, one logit for each step ahead is added to ± `residual` of the last frame.

    Attributes:
        history: the network reads so many of the latest frames, 1…20.
        ahead: so many frames are forecast at once, at least 1.
        steps: the time steps (TINC) that it knows; it is told which one a history has.
        channels: of each voxel, on its way to and from the patches.
        hidden: channels of the network that reads the past of a voxel.
        flip_times: give that network the times of the last two flips, too.
        patch: voxels along the edge of a patch; divides `grid`.
        width: channels of the residual blocks.
        blocks: how many residual blocks.
        normalise: scale the channels of each patch to mean square 1 before each block reads them.
        residual: the logits start from ± this value, so that an untrained network is persistence.
        grid: voxels along the edge of a frame.

    Raises:
        TypeError: one of them is of another type.
        ValueError: one of them breaks the rules above.
    """

    history: int = 19
    ahead: int = 5
    steps: tuple[int, ...] = (1, 2, 4)
    channels: int = 16
    hidden: int = 32
    flip_times: bool = True
    patch: int = 2
    width: int = 128
    blocks: int = 8
    normalise: bool = True
    residual: float = 4.0
    grid: int = 16

    def __post_init__(self):
        lowest = {"history": 1, "ahead": 1, "channels": 1, "hidden": 1, "patch": 1, "width": 4}
        for name, least in (lowest | {"blocks": 0, "grid": 1}).items():
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if self.history > 20:
            raise ValueError(f"history is {self.history}; expected 20 frames at most.")
        check_steps(self)
        if self.grid % self.patch:
            raise ValueError(
                f"patch is {self.patch}, grid is {self.grid}; patches must fill the grid."
            )
        for name in ("flip_times", "normalise"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        training.check_number(self, "residual", "above 0", lambda value: 0 < value < math.inf)

    def as_dict(self) -> dict:
        """Return the configuration as plain values, for JSON; `Config(**values)` reads it."""
        return asdict(self)


def shipped() -> Config:
    """The network of the shipped weights: one for the three formats."""
    return Config()


def workshop() -> Config:
    """A network that learns something in a minute on two CPU cores."""
    return Config(history=8, ahead=1, width=64, blocks=3)


@keras.saving.register_keras_serializable("forecasting_4d")
class Past(keras.layers.Layer):
    """Turn the past of each voxel into channels: frames, and when it flipped.

    Called with frames (B, T, D, H, W), 0…1, of which the last `observed` (B,) are real and the
    others `UNKNOWN`, it returns (B, D, H, W, C): the T frames as -1…1, 0 where unknown; then, if
    `flip_times` and T > 1, the share of the T - 1 steps at which the voxel flipped, and for the
    last flip and the one before it: whether there was one, its age a in frames as a / T, and 1 / a.
    """

    def __init__(self, flip_times: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.flip_times = flip_times

    def call(self, frames, observed):
        """See the class."""
        shown, count = 2 * frames - 1, frames.shape[1]
        if self.flip_times and count > 1:
            shown = ops.concatenate([shown, *self._flips(frames, observed)], axis=1)
        return ops.transpose(shown, (0, 2, 3, 4, 1))

    def _flips(self, frames, observed):
        """Return what is told of the flips, seven numbers for each voxel: (B, 1, D, H, W) each."""
        count = frames.shape[1]
        past = past_bits(frames)[:, None]
        # Bit a is 1 where the voxel flipped a + 1 frames before what is forecast, and we saw it.
        seen = ops.left_shift(1, ops.maximum(ops.cast(observed, "int32") - 1, 0)) - 1
        flips = (past ^ ops.right_shift(past, 1)) & seen[:, None, None, None, None]
        last = flips & -flips  # the lowest bit
        before = flips ^ last
        before = before & -before

        def as_number(bits):
            return ops.cast(bits, self.compute_dtype)

        found = [as_number(_count_bits(flips)) / (count - 1)]
        for flip in (last, before):
            there = as_number(flip > 0)
            age = as_number(_count_bits(flip - 1) + 1)
            found += [there, there * age / count, there / age]
        return found

    def compute_output_shape(self, frames_shape, observed_shape=None):
        """Return (B, D, H, W, C)."""
        count = frames_shape[1]
        extra = 7 if self.flip_times and count > 1 else 0
        return (frames_shape[0], *frames_shape[2:], count + extra)

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"flip_times": self.flip_times}


@keras.saving.register_keras_serializable("forecasting_4d")
class PatchNet(keras.Model):
    """The network as a Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `frames` (B, `history`, D, H, W), `observed` (B,), how many of the
    last frames are real, and `step` (B,), their TINC, it returns a mapping of probabilities:
    `next` (B, 1, D, H, W), the frame after the last one, and, if the configuration looks further
    `ahead`, `later` (B, `ahead` - 1, D, H, W), those after it.
    """

    def __init__(self, config: Config | dict, **kwargs):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, Config) else Config(**config)
        config, policy = self.config, self.dtype_policy

        def dense(units, name, **options):
            return Pointwise(units, name=name, dtype=policy, **options)

        self.past = Past(config.flip_times, dtype=policy)
        self.read = dense(config.hidden, "read")
        self.told = dense(config.hidden, "told", use_bias=False)
        self.keep = dense(config.channels, "keep", activation="silu")
        self.widen = dense(config.width, "widen")
        self.mixes = [
            Mix(config.width, name=f"mix_{number}", dtype=policy) for number in range(config.blocks)
        ]
        self.norms = [
            keras.layers.RMSNormalization(name=f"norm_{number}", dtype=policy)
            for number in range(config.blocks if config.normalise else 0)
        ]
        self.narrow = dense(config.channels * config.patch**3, "narrow")
        self.head = dense(config.ahead, "head", kernel_initializer="zeros")
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        grid = [config.grid] * 3
        self.compiled_forecast = tf.function(
            lambda frames, observed, step: ops.sigmoid(
                self.logits({"frames": frames, "observed": observed, "step": step})
            ),
            input_signature=[
                tf.TensorSpec((None, config.history, *grid), tf.float32),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def build(self, shape=None):
        """Make every weight; the shape of the input plays no role but in its grid."""
        config = self.config
        edge = config.grid // config.patch
        voxels, patches = (None, *[config.grid] * 3), (None, *[edge] * 3)
        frames = (None, config.history, *[config.grid] * 3)
        self.read.build(self.past.compute_output_shape(frames))
        self.told.build((None, len(config.steps) + 1))
        self.keep.build((*voxels, config.hidden))
        self.widen.build((*patches, config.channels * config.patch**3))
        for layer in (*self.mixes, *self.norms):
            layer.build((*patches, config.width))
        self.narrow.build((*patches, config.width))
        self.head.build((*voxels, config.channels))
        self.built = True

    def call(self, inputs):
        """See the class."""
        probability = ops.sigmoid(self.logits(inputs))
        outputs = {"next": probability[:, :1]}
        if self.config.ahead > 1:
            outputs["later"] = probability[:, 1:]
        return outputs

    def logits(self, inputs):
        """Return float32 (B, `ahead`, D, H, W); see the class."""
        config = self.config
        frames, observed, step = inputs["frames"], inputs["observed"], inputs["step"]
        frames = ops.cast(frames, self.compute_dtype)
        known = ops.cast(step[:, None] == np.array(config.steps), self.compute_dtype)
        share = ops.cast(observed, self.compute_dtype)[:, None] / config.history
        told = self.told(ops.concatenate([known, share], axis=-1))[:, None, None, None, :]
        voxels = self.keep(ops.silu(self.read(self.past(frames, observed)) + told))
        patches = self.widen(to_patches(voxels, config.patch))
        for number, mix in enumerate(self.mixes):
            # Only what a block reads is normalised; the direct way is left as it is.
            patches = patches + mix.added(patches, self.norms[number] if self.norms else None)
        changed = self.head(ops.silu(voxels + to_voxels(self.narrow(patches), config.patch)))
        # Probabilities need float32, also where the rest is computed in half precision. The
        # farther ahead, the less the last frame says.
        weights = (config.residual / np.sqrt(1.0 + np.arange(config.ahead))).astype("float32")
        last = 2 * ops.cast(frames[:, -1:], "float32") - 1
        changed = ops.transpose(ops.cast(changed, "float32"), (0, 4, 1, 2, 3))
        return changed + last * weights[:, None, None, None]

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"config": self.config.as_dict()}


def build(config: Config) -> PatchNet:
    """Return an untrained model of this configuration, its weights made."""
    model = PatchNet(config, name="patchnet")
    model.build()
    return model


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
        weights: of the formats in the loss, or None for equal ones.
        fives: in this share of the examples, 0…1, five frames are seen, as in the thesis's
            rollouts; in the others, each number that the format has is equally likely, before it
            is cut to what the network reads.
    """

    split: object
    formats: Sequence[sequences.FrameFormat]
    config: Config
    batch_size: int
    seed: int = 1
    border: int = 12
    augment: bool = True
    weights: Sequence[float] | None = None
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
        weights = np.ones(len(self.formats)) if self.weights is None else np.array(self.weights)
        return frames, observed, strides, weights[chosen].astype(np.float32)

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


def past_bits(frames):
    """Return the past of each voxel as one number: (B, T, D, H, W) to int32 (B, D, H, W).

    Bit a is 1 where the voxel was filled a frames before the last one. T is at most 31.
    """
    value = (1 << np.arange(frames.shape[1] - 1, -1, -1)).astype("int32")
    filled = ops.cast(frames > UNKNOWN, "int32")
    # Whole numbers, which no lower precision can round.
    return ops.sum(filled * value[:, None, None, None], axis=1)


def _count_bits(number):
    """Return how many bits of int32 numbers are 1: uint8 of the same shape."""
    return tf.raw_ops.PopulationCount(x=number)


def hide(frames, observed):
    """Put `UNKNOWN` in the place of the frames before the last `observed` (B,).

    Args, returns: float frames (B, T, D, H, W).
    """
    age = tf.range(frames.shape[1], 0, -1, dtype=observed.dtype)
    return tf.where((age <= observed[:, None])[:, :, None, None, None], frames, UNKNOWN)


def example(config: Config, frames, observed, step, weight) -> tuple[dict, dict, dict]:
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


def validation(
    split, formats: Sequence[sequences.FrameFormat], config: Config, count: int = 64
) -> tf.data.Dataset:
    """Return pairs of the first `count` samples in each format, histories of all lengths."""
    frames = split.frames(np.arange(min(count, len(split))))
    parts = []
    for found in formats:
        chosen = found.select(frames)
        # One history for each sample, 1, 2, … frames long in turn.
        observed = 1 + np.arange(len(chosen)) % (found.steps - 1)
        where = observed[:, None] + np.arange(-config.history, config.ahead)
        times = np.clip(found.times[0] + where * found.TINC, 0, found.time_points - 1)
        windows = np.take_along_axis(frames, times[:, :, None, None, None], axis=1)
        parts.append((windows, observed, np.full(len(chosen), found.TINC)))
    windows, observed, step = (np.concatenate(part) for part in zip(*parts))
    data = tf.data.Dataset.from_tensor_slices(
        (windows, observed.astype(np.int64), step.astype(np.int64))
    ).batch(32)
    return data.map(
        lambda frames, observed, step: example(
            config, frames, observed, step, tf.ones(tf.shape(step), tf.float32)
        )
    )


def multiply_adds(config: Config) -> int:
    """Return how many multiplications, each with an addition, one forecast costs.

    All frames ahead are one forecast; what is told of the time step and the last sum are left out.
    """
    voxels, volume = config.grid**3, config.patch**3
    patches = voxels // volume
    *_, seen = Past(config.flip_times).compute_output_shape((1, config.history, 1, 1, 1))
    inner, block = max(config.width // 4, 1), volume * config.channels * config.width
    each_voxel = (
        seen * config.hidden + config.hidden * config.channels + config.channels * config.ahead
    )
    each_patch = 2 * block + config.blocks * (2 * config.width * inner + 27 * inner**2)
    return voxels * each_voxel + patches * each_patch


def load(path: str | Path) -> PatchNet:
    """Return the model of shipped weights: `NAME.npz` with its record `NAME.json` beside it.

    Raises:
        FileNotFoundError, helpers.training.CheckpointError: see `helpers.training.load_model`.
    """
    return training.load_model(path, Config, build, "forecaster")


def forecaster(
    model: PatchNet,
    frame_format: sequences.FrameFormat,
    name: str = "PatchNet",
    *,
    symmetries: int = 1,
    ahead: int | None = None,
    thresholds: Sequence[float | None] | None = None,
    memory: dict | None = None,
    follower: Forecaster | None = None,
) -> PatchForecaster:
    """Wrap a model so that `rollout` and `evaluation` can use it.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; the model knows its time step.
        name: how tables and figures call it.
        symmetries: forecast so many turned and mirrored copies of a history and average: 1, 8
            (the mirrorings) or 48 (all symmetries of the cube).
        ahead: take so many frames from each forecast before feeding back; None takes all that
            the model gives, 1 feeds back each frame.
        thresholds: for each frame that the model gives, the probability above which a voxel is
            best called filled, as `best_thresholds` finds it; None in place of a number is
            `fitting_threshold`, another one for each forecast. The forecast is shifted, so that
            these become 0.5. No list at all leaves the probabilities as they are. They are for
            what follows observed frames: where the last frame of the history is a forecast, each
            of several frames has its `fitting_threshold`, and is called empty only if `FAINT`.
        memory: what the model says is kept here, and the model is not asked again, even if it
            was trained on meanwhile. Forecasters may share it; it grows until it is cleared.
        follower: forecasts each frame after the next one a second time, step by step: from the
            history and the frames before it, as they were forecast so far. The mean of both
            counts. Without thresholds of its own; it may wrap the same model. It is not asked where
            the last frame of the history is a forecast: so far ahead, one decision after another
            would empty the frames.

    Raises:
        TypeError: not a `PatchNet`; the follower is no forecaster.
        ValueError: the model does not know the format's time step; no such number.
    """
    options = (symmetries, ahead, thresholds, memory, follower)
    return PatchForecaster(model, frame_format, name, *options)


class PatchForecaster:
    """A model in the interface of all forecasters; see `helpers.rollout.Several`.

    Attributes:
        name: how tables and figures call it.
        model: the Keras model.
        step, symmetries, ahead, thresholds, memory, follower: see `forecaster`.
    """

    network = PatchNet  # what `model` must be

    def __init__(
        self, model, frame_format, name, symmetries, ahead, thresholds, memory=None, follower=None
    ):
        if not isinstance(model, self.network):
            raise TypeError(
                f"model is {model!r}; expected a {self.network.__name__} from build() or load()."
            )
        config = model.config
        self.model, self.name, self.step = model, name, frame_format.TINC
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
        self.memory = memory
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
        if self.memory is None:
            return self._probability(frames, observed, ahead)
        known = np.ascontiguousarray(frames[:, -observed:])
        key = (self._networks(), self.step, observed, ahead, hashlib.sha256(known).digest())
        if key not in self.memory:
            self.memory[key] = self._probability(frames, observed, ahead)[:, :ahead].copy()
        return self.memory[key]

    def _networks(self) -> tuple:
        """Return all networks that take part in a forecast."""
        return (self.model,)

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        count = len(frames)
        found = self.model.compiled_forecast(
            tf.constant(frames), tf.fill([count], observed), tf.fill([count], self.step)
        )
        return found.numpy()


class Together:
    """The mean of what several forecasters say; see `helpers.rollout.Several`.

    Networks that are built differently err differently, and part of that goes out of the mean.

    Attributes:
        forecasters: without thresholds of their own, which would shift what is averaged.
        name: how tables and figures call it.
        ahead: so many frames at once, as many as all of them give.
        thresholds: of the mean, see `forecaster`.
        shares: of each forecaster in the mean, one tuple for each frame ahead, each with sum 1;
            None gives all the same.

    Raises:
        ValueError: no forecasters; wrong thresholds or shares.
    """

    def __init__(
        self,
        forecasters: Sequence[PatchForecaster],
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
