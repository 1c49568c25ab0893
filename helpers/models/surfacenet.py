"""Beyond the thesis, by geometry: a small network at each surface voxel, in a pose of its own."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers import training
from helpers._checks import configuration, field
from helpers.models import shared
from helpers.models.weights import load_model
from helpers.sequences import FrameFormat
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

RINGS = (1, 2, 4)  # voxels are told apart by the reach within which they have a surface
FAR = RINGS[-1]  # beyond it, nothing is forecast: voxels stay as they are
SURE = 0.02  # a scout's forecast stands where it gives a flip at most this probability
DOUBT = 0.03  # added to how unsure a scout is of a voxel: it may err


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network: `shipped()` is one of them.

    The past of each voxel is summed up in a few numbers, see `codes`. A voxel near a surface reads
    those of all neighbours within `radius`, and what the blocks of 3³ voxels further out held, see
    `courses`, after its surroundings were turned and mirrored into their canonical pose. Dense
    layers make of this one logit for each step ahead, added to ± `residual` of the last frame.
    A place beyond the edge of the frame is read as zeros.

    Attributes:
        history: the network reads so many of the latest frames, 1…20.
        span: and of those no more than so many time points hold, at least 1: `span` // TINC
            frames, though always the last one. What was long ago tells of other cavities.
        ahead: so many frames are forecast at once, at least 1.
        steps: the time steps (TINC) that it knows; it is told which one a history has.
        radius: neighbours are voxels whose centres are so far away at most, in voxels.
        blocks: blocks are read whose centres are so far away at most, in edges of a block; 0 for
            none.
        canonical: turn each neighbourhood into its canonical pose.
        width: units of the first dense layer; the others have half of them.
        layers: how many dense layers follow the first one.
        residual: the logits start from ± this value, so that an untrained network is persistence.
        grid: voxels along the edge of a frame.
    """

    history: int = field(12, least=1, most=20, whole=True)
    span: int = field(24, least=1, whole=True)
    ahead: int = field(5, least=1, whole=True)
    steps: tuple[int, ...] = field((1, 2, 4), least=1, whole=True, several=True)
    radius: int = field(3, least=0, whole=True)
    blocks: int = field(2, least=0, whole=True)
    canonical: bool = field(True, choices=(True, False))
    width: int = field(384, least=2, whole=True)
    layers: int = field(3, least=0, whole=True)
    residual: float = field(4.0, above=0)
    grid: int = field(16, least=1, whole=True)

    def __post_init__(self):
        configuration(self)
        shared.check_steps(self)


def shipped() -> Config:
    """The network of the shipped weights: one for the three formats."""
    return Config()


def scout() -> Config:
    """A much smaller network that sees less: it tells where the shipped one has to look."""
    return Config(radius=2, blocks=1, width=64, layers=1)


