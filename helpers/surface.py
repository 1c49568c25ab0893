"""Beyond the thesis, by geometry: a small network at each surface voxel, in a pose of its own."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from helpers import forecaster as patchnet
from helpers import training
from helpers.rollout import whole
from helpers.sequences import FrameFormat
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

NEAR, FAR = 1, 2  # so many voxels from a surface: of the next frame, of all frames ahead


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network: `shipped()` is one of them.

    The past of each voxel is summed up in a few numbers, see `codes`. A voxel near a surface reads
    those of all neighbours within `radius`, after the neighbourhood was turned and mirrored into
    its canonical pose. Dense layers make of this one logit for each step ahead, added to
    ± `residual` of the last frame.

    Attributes:
        history: the network reads so many of the latest frames, 1…20.
        ahead: so many frames are forecast at once, at least 1.
        steps: the time steps (TINC) that it knows; it is told which one a history has.
        radius: neighbours are voxels whose centres are so far away at most, in voxels.
        canonical: turn each neighbourhood into its canonical pose.
        width: units of the first dense layer; the others have half of them.
        layers: how many dense layers follow the first one.
        residual: the logits start from ± this value, so that an untrained network is persistence.
        grid: voxels along the edge of a frame.

    Raises:
        TypeError: one of them is of another type.
        ValueError: one of them breaks the rules above.
    """

    history: int = 19
    ahead: int = 5
    steps: tuple[int, ...] = (1, 2, 4)
    radius: int = 3
    canonical: bool = True
    width: int = 384
    layers: int = 3
    residual: float = 4.0
    grid: int = 16

    def __post_init__(self):
        lowest = {"history": 1, "ahead": 1, "radius": 0, "width": 2, "layers": 0, "grid": 1}
        for name, least in lowest.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if self.history > 20:
            raise ValueError(f"history is {self.history}; expected 20 frames at most.")
        patchnet.check_steps(self)
        if not isinstance(self.canonical, bool):
            raise TypeError(f"canonical is {self.canonical!r}; expected True or False.")
        training.check_number(self, "residual", "above 0", lambda value: 0 < value < math.inf)

    def as_dict(self) -> dict:
        """Return the configuration as plain values, for JSON; `Config(**values)` reads it."""
        return asdict(self)


def shipped() -> Config:
    """The network of the shipped weights: one for the three formats."""
    return Config()


@functools.lru_cache(maxsize=4)
def codes(history: int) -> np.ndarray:
    """Return what a neighbour's past is summed up in: float32 (2^(`history` + 1), 8).

    The row is the past as a number: bit a is 1 where the voxel was filled a frames before the last
    one, and one more bit above the oldest frame observed marks how many there are, n. With s = ±1
    for filled and empty in the last frame, a and b the ages in frames of the last flip and of the
    one before it (n where there was none), the columns are: s; s if it ever flipped; a / 10 - 1/2;
    s (a / 10 - 1/2); 1 / a or 0 if it never flipped; 1 if it flipped twice; b / 10 - 1/2; the
    share of frames in which it was filled, as -1…1.
    """
    numbers = np.arange(2 ** (history + 1), dtype=np.int64)
    observed = np.frexp(numbers)[1] - 1  # the highest bit
    past = numbers ^ (1 << np.maximum(observed, 0))
    flips = (past ^ past >> 1) & (1 << np.maximum(observed - 1, 0)) - 1

    def lowest(bits):
        return np.frexp(bits & -bits)[1]  # 1 + the number of the lowest bit, 0 without any

    last, before = lowest(flips), lowest(flips & flips - 1)
    state = 2.0 * (past & 1) - 1
    filled = sum(past >> age & 1 for age in range(history))
    since, since_before = (
        np.where(found > 0, found, observed) / 10 - 0.5 for found in (last, before)
    )
    table = [
        state,
        state * (last > 0),
        since,
        state * since,
        np.where(last > 0, 1 / np.maximum(last, 1), 0),
        before > 0,
        since_before,
        2 * filled / np.maximum(observed, 1) - 1,
    ]
    table = np.stack(table, axis=1).astype(np.float32)
    table.flags.writeable = False
    return table


def neighbours(radius: int) -> np.ndarray:
    """Return the places of a ball-shaped neighbourhood relative to its centre: int (P, 3)."""
    line = np.arange(-radius, radius + 1)
    cube = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    return cube[(cube**2).sum(1) <= radius**2]


