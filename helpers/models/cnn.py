"""Beyond the thesis: a convolutional network that reads the whole history at once.

Plain Keras layers on arrays that NumPy makes, so it trains with every backend of Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, training, workshop
from helpers._checks import configuration, field
from helpers.models import shared
from helpers.models.weights import load_model
from helpers.sequences import FrameFormat

keras = workshop.keras()
from keras import layers, ops  # noqa: E402  (after Keras has its backend)

READ, KEPT = 32, 16  # channels of a voxel: while its past is read, and on the way to its patch


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network: `plain()`, `small()` and `shipped()` are three of them.

    Attributes:
        history: the network reads so many of the latest frames, 1…20.
        ahead: so many frames are forecast at once, at least 1.
        steps: the time steps (TINC) that it knows; it is told which one a history has.
        flip_times: tell it, too, when each voxel flipped.
        patch: voxels along the edge of a patch, which the blocks see as one; divides `grid`.
        width: channels of the patches.
        blocks: how many residual blocks; 0 stacks three convolutions on voxels instead.
        kernel: edge of the kernels through which neighbours are seen.
        residual: the logits start from ± this value, so that an untrained network is persistence;
            0 starts from nothing.
        noise: so many channels are read beside those of `inputs`, for a WGAN-GP.
        grid: voxels along the edge of a frame.
    """

    history: int = field(19, least=1, most=20, whole=True)
    ahead: int = field(5, least=1, whole=True)
    steps: tuple[int, ...] = field((1, 2, 4), least=1, whole=True, several=True)
    flip_times: bool = field(True, choices=(True, False))
    patch: int = field(2, least=1, whole=True)
    width: int = field(128, least=4, whole=True)
    blocks: int = field(8, least=0, whole=True)
    kernel: int = field(3, least=1, whole=True, odd=True)
    residual: float = field(4.0, least=0)
    noise: int = field(0, least=0, whole=True)
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


def small() -> Config:
    """A network that learns something in a minute on two CPU cores."""
    return Config(history=8, ahead=1, width=64, blocks=3)


def plain() -> Config:
    """Three convolutions on voxels: the least that forecasts better than persistence."""
    return Config(history=3, patch=1, width=16, blocks=0)


def channels(config: Config) -> int:
    """Return how many channels `inputs` makes."""
    return config.history + 7 * config.flip_times + len(config.steps) + 1


def inputs(config: Config, frames: np.ndarray, observed, step) -> np.ndarray:
    """Return what the network reads, float32 (B, D, H, W, C).

    The channels: each frame as -1…1, 0 where it was not observed. If `flip_times`, the share of the
    steps at which the voxel flipped, and for the last flip and the one before it: whether there
    was one, its age a in frames as a / T, and 1 / a. At the end, the same in all voxels: 1 for the
    time step that it is, 0 for each other one, and the share of the frames that was observed.

    Args:
        frames: (B, T, D, H, W), 0…1, T the `history` of the configuration.
        observed: (B,), so many of the last frames count; what the others hold plays no role.
        step: (B,), their TINC.
    """
    count, observed, step = frames.shape[1], np.asarray(observed), np.asarray(step)
    there = np.arange(count, 0, -1) <= observed[:, None]
    found = [np.where(there[:, :, None, None, None], 2 * frames.astype(np.float32) - 1, 0)]
    if config.flip_times:
        # The past of a voxel as one number: bit a says if it was filled a frames before the last.
        past = np.zeros((len(frames), *frames.shape[2:]), np.int32)
        for time in range(count):
            past = past << 1 | (frames[:, time] > 0.5)
        # Bit a is 1 where the voxel flipped a + 1 frames before what is forecast, and we saw it.
        seen = (1 << np.maximum(observed - 1, 0)) - 1
        flips = (past ^ past >> 1) & seen[:, None, None, None]
        last = flips & -flips  # the lowest bit
        before = (flips ^ last) & -(flips ^ last)
        told = [np.bitwise_count(flips) / max(count - 1, 1)]
        for flip in (last, before):
            age = np.frexp(flip)[1]  # 0 where there was none
            told += [flip > 0, age / count, np.where(flip > 0, 1 / np.maximum(age, 1), 0)]
        found.append(np.stack(told, axis=1))
    known = [step == each for each in config.steps] + [observed / config.history]
    known = np.stack(known, axis=1)[:, :, None, None, None]
    found.append(np.broadcast_to(known, (*known.shape[:2], *frames.shape[2:])))
    return np.moveaxis(np.concatenate(found, axis=1, dtype=np.float32), 1, -1)


