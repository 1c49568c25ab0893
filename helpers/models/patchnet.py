"""Beyond the thesis: a network without memory that reads the whole history at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, sequences, training
from helpers._checks import configuration, field
from helpers.models import shared
from helpers.models.shared import Mix, Pointwise, to_patches, to_voxels
from helpers.models.weights import load_model
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402


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
        TypeError, ValueError: one of them breaks the rules above.
    """

    history: int = field(19, least=1, most=20, whole=True)
    ahead: int = field(5, least=1, whole=True)
    steps: tuple[int, ...] = field((1, 2, 4), least=1, whole=True, several=True)
    channels: int = field(16, least=1, whole=True)
    hidden: int = field(32, least=1, whole=True)
    flip_times: bool = field(True, choices=(True, False))
    patch: int = field(2, least=1, whole=True)
    width: int = field(128, least=4, whole=True)
    blocks: int = field(8, least=0, whole=True)
    normalise: bool = field(True, choices=(True, False))
    residual: float = field(4.0, above=0)
    grid: int = field(16, least=1, whole=True)

    def __post_init__(self):
        configuration(self)
        shared.check_steps(self)
        if self.grid % self.patch:
            raise ValueError(
                f"patch is {self.patch}, grid is {self.grid}; patches must fill the grid."
            )


def shipped() -> Config:
    """The network of the shipped weights: one for the three formats."""
    return Config()


def workshop() -> Config:
    """A network that learns something in a minute on two CPU cores."""
    return Config(history=8, ahead=1, width=64, blocks=3)


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
        past = shared.past_bits(frames)[:, None]
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


class PatchNet(keras.Model):
    """The network as a Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `frames` (B, `history`, D, H, W), `observed` (B,), how many of the
    last frames are real, and `step` (B,), their TINC, it returns a mapping of probabilities:
    `next` (B, 1, D, H, W), the frame after the last one, and, if the configuration looks further
    `ahead`, `later` (B, `ahead` - 1, D, H, W), those after it.
    """

    def __init__(self, config: Config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.past = Past(config.flip_times)
        self.read = Pointwise(config.hidden, name="read")
        self.told = Pointwise(config.hidden, name="told", use_bias=False)
        self.keep = Pointwise(config.channels, name="keep", activation="silu")
        self.widen = Pointwise(config.width, name="widen")
        self.mixes = [Mix(config.width, name=f"mix_{number}") for number in range(config.blocks)]
        self.norms = [
            keras.layers.RMSNormalization(name=f"norm_{number}")
            for number in range(config.blocks if config.normalise else 0)
        ]
        self.narrow = Pointwise(config.channels * config.patch**3, name="narrow")
        self.head = Pointwise(config.ahead, name="head", kernel_initializer="zeros")
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


def build(config: Config) -> PatchNet:
    """Return an untrained model of this configuration, its weights made."""
    model = PatchNet(config, name="patchnet")
    model.build()
    return model


def _count_bits(number):
    """Return how many bits of int32 numbers are 1: uint8 of the same shape."""
    return tf.raw_ops.PopulationCount(x=number)


FORMAT_WEIGHTS = {1: 2.0, 2: 1.4, 4: 1.0}  # in the loss, by time step


def batches(
    split,
    formats: Sequence[sequences.FrameFormat],
    config: Config,
    plan: training.Plan,
    *,
    format_weights: Mapping[int, float] = FORMAT_WEIGHTS,
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on, of windows.

    Args:
        split: a `helpers.records.PackedSplit`.
        formats: drawn at random; their TINC are among `config.steps`.
        config: of the model.
        plan: of the training: batch size and seed.
        format_weights: of each format in the loss, by its time step.
    """
    options = {"seed": plan.seed, "weights": format_weights}
    return shared.Examples(split, formats, config, plan.batch_size, **options).dataset


def validation(
    split,
    formats: Sequence[sequences.FrameFormat],
    config: Config,
    count: int = 64,
    **drawn,
) -> tf.data.Dataset:
    """Return pairs of the first `count` samples in each format, histories of all lengths.

    Each counts as much as any other: what `batches` are `drawn` with plays no role.
    """
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
        lambda frames, observed, step: shared.example(
            config, frames, observed, step, tf.ones(tf.shape(step), tf.float32)
        )
    )


def from_windows(config: Config, frame_format: sequences.FrameFormat, history, target) -> tuple:
    """Turn a batch of `Windows`, (B, T, D, H, W, 1) and (B, D, H, W, 1), into what `fit` reads."""
    frames = tf.concat([history, target[:, tf.newaxis]], axis=1)[..., 0]
    count = tf.shape(frames)[:1]
    told = (config.history, frame_format.TINC)
    observed, step = (tf.fill(count, tf.constant(number, tf.int64)) for number in told)
    return shared.example(config, frames, observed, step, tf.ones(count))


def compile_options(
    config: Config,
    plan: training.Plan,
    *,
    jaccard_weight: float = 0.05,
    later_weight: float = 0.5,
) -> dict:
    """Return optimizer, losses and metric for `model.compile`.

    Args:
        config: of the model.
        plan: of the training.
        jaccard_weight: of the soft Jaccard distance in the loss.
        later_weight: of the loss of the frames after the next one.
    """
    parts = shared.outputs(config)
    return {
        "optimizer": plan.optimizer(),
        "loss": {part: training.voxel_loss(jaccard_weight) for part in parts},
        "loss_weights": dict(zip(parts, (1.0, later_weight))),
        "metrics": {"next": [metrics.keras_jaccard("per_frame")]},
    }


def monitor(config: Config) -> str:
    """Return by which figure of validation the best weights are chosen."""
    # Keras leaves out the name of an output that is the only one.
    return f"val_{'next_' * (config.ahead > 1)}jaccard_per_frame"


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
    """Return the model of shipped weights; see `helpers.models.weights.load_model`."""
    return load_model(path, Config, build, "PatchNet")


class PatchForecaster(shared.SeveralForecaster):
    """A `PatchNet` in the interface of all forecasters; see `helpers.rollout.Several`."""

    network = PatchNet

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        count = len(frames)
        found = self.model.compiled_forecast(
            tf.constant(frames), tf.fill([count], observed), tf.fill([count], self.step)
        )
        return found.numpy()


forecaster = PatchForecaster  # the same name in the module of each model