def poses(places: np.ndarray) -> np.ndarray:
    """Return where each neighbour comes from in the 48 poses of the cube: int (48, P, 3).

    Pose 6 m + p mirrors the axes whose bit is set in m (bit 0 is D) and puts axis
    `permutations(range(3))[p][k]` in the place of axis k.
    """
    found = []
    for mirror in range(8):
        sign = np.array([1 - 2 * (mirror >> axis & 1) for axis in range(3)])
        for order in itertools.permutations(range(3)):
            turned = np.zeros_like(places)
            turned[:, order] = places * sign[list(order)]
            found.append(turned)
    return np.array(found)


def near_surface(last, reach: int):
    """Return where a cube of `reach` voxels each way holds filled and empty voxels: bool.

    Args:
        last: frames (B, D, H, W), 0 or 1, an array or a tensor; nothing lies beyond the edge.
        reach: at least 1.
    """
    volume = ops.cast(last, "float32")[..., None]
    size = 2 * reach + 1
    full = ops.max_pool(volume, size, strides=1, padding="same")
    gap = ops.max_pool(1 - volume, size, strides=1, padding="same")
    return ops.logical_and(full > 0.5, gap > 0.5)[..., 0]


@keras.saving.register_keras_serializable("forecasting_4d")
class SurfaceNet(keras.Model):
    """The network as a Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `frames` (B, `history`, D, H, W), `observed` (B,), how many of the
    last frames are real, `step` (B,), their TINC, and `voxels` (B, K), numbers of voxels in
    reading order, it returns a mapping of probabilities at these voxels: `next` (B, K, 1) and, if
    the configuration looks further `ahead`, `later` (B, K, `ahead` - 1).
    """

    def __init__(self, config: Config | dict, **kwargs):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, Config) else Config(**config)
        config, policy = self.config, self.dtype_policy

        def dense(units, name, **options):
            return keras.layers.Dense(units, name=name, dtype=policy, **options)

        self.told = dense(config.width, "told", use_bias=False)
        self.first = dense(config.width, "first")
        half = max(config.width // 2, 1)
        self.further = [
            dense(half, f"further_{number}", activation="silu") for number in range(config.layers)
        ]
        self.head = dense(config.ahead, "head", kernel_initializer="zeros")
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        grid = [config.grid] * 3
        signature = [
            tf.TensorSpec((None, config.history, *grid), tf.float32),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((None,), tf.int32),
        ]
        self.compiled_next, self.compiled_several = (
            tf.function(functools.partial(self._forecast, reach, ahead), signature)
            for reach, ahead in ((NEAR, 1), (FAR, config.ahead))
        )
        self._codes = tf.constant(codes(config.history))
        places = neighbours(config.radius)
        # Nearer neighbours say more about where the surface lies.
        weight = np.exp(-(places**2).sum(1) / (2 * 1.3**2))
        self._slope = (places * weight[:, None]).astype("float32")
        padded = config.grid + 2 * config.radius
        self._offsets = (poses(places) @ [padded**2, padded, 1]).astype("int32")
        # Of the comparisons |x| ≥ |y|, |x| ≥ |z|, |y| ≥ |z| as bits: which order the axes are in.
        orders = list(itertools.permutations(range(3)))
        self._orders = np.zeros(8, "int32")
        for a, b, c in itertools.product((0, 1), repeat=3):
            wins = np.array([a + b, (1 - a) + c, (1 - b) + (1 - c)])
            self._orders[4 * a + 2 * b + c] = orders.index(tuple(np.argsort(-wins, kind="stable")))

    def build(self, shape=None):
        """Make every weight; the shape of the input plays no role but in its grid."""
        config = self.config
        self.told.build((None, len(config.steps) + 2))
        units = len(neighbours(config.radius)) * self._codes.shape[-1]
        for layer in (self.first, *self.further, self.head):
            layer.build((None, units))
            units = layer.units
        self.built = True

    def call(self, inputs):
        """See the class."""
        config, voxels = self.config, inputs["voxels"]
        batch, count = ops.shape(voxels)[0], voxels.shape[1]
        sample = ops.repeat(ops.arange(batch, dtype="int32"), count)
        logits = self.logits(inputs, sample, ops.reshape(voxels, (-1,)))
        probability = ops.reshape(ops.sigmoid(logits), (-1, count, config.ahead))
        outputs = {"next": probability[..., :1]}
        if config.ahead > 1:
            outputs["later"] = probability[..., 1:]
        return outputs

    def logits(self, inputs, sample, voxel):
        """Return float32 (N, `ahead`) for N voxels, given by their sample and number, int (N,)."""
        config = self.config
        frames, observed, step = inputs["frames"], inputs["observed"], inputs["step"]
        known = ops.cast(step[:, None] == np.array(config.steps), "float32")
        seen = ops.cast(observed, "float32")[:, None]
        told = self.told(ops.concatenate([known, seen / config.history, 1 / seen], axis=-1))
        # The past of each voxel as one number, see `codes`.
        value = (2.0 ** np.arange(config.history - 1, -1, -1)).astype("float32")
        filled = ops.cast(frames > patchnet.UNKNOWN, "float32")
        number = ops.tensordot(value, filled, axes=[[0], [1]])
        number = ops.cast(number + (2.0**seen)[:, :, None, None], "int32")
        past = ops.take(self._codes, number, axis=0)

        # Everything beyond the edge gets the code 0, which no voxel has.
        radius, channels = config.radius, past.shape[-1]
        side, padded = config.grid, config.grid + 2 * config.radius
        around = [(0, 0), *[(radius, radius)] * 3]
        rows = ops.reshape(ops.pad(past, [*around, (0, 0)]), (-1, channels))
        d, h, w = voxel // side**2, voxel // side % side, voxel % side
        place = ((sample * padded + d + radius) * padded + h + radius) * padded + w + radius
        if config.canonical:
            # How much a voxel was filled, of late and all along, falls off across the surface.
            amount = ops.pad(past[..., 0] + past[..., -1], around, constant_values=-2.0)
            here = place[:, None] + self._offsets[0]
            slope = ops.matmul(ops.take(ops.reshape(amount, (-1,)), here), self._slope)
            poses_of = ops.take(ops.convert_to_tensor(self._offsets), self._pose(slope), axis=0)
            where = place[:, None] + poses_of
        else:
            where = place[:, None] + self._offsets[0]
        values = ops.reshape(ops.take(rows, where, axis=0), (-1, len(self._slope) * channels))
        values = ops.silu(self.first(values) + ops.take(told, sample, axis=0))
        for layer in self.further:
            values = layer(values)
        changed = ops.cast(self.head(values), "float32")
        # The farther ahead, the less the last frame says.
        weights = (config.residual / np.sqrt(1.0 + np.arange(config.ahead))).astype("float32")
        last = ops.take(ops.reshape(frames[:, -1], (-1,)), sample * side**3 + voxel)
        return changed + (2 * ops.cast(last, "float32") - 1)[:, None] * weights

    def _pose(self, slope):
        """Return the pose in which the slope (N, 3) is positive and falls from axis to axis."""
        mirror = ops.sum(ops.cast(slope < 0, "int32") * np.array([1, 2, 4], "int32"), axis=-1)
        x, y, z = (ops.abs(slope[:, axis]) for axis in range(3))
        bits = [ops.cast(found, "int32") for found in (x >= y, x >= z, y >= z)]
        order = ops.take(ops.convert_to_tensor(self._orders), 4 * bits[0] + 2 * bits[1] + bits[2])
        return 6 * mirror + order

    def _forecast(self, reach, ahead, frames, observed, step):
        """Return probabilities (B, `ahead`, D, H, W); beyond `reach`, voxels stay as they are."""
        last = frames[:, -1] > patchnet.UNKNOWN
        near = near_surface(last, reach)
        chosen = tf.cast(tf.where(tf.reshape(near, (tf.shape(frames)[0], -1))), tf.int32)
        inputs = {"frames": frames, "observed": observed, "step": step}
        found = ops.sigmoid(self.logits(inputs, chosen[:, 0], chosen[:, 1]))[:, :ahead]
        rest = tf.repeat(tf.cast(last, tf.float32)[..., None], ahead, axis=-1)
        rest = tf.reshape(rest, (tf.shape(frames)[0], -1, ahead))
        found = tf.tensor_scatter_nd_update(rest, chosen, found)
        shape = (tf.shape(frames)[0], *[self.config.grid] * 3, ahead)
        return tf.transpose(tf.reshape(found, shape), (0, 4, 1, 2, 3))

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"config": self.config.as_dict()}