def build(config: Config) -> keras.Model:
    """Return an untrained model of this configuration.

    It maps `past` (B, D, H, W, C), see `inputs`, to probabilities: `next` (B, 1, D, H, W), the
    frame after the last one, and, if the configuration looks further `ahead`, `later`
    (B, `ahead` - 1, D, H, W), those after it.
    """
    past = layers.Input(((config.grid,) * 3) + (channels(config) + config.noise,), name="past")
    change = (_blocks if config.blocks else _convolutions)(config, past)
    # Probabilities need float32, also where the rest is computed in half precision. The farther
    # ahead, the less the last frame says.
    change = ops.moveaxis(ops.cast(change, "float32"), -1, 1)
    trust = config.residual / np.sqrt(1.0 + np.arange(config.ahead, dtype=np.float32))
    last = ops.cast(past[..., config.history - 1], "float32")[:, None]
    probability = ops.sigmoid(change + last * trust[:, None, None, None])
    outputs = {"next": probability[:, :1]}
    if config.ahead > 1:
        outputs["later"] = probability[:, 1:]
    model = keras.Model({"past": past}, outputs, name="cnn")
    model.config = config
    model.jit_compile = False  # XLA takes long to begin, on a processor longer than it saves
    return model


def _convolutions(config: Config, past):
    """Three convolutions on voxels: (B, D, H, W, C) to (B, D, H, W, `ahead`)."""
    options = {"kernel_size": config.kernel, "padding": "same"}
    x = layers.Conv3D(config.width, activation="relu", name="first", **options)(past)
    x = layers.Conv3D(config.width, activation="relu", name="second", **options)(x)
    return layers.Conv3D(config.ahead, name="head", kernel_initializer="zeros", **options)(x)