def _pasts(history: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of the past, and how many frames it holds, for every number: int (N,)."""
    numbers = np.arange(2 ** (history + 1), dtype=np.int64)
    observed = np.frexp(numbers)[1] - 1  # the highest bit
    return numbers ^ (1 << np.maximum(observed, 0)), observed


def codes(history: int) -> np.ndarray:
    """Return what a neighbour's past is summed up in: float32 (2^(`history` + 1), 8).

    The row is the past as a number: bit a is 1 where the voxel was filled a frames before the last
    one, and one more bit above the oldest frame observed marks how many there are, n. With s = ±1
    for filled and empty in the last frame, a and b the ages in frames of the last flip and of the
    one before it (n where there was none), the columns are: s; s if it ever flipped; a / 10 - 1/2;
    s (a / 10 - 1/2); 1 / a or 0 if it never flipped; 1 if it flipped twice; b / 10 - 1/2; the
    share of frames in which it was filled, as -1…1.
    """
    past, observed = _pasts(history)
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
    return np.stack(table, axis=1).astype(np.float32)


BLOCK = 3  # voxels along the edge of a block, odd so that a voxel is its centre
SINCE = (1, 2, 4, 8, 16)  # frames: the ages of the changes that blocks are told by


def courses(history: int) -> np.ndarray:
    """Return what a voxel adds to the mean of its block: float32 (2^(`history` + 1), 6).

    The rows are those of `codes`. The columns: 1 if filled, and twice the change of this since 1,
    2, 4, 8 and 16 frames ago, or since the oldest frame observed.
    """
    past, observed = _pasts(history)
    filled = past & 1
    ages = (np.minimum(age, np.maximum(observed - 1, 0)) for age in SINCE)
    table = [filled, *(2 * (filled - (past >> age & 1)) for age in ages)]
    return np.stack(table, axis=1).astype(np.float32)


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
    signs = [1 - 2 * (mirror >> np.arange(3) & 1) for mirror in range(8)]
    orders = [np.argsort(order) for order in itertools.permutations(range(3))]
    return np.array([places[:, order] * sign for sign in signs for order in orders])


def near_surface(last, reach: int):
    """Return where a cube of `reach` voxels each way holds filled and empty voxels: bool.

    Args:
        last: frames (B, D, H, W), 0 or 1, an array or a tensor; nothing lies beyond the edge.
        reach: at least 1.
    """
    full = ops.cast(last, "float32")
    found = ops.stack([full, 1 - full], axis=-1)
    # Axis by axis, 3 (2 reach + 1) comparisons in place of (2 reach + 1)³.
    for axis in range(3):
        size = [2 * reach + 1 if axis == other else 1 for other in range(3)]
        found = ops.max_pool(found, size, 1, padding="same")
    return ops.all(found > 0.5, axis=-1)


class _Surroundings:
    """Places around a voxel, and how to read what a padded grid holds there, in any pose.

    A grid may reach beyond the edge of the frame, by as many voxels on all sides.

    Args:
        places: relative to the voxel, (P, 3), in steps of `stride` voxels.
        grid: voxels along the edge of a frame.
        reach: the places are so many voxels beyond it at most.
        stride: in voxels.
        weight: of these places in the slope.
    """

    def __init__(self, places, grid: int, reach: int, stride: int, weight: float = 1.0):
        self.reach, self.padded, self.count = reach, grid + 2 * reach, len(places)
        line = stride * np.array([self.padded**2, self.padded, 1])
        self.offsets = (poses(places) @ line).astype("int32")
        # Nearer neighbours say more about where the surface lies.
        weights = weight * np.exp(-(places**2).sum(1) / (2 * 1.3**2))
        self.slopes = (places * weights[:, None]).astype("float32")

    def _rows(self, content, place, beyond=0.0):
        """Return the padded grid as rows (R, …), and the rows of the voxels themselves, (N,)."""
        beside = (self.padded - content.shape[1]) // 2
        around = [(0, 0), *[(beside, beside)] * 3, *[(0, 0)] * (len(content.shape) - 4)]
        content = ops.pad(content, around, constant_values=beyond)
        sample, d, h, w = place
        row = sample
        for coordinate in (d, h, w):
            row = row * self.padded + coordinate + self.reach
        return ops.reshape(content, (-1, *content.shape[4:])), row

    def slope(self, amount, place, beyond=0.0):
        """Return where the amount (B, D, H, W) grows: (N, 3)."""
        # Not `ops.take`, which first looks for negative numbers: a tenth of a forecast's time.
        rows, row = self._rows(amount, place, beyond)
        return ops.matmul(tf.gather(rows, row[:, None] + self.offsets[0]), self.slopes)

    def read(self, content, place, pose):
        """Return what (B, D, H, W, C) holds around N voxels, each in its pose: (N, P · C)."""
        rows, row = self._rows(content, place)
        where = row[:, None] + tf.gather(ops.convert_to_tensor(self.offsets), pose)
        return ops.reshape(tf.gather(rows, where), (-1, self.count * content.shape[-1]))


class SurfaceNet(keras.Model):
    """The network as a Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `frames` (B, T, D, H, W), of which it reads the last `history`,
    `observed` (B,), how many of the last ones are there, `step` (B,), their TINC, and `voxels`
    (B, K), numbers of voxels in reading order, it returns a mapping of probabilities at these
    voxels: `next` (B, K, 1) and, if the configuration looks further `ahead`, `later`
    (B, K, `ahead` - 1).
    """

    def __init__(self, config: Config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.first = keras.layers.Dense(config.width, "silu", name="first")
        self.further = [
            keras.layers.Dense(config.width // 2, "silu", name=f"further_{number}")
            for number in range(config.layers)
        ]
        # Logits need float32, also where the rest is computed in half precision.
        self.head = keras.layers.Dense(
            config.ahead, name="head", dtype="float32", kernel_initializer="zeros"
        )
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        grid = [config.grid] * 3
        signature = [
            tf.TensorSpec((None, config.history, *grid), tf.float32),
            *[tf.TensorSpec((None,), tf.int32)] * 2,
        ]
        self.compiled_forecast = functools.cache(
            lambda reach, ahead, scout=None: tf.function(
                functools.partial(self._forecast, reach, ahead, scout), signature
            )
        )
        self.compiled_doubt = tf.function(self._doubt)
        self._codes, self._courses = (
            tf.constant(table(config.history)) for table in (codes, courses)
        )
        self._ball = _Surroundings(neighbours(config.radius), config.grid, config.radius, 1)
        # Blocks decide where the ball does not: far from a surface, and between equal slopes.
        self._blocks = _Surroundings(
            neighbours(config.blocks), config.grid, BLOCK * config.blocks, BLOCK, weight=0.1
        )

    def build(self, shape=None):
        """Make every weight; the shape of the input plays no role but in its grid."""
        config = self.config
        units = numbers_read(config)
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
        config, step = self.config, inputs["step"]
        frames = inputs["frames"][:, -config.history :]
        # The past of each voxel as one number, see `codes`.
        most = ops.clip(ops.floor_divide(config.span, ops.cast(step, "int32")), 1, config.history)
        seen = ops.minimum(ops.cast(inputs["observed"], "int32"), most)[:, None]
        number = past_bits(frames)
        marker = ops.left_shift(1, seen)[:, :, None, None]
        number = ops.bitwise_and(number, marker - 1) + marker
        past = tf.gather(self._codes, number)

        side = config.grid
        place = (sample, voxel // side**2, voxel // side % side, voxel % side)
        sources = [(self._ball, past)]
        if config.blocks:
            course = tf.gather(self._courses, number)
            # With the blocks that reach into the frame from beyond its edge.
            edge = [(0, 0), *[(BLOCK - 1,) * 2] * 3, (0, 0)]
            mean = ops.average_pool(ops.pad(course, edge), BLOCK, strides=1, padding="valid")
            sources.append((self._blocks, mean))
        pose = ops.zeros_like(voxel)
        if config.canonical:
            # How much a voxel was filled, of late and all along, falls off across the surface.
            slope = self._ball.slope(past[..., 0] + past[..., -1], place, beyond=-2.0)
            if config.blocks:
                slope = slope + self._blocks.slope(mean[..., 0], place)
            pose = self._pose(slope)
        known = ops.cast(step[:, None] == np.array(config.steps), "float32")
        seen = ops.cast(seen, "float32")
        told = ops.concatenate([known, seen / config.history, 1 / seen], axis=-1)
        ball, *rest = (
            around.read(ops.cast(content, self.compute_dtype), place, pose)
            for around, content in sources
        )
        told = ops.cast(tf.gather(told, sample), self.compute_dtype)
        values = self._first(ball, ops.concatenate([*rest, told], axis=-1))
        for layer in self.further:
            values = layer(values)
        changed = self.head(values)
        # The farther ahead, the less the last frame says.
        weights = (config.residual / np.sqrt(1.0 + np.arange(config.ahead))).astype("float32")
        last = tf.gather(ops.reshape(number & 1, (-1,)), sample * side**3 + voxel)
        last = ops.cast(last, "float32")
        return changed + (2 * last - 1)[:, None] * weights

    def _first(self, ball, rest):
        """Return `self.first` of both beside each other, without laying them there: a long copy."""
        kernel, bias = (
            ops.cast(weight, self.compute_dtype) for weight in (self.first.kernel, self.first.bias)
        )
        split = ball.shape[-1]
        values = ops.matmul(rest, kernel[split:])
        # In this order TensorFlow adds both while it multiplies.
        values = tf.nn.bias_add(ops.matmul(ball, kernel[:split]), bias) + values
        return self.first.activation(values)

    def _pose(self, slope):
        """Return the pose in which the slope (N, 3) is positive and falls from axis to axis."""
        mirror = ops.sum(ops.cast(slope < 0, "int32") * np.array([1, 2, 4], "int32"), axis=-1)
        size = ops.abs(slope)
        x, y, z = (size[:, axis] for axis in range(3))
        # The largest first; permutations(range(3)) has each axis first twice, then the others in
        # turn and exchanged.
        first = ops.cast(ops.argmax(size, axis=-1), "int32")
        exchanged = ops.where(first == 0, y < z, ops.where(first == 1, x < z, x < y))
        return 6 * mirror + 2 * first + ops.cast(exchanged, "int32")

    def _forecast(self, reach, ahead, scout, frames, observed, step):
        """Return probabilities (B, `ahead`, D, H, W); beyond `reach`, voxels stay as they are.

        Where the scout is sure, if there is one, its probabilities stand.
        """
        count = tf.shape(frames)[0]
        last = tf.reshape(frames[:, -1] > 0.5, (count, *[self.config.grid] * 3))
        near = near_surface(last, reach)
        chosen = tf.cast(tf.where(tf.reshape(near, (count, -1))), tf.int32)
        inputs = {"frames": frames, "observed": observed, "step": step}
        last = tf.reshape(tf.cast(last, tf.float32), (count, -1, 1))
        found = tf.repeat(last, ahead, axis=-1)
        for network in [self] if scout is None else [scout, self]:
            forecast = ops.sigmoid(network.logits(inputs, chosen[:, 0], chosen[:, 1]))[:, :ahead]
            found = tf.tensor_scatter_nd_update(found, chosen, forecast)
            change = tf.reduce_max(tf.abs(forecast - tf.gather_nd(last, chosen)), axis=1)
            chosen = tf.boolean_mask(chosen, change > SURE)
        shape = (count, *[self.config.grid] * 3, ahead)
        return tf.transpose(tf.reshape(found, shape), (0, 4, 1, 2, 3))

    def _doubt(self, frames, observed, step, voxels):
        """Return √(Σ p (1 - p)), p for each frame ahead: frames uint8 (B, T, …) to (B, K)."""
        inputs = {"frames": frames, "observed": observed, "step": step, "voxels": voxels}
        found = self.call(inputs).values()
        return ops.sqrt(sum(ops.sum(part * (1 - part), axis=-1) for part in found))


def past_bits(frames):
    """Return the past of each voxel as one number: (B, T, D, H, W) to int32 (B, D, H, W).

    Bit a is 1 where the voxel was filled a frames before the last one. T is at most 31.
    """
    value = (1 << np.arange(frames.shape[1] - 1, -1, -1)).astype("int32")
    filled = ops.cast(ops.cast(frames, "float32") > 0.5, "int32")
    # Whole numbers, which no lower precision can round.
    return ops.sum(filled * value[:, None, None, None], axis=1)


def build(config: Config) -> SurfaceNet:
    """Return an untrained model of this configuration, its weights made."""
    model = SurfaceNet(config, name="surfacenet")
    model.build()
    return model


@dataclass(frozen=True)
class Examples(shared.Examples):
    """Windows as in `helpers.models.shared`, and of each some voxels near a surface.

    Voxels that are drawn more seldom than others count so much more in the loss. So each window
    adds an estimate of its mean over all voxels within the last of the `RINGS`; one without a
    surface adds 0.

    Attributes:
        voxels: so many of each window.
        chances: how often a voxel of each of the `RINGS` is drawn, relative to one of the first,
            above 0.
        scout: a trained network that looks at `candidates`, drawn by `chances`; the less sure it
            is of one, the more often this is among the `voxels`. None draws these at once. With
            a scout, batches are the same for the same seed and step only up to its rounding.
        candidates: so many of each window.
    """

    voxels: int = field(256, least=1, whole=True)
    chances: tuple[float, ...] = field((1.0, 0.3, 0.2), above=0, most=1, several=True)
    scout: SurfaceNet | None = None
    candidates: int = field(1024, least=1, whole=True)

    def __post_init__(self):
        configuration(self)
        if len(self.chances) != len(RINGS):
            raise ValueError(f"chances is {self.chances}; expected {len(RINGS)} numbers.")
        drawn = [self.voxels, self.config.grid**3]
        if self.scout is not None:
            check_scout(self.scout, self.config)
            drawn.insert(1, self.candidates)
        if drawn != sorted(drawn):
            raise ValueError(
                f"{' of '.join(map(str, drawn))} voxels are to be drawn; expected no more than "
                "there are, of the candidates (with a scout) and of a frame."
            )

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Draw a batch, as in `helpers.models.shared.Examples`, and voxels of its windows.

        Returns frames uint8 (B, history + ahead, D, H, W); observed and step, each (B,); the
        numbers of the chosen voxels in reading order, (B, K); how much they count, float32 (B, K),
        0 for those that only fill up the number.
        """
        frames, observed, strides, weight = super().batch(step)
        rng = np.random.default_rng([self.seed, step, 1])
        last = frames[:, self.config.history - 1]
        chance = np.zeros((len(last), last[0].size), np.float32)
        for reach, found in zip(RINGS[::-1], self.chances[::-1]):
            chance[mixed(last, reach).reshape(chance.shape)] = found
        near = np.count_nonzero(chance, axis=1)
        chosen, share = draw(chance, self.voxels if self.scout is None else self.candidates, rng)
        if self.scout is not None:
            unsure = self._unsure(frames, observed, strides, chosen)
            second_chance = np.where(share > 0, unsure / np.maximum(share, 1e-9), 0)
            places, second_share = draw(second_chance, self.voxels, rng)
            chosen = np.take_along_axis(chosen, places, 1)
            share = np.take_along_axis(share, places, 1) * second_share
        scale = weight * self.voxels / np.maximum(near, 1)
        counts = np.where(share > 0, scale[:, None] / np.maximum(share, 1e-9), 0)
        return frames, observed, strides, chosen, counts.astype(np.float32)

    def _unsure(self, frames, observed, step, chosen) -> np.ndarray:
        """Return how unsure the scout is of voxels, above 0: (B, K) to float32 (B, K).

        The derivative of the cross-entropy by the logit is p - y. If p is right, its root mean
        square is √(p (1 - p)); here of all frames ahead, the next one counted as each other, and
        a little more.
        """
        frames = frames[:, : self.config.history]
        found = self.scout.compiled_doubt(frames, observed, step, chosen)
        return found.numpy() + DOUBT

    def dataset(self, start_step: int = 0) -> tf.data.Dataset:
        """Return batches (inputs, targets, weights) without end, from a step on."""
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

    def example(self, frames, observed, step, chosen, weight) -> tuple[dict, dict, dict]:
        """Split frames (B, history + ahead, D, H, W) into what `fit` reads, at chosen voxels."""
        config = self.config
        inputs = {"frames": frames[:, : config.history], "observed": observed}
        inputs |= {"step": step, "voxels": chosen}
        after = frames[:, config.history :]
        after = tf.reshape(after, (after.shape[0], config.ahead, -1))
        target = tf.gather(tf.transpose(after, (0, 2, 1)), chosen, batch_dims=1)
        target = tf.cast(target, tf.float32)
        targets, weights = {"next": target[..., :1]}, {"next": weight}
        if config.ahead > 1:
            targets["later"], weights["later"] = target[..., 1:], weight
        return inputs, targets, weights


def draw(chance: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` places of each row, by chance: (B, N) to int32 and float64 (B, count).

    The second are the shares. The share of a place is the probability with which it is drawn, at
    most 1 and below that proportional to its chance. Where a row has too few chances above 0,
    places with a share of 0 fill up the number. Systematic sampling (W. G. Madow, 1949): shares
    are laid end to end, and every place is taken on which one of the marks u, u + 1, … falls.
    """
    total = chance.sum(axis=1, keepdims=True, dtype=np.float64)
    share = chance * (count / np.maximum(total, 1e-12))
    # What is more than 1 is handed on to the others, as long as there are some.
    while (share > 1).any():
        full = share >= 1
        free = np.where(full, 0, share)
        left = np.maximum(count - full.sum(1), 0) / np.maximum(free.sum(1), 1e-12)
        share = np.where(full, 1, free * left[:, None])
    ends = np.cumsum(share, axis=1)
    rows = 2 * count * np.arange(len(ends))[:, None]  # one search for all rows
    marks = rng.random((len(ends), 1)) + np.arange(count)
    found = np.searchsorted((ends + rows).ravel(), (marks + rows).ravel(), "right")
    places = found.reshape(marks.shape) - chance.shape[1] * np.arange(len(ends))[:, None]
    beyond = places >= chance.shape[1]
    places = np.where(beyond, 0, places).astype(np.int32)
    drawn = np.where(beyond, 0, np.take_along_axis(share, places, 1))
    return places, drawn


def mixed(frames: np.ndarray, reach: int) -> np.ndarray:
    """Do what `near_surface` does, in NumPy, where examples are drawn: (B, D, H, W) to bool.

    Filters that know only 0 and 1 are faster than those of SciPy, and this is done for each batch.
    """
    full = frames > 0
    gap = ~full
    for found in (full, gap):
        for axis in (1, 2, 3):
            lines = np.moveaxis(found, axis, 0)  # a view: what is written here is written there
            before = lines.copy()
            for shift in range(1, reach + 1):
                lines[shift:] |= before[:-shift]
                lines[:-shift] |= before[shift:]
    return full & gap


FORMAT_WEIGHTS = {1: 1.5, 2: 1.4, 4: 1.4}  # in the loss, by time step
DRAWN = {"format_weights": FORMAT_WEIGHTS, "fives": 0.25}  # unless told


def batches(
    split, formats: Sequence[FrameFormat], config: Config, plan: training.Plan, **options
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on, voxels of windows.

    The options are those of `Examples`; unless told, its `fives` and `format_weights` are `DRAWN`.
    """
    options = {**DRAWN, "seed": plan.seed, **options}
    return Examples(split, formats, config, plan.batch_size, **options).dataset


def validation(
    split, formats: Sequence[FrameFormat], config: Config, count: int = 64, **options
) -> tf.data.Dataset:
    """Return `count` windows for each format as in training, always the same, in batches of 32."""
    options = {**DRAWN, "seed": 0, "augment": False, **options}
    data = Examples(split, formats, config, 32, **options).dataset()
    return data.take(math.ceil(count * len(formats) / 32))


def compile_options(
    config: Config, plan: training.Plan, *, later_weight: float = 2.0, muon: bool = True
) -> dict:
    """Return optimizer and losses for `model.compile`; there is no whole frame to compare.

    Args:
        later_weight: of the loss of the frames after the next one.
        muon: train with Muon, which makes the steps of a matrix equally long in all directions;
            biases and the last layer are left to Adam. From half as many voxels it learned as much
            as the AdamW of the plan, which False takes (K. Jordan, 2024,
            kellerjordan.github.io/posts/muon).
    """
    parts, optimizer = shared.outputs(config), plan.optimizer()
    if muon:
        optimizer = keras.optimizers.Muon(
            plan.schedule(),
            weight_decay=plan.weight_decay,
            adam_weight_decay=0.0,
            exclude_layers=["head"],
            global_clipnorm=plan.clip_norm,
        )
    return {
        "optimizer": optimizer,
        "loss": {part: keras.losses.BinaryCrossentropy() for part in parts},
        "loss_weights": dict(zip(parts, (1.0, later_weight))),
    }


def monitor(config: Config) -> str:
    """Return by which figure of validation the best weights are chosen.

    It is the loss of voxels near a surface, weighted as in training.
    """
    return "val_loss"


def numbers_read(config: Config) -> int:
    """Return how many numbers the network reads for each voxel."""
    neighbour = len(neighbours(config.radius)) * codes(1).shape[-1]
    block = len(neighbours(config.blocks)) * courses(1).shape[-1] if config.blocks else 0
    return neighbour + block + len(config.steps) + 2


def multiply_adds(
    config: Config, voxels: int = 900, scout: Config | None = None, unsure: float = 0.2
) -> int:
    """Return how many multiplications, each with an addition, one forecast costs.

    Args:
        config: of the network.
        voxels: how many are forecast; in the thesis's data about 900 for the next frame, in T80
            1,800, and 3,100 for all frames ahead.
        scout: of the network that is asked first, if there is one.
        unsure: in this share of the voxels the scout is not sure; for the next frame in the
            thesis's data 0.15 to 0.25.
    """
    if scout is not None:
        return multiply_adds(scout, voxels) + multiply_adds(config, round(unsure * voxels))
    units = [numbers_read(config), config.width]
    units += [config.width // 2] * config.layers + [config.ahead]
    return voxels * sum(a * b for a, b in itertools.pairwise(units))


def load(path) -> SurfaceNet:
    """Return the model of shipped weights; see `helpers.models.weights.load_model`."""
    return load_model(path, Config, build, "SurfaceNet")


def check_scout(scout, config: Config) -> None:
    """See that a scout is a `SurfaceNet` that forecasts all that this configuration does."""
    if not isinstance(scout, SurfaceNet):
        raise TypeError(f"scout is {scout!r}; expected a SurfaceNet from build() or load().")
    theirs = scout.config
    if (
        theirs.grid != config.grid
        or theirs.ahead < config.ahead
        or not {*config.steps} <= {*theirs.steps}
    ):
        raise ValueError(
            f"The scout forecasts {theirs.ahead} frames of {theirs.grid}³ voxels with the time "
            f"steps {theirs.steps}; expected {config.ahead} of {config.grid}³ with {config.steps}."
        )


AT_ONCE = 8  # windows: what the surroundings in one hold takes 4 to 15 MB


def reach_of(step: int) -> int:
    """Return how far from a surface the next frame may differ, in voxels, for a TINC.

    Half a voxel for each time point, up to `FAR`. Of the union of two frames of the thesis, 0.3,
    0.7 and 1.8 % change beyond, in its three formats (200 validation sequences).
    """
    return min(-(-step // 2), FAR)


class SurfaceForecaster(shared.SeveralForecaster):
    """A `SurfaceNet` as a forecaster; see `helpers.models.shared.SeveralForecaster`.

    A `scout` is a smaller model that is asked first; only where it is not `SURE` that a voxel stays
    as it is, the model is asked.
    """

    config, title = Config, "SurfaceNet"

    def __init__(self, model, frame_format, name=None, *, scout=None, **options):
        super().__init__(model, frame_format, name, **options)
        if scout is not None:
            check_scout(scout, model.config)
        self.scout = scout

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        reach = FAR if ahead > 1 else reach_of(self.step)
        count = self.model.config.ahead if ahead > 1 else 1
        forecast = self.model.compiled_forecast(reach, count, self.scout)
        found = []
        for start in range(0, len(frames), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            size = [len(frames[part])]
            known = (tf.fill(size, observed), tf.fill(size, self.step))
            found.append(forecast(tf.constant(frames[part]), *known).numpy())
        return np.concatenate(found)


forecaster = SurfaceForecaster  # the same name in the module of each model