def build(config: Config) -> SurfaceNet:
    """Return an untrained model of this configuration, its weights made."""
    model = SurfaceNet(config, name="surfacenet")
    model.build()
    return model


@dataclass(frozen=True)
class Examples(patchnet.Examples):
    """Windows as in `helpers.forecaster`, and of each some voxels near a surface.

    Attributes:
        voxels: so many of each window.
        far: how often a voxel is drawn that has a surface within `FAR` voxels but not within
            `NEAR`, relative to one that has; it counts so much more in the loss.
    """

    voxels: int = 128
    far: float = 0.15

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Return frames uint8 (B, history + ahead, D, H, W), observed, step (B,), chosen, weight.

        `chosen` (B, K) are numbers of voxels in reading order, `weight` (B, K) float32 says how
        much they count: 0 for those that only fill up the number.
        """
        frames, observed, strides, weight = super().batch(step)
        rng = np.random.default_rng([self.seed, step, 1])
        last = frames[:, self.config.history - 1]
        near, far = (mixed(last, reach).reshape(len(last), -1) for reach in (NEAR, FAR))
        chance = np.where(near, 1.0, self.far).astype(np.float32) * far
        # The largest of u^(1/w) are a draw by weight (Efraimidis & Spirakis, 2006).
        drawn = np.maximum(rng.random(chance.shape, dtype=np.float32), 1e-9)
        key = np.log(drawn) / np.maximum(chance, 1e-9)
        chosen = np.argpartition(-key, self.voxels, axis=1)[:, : self.voxels]
        found = np.take_along_axis(chance, chosen, 1)
        counts = np.where(found > 0, weight[:, None] / np.maximum(found, self.far), 0)
        return frames, observed, strides, chosen.astype(np.int32), counts.astype(np.float32)

    def example(self, *batch) -> tuple[dict, dict, dict]:
        """Split a batch into what `fit` reads."""
        return example(self.config, *batch)


def mixed(frames: np.ndarray, reach: int) -> np.ndarray:
    """Do what `near_surface` does, in NumPy, where examples are drawn: (B, D, H, W) to bool."""
    size = (1, *[2 * reach + 1] * 3)
    return ndimage.maximum_filter(frames, size) != ndimage.minimum_filter(frames, size)


def example(config: Config, frames, observed, step, chosen, weight) -> tuple[dict, dict, dict]:
    """Split frames (B, history + ahead, D, H, W) into what `fit` reads, at the chosen voxels."""
    every = tf.ones(tf.shape(step), tf.float32)
    inputs, *_ = patchnet.example(config, frames, observed, step, every)
    inputs["voxels"] = chosen
    after = frames[:, config.history :]
    after = tf.reshape(after, (after.shape[0], config.ahead, -1))
    target = tf.gather(tf.transpose(after, (0, 2, 1)), chosen, batch_dims=1)
    target = tf.cast(target, tf.float32)
    targets, weights = {"next": target[..., :1]}, {"next": weight}
    if config.ahead > 1:
        targets["later"], weights["later"] = target[..., 1:], weight
    return inputs, targets, weights


def multiply_adds(config: Config, voxels: int = 900) -> int:
    """Return how many multiplications, each with an addition, one forecast costs.

    Args:
        config: of the network.
        voxels: how many are near a surface; in the thesis's data about 900 for the next frame and
            1,700 for all frames ahead.
    """
    units = [len(neighbours(config.radius)) * codes(1).shape[-1], config.width]
    units += [max(config.width // 2, 1)] * config.layers + [config.ahead]
    return voxels * sum(a * b for a, b in zip(units, units[1:]))


def load(path) -> SurfaceNet:
    """Return the model of shipped weights: `NAME.npz` with its record `NAME.json` beside it.

    Raises:
        FileNotFoundError, helpers.training.CheckpointError: see `helpers.training.load_model`.
    """
    return training.load_model(path, Config, build, "surface")


AT_ONCE = 8  # windows: what all neighbourhoods of one hold takes about 7 MB


class SurfaceForecaster(patchnet.PatchForecaster):
    """A `SurfaceNet` in the interface of all forecasters; see `helpers.rollout.Several`."""

    network = SurfaceNet

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        forecast = self.model.compiled_several if ahead > 1 else self.model.compiled_next
        found = []
        for start in range(0, len(frames), AT_ONCE):
            part = tf.constant(frames[start : start + AT_ONCE])
            size = [len(part)]
            found.append(forecast(part, tf.fill(size, observed), tf.fill(size, self.step)).numpy())
        return np.concatenate(found)


def forecaster(
    model: SurfaceNet,
    frame_format: FrameFormat,
    name: str = "SurfaceNet",
    *,
    symmetries: int = 1,
    ahead: int | None = None,
    thresholds: Sequence[float] | None = None,
) -> SurfaceForecaster:
    """Wrap a model so that `rollout` and `evaluation` can use it.

    Args, errors: as in `helpers.forecaster.forecaster`. More `symmetries` than one change little:
    the pose makes the forecast turn with the history, but where two parts of a slope are equal.
    """
    return SurfaceForecaster(model, frame_format, name, symmetries, ahead, thresholds)