def _blocks(config: Config, past):
    """Residual blocks on patches: (B, D, H, W, C) to (B, D, H, W, `ahead`)."""
    width, inner, size = config.width, max(config.width // 4, 1), config.patch
    # Each voxel looks at its own past …
    voxels = layers.Dense(READ, "silu", name="read")(past)
    voxels = layers.Dense(KEPT, "silu", name="keep")(voxels)
    # … patches of voxels become one, and look at their neighbours …
    x = layers.Conv3D(width, size, strides=size, name="to_patches")(voxels)
    for number in range(config.blocks):
        y = layers.RMSNormalization(name=f"norm_{number}")(x)
        y = layers.Dense(inner, "silu", name=f"down_{number}")(y)
        mix = layers.Conv3D(inner, config.kernel, padding="same", name=f"mix_{number}")
        y = layers.Dense(width, name=f"up_{number}")(ops.silu(mix(y)))
        x = x + y
    # … and what they found goes back to the voxels.
    x = layers.Conv3DTranspose(KEPT, size, strides=size, name="to_voxels")(x)
    return layers.Dense(config.ahead, name="head", kernel_initializer="zeros")(ops.silu(voxels + x))


def multiply_adds(config: Config) -> int:
    """Return how many multiplications, each with an addition, one forecast costs.

    All frames ahead are one forecast. Activations, norms and sums are left out.
    """
    voxels, read = config.grid**3, channels(config) + config.noise
    width, volume = config.width, config.kernel**3
    if not config.blocks:
        return voxels * volume * width * (read + width + config.ahead)
    inner = max(width // 4, 1)
    each_voxel = read * READ + READ * KEPT + 2 * KEPT * width + KEPT * config.ahead
    each_patch = config.blocks * (2 * width * inner + volume * inner**2)
    return voxels * each_voxel + voxels // config.patch**3 * each_patch


def load(path: str | Path) -> keras.Model:
    """Return the model of shipped weights; see `helpers.models.weights.load_model`."""
    return load_model(path, Config, build, "CNN")


# Data and training

FORMAT_WEIGHTS = {1: 2.0, 2: 1.4, 4: 1.0}  # in the loss, by time step


def example(config: Config, frames: np.ndarray, observed, step, weight) -> tuple[dict, dict, dict]:
    """Split frames (B, history + ahead, D, H, W) into what `fit` reads."""
    past, after = np.split(frames, [config.history], axis=1)
    after = after.astype(np.float32)
    targets, weights = {"next": after[:, :1]}, {"next": weight}
    if config.ahead > 1:
        targets["later"], weights["later"] = after[:, 1:], weight
    return {"past": inputs(config, past, observed, step)}, targets, weights


def batches(
    split,
    formats: Sequence[FrameFormat],
    config: Config,
    plan: training.Plan,
    *,
    format_weights: Mapping[int, float] = FORMAT_WEIGHTS,
) -> Callable[[int], Iterator[tuple]]:
    """Return what `training.train` asks for: the batches from any step on, of windows.

    Args:
        split: a `helpers.records.PackedSplit`.
        formats: drawn at random; their TINC are among `config.steps`.
        plan: has the batch size and the seed.
        format_weights: of each format in the loss, by its time step.
    """
    options = {"seed": plan.seed, "format_weights": format_weights}
    drawn = shared.Examples(split, formats, config, plan.batch_size, **options)

    def batches(step: int) -> Iterator[tuple]:
        while True:
            yield example(config, *drawn.batch(step))
            step += 1

    return batches


class validation(keras.utils.PyDataset):
    """Windows of the first `count` samples in each format, histories of all lengths, 32 at a time.

    Each counts as much as any other: what `batches` are `drawn` with plays no role.
    """

    def __init__(
        self, split, formats: Sequence[FrameFormat], config: Config, count: int = 64, **drawn
    ):
        super().__init__()
        frames, parts = split.frames(np.arange(min(count, len(split)))), []
        for found in formats:
            chosen = found.select(frames)
            # One history for each sample, 1, 2, … frames long in turn.
            left = found.time_points - found.times[0]
            most = shared.most_observed(left, found.TINC, config.ahead)
            observed = 1 + np.arange(len(chosen)) % min(found.steps - 1, most)
            where = observed[:, None] + np.arange(-config.history, config.ahead)
            times = np.clip(found.times[0] + where * found.TINC, 0, found.time_points - 1)
            windows = np.take_along_axis(frames, times[:, :, None, None, None], axis=1)
            parts.append((windows, observed, np.full(len(chosen), found.TINC)))
        self.config, self.parts = config, [np.concatenate(part) for part in zip(*parts)]

    def __len__(self) -> int:
        return -(-len(self.parts[0]) // 32)

    def __getitem__(self, number: int) -> tuple:
        part = [found[32 * number :][:32] for found in self.parts]
        return example(self.config, *part, np.ones(len(part[0]), np.float32))


def compile_options(
    config: Config,
    plan: training.Plan,
    *,
    jaccard_weight: float = 0.05,
    later_weight: float = 0.5,
) -> dict:
    """Return optimizer, losses and metric for `model.compile`.

    Args:
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


class CNNForecaster(shared.SeveralForecaster):
    """The network as a forecaster; see `helpers.models.shared.SeveralForecaster`."""

    config, title = Config, "CNN"

    def _read(self, frames: np.ndarray, observed: int) -> dict[str, np.ndarray]:
        known = (np.full(len(frames), number) for number in (observed, self.step))
        return {"past": inputs(self.model.config, frames, *known)}

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        found = self.model.predict_on_batch(self._read(frames, observed))
        return np.concatenate([found[part] for part in shared.outputs(self.model.config)], axis=1)


forecaster = CNNForecaster  # the same name in the module of each model
