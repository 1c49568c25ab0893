"""An ideal forecaster for the simplest world: one ball, and everything there is to know about it.

Where a ball is and how large it is cannot be seen in frames of coarse blocks, only narrowed down.
A ball of radius a around a voxel fills exactly the blocks that hold a voxel within a of it. So for
each centre, the blocks seen filled say how large the ball is at least, and the blocks seen empty
below what it must be. The share of the world's balls between both bounds is the weight of that
centre, and all centres with their weights are the posterior: exactly, without drawing anything.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helpers import _checks
from helpers.world.cavities import BALL, JITTER, RADII, SIZES, World

WORLD = World()  # as in the thesis's data
# Of the mean over a ball's own factor (`JITTER`): so many values leave an error below 1e-7.
_FACTORS = 2000


@functools.lru_cache(maxsize=8)
def prior(world: World = WORLD) -> np.ndarray:
    """Return how many balls there are of each size around one place in space, as shares summed up.

    All distances between voxels are roots of whole numbers, so that balls of the same ⌊a²⌋ fill the
    same voxels: a radius matters in these steps only. A ball of radius a is equally likely on each
    voxel that keeps the border free, and the larger it is, the fewer there are.

    Returns:
        float64 (N + 1,), not to be written to: entry n is the share of balls with a² < n, each
        divided by the number of its places. The largest ball has a² < N.
    """
    typical = RADII[BALL][0] * world.scale
    most = math.ceil((typical * SIZES[1] * (1 + JITTER)) ** 2)
    radii = np.sqrt(np.arange(most + 1))
    factors = 1 + JITTER * (2 * (np.arange(_FACTORS) + 0.5) / _FACTORS - 1)
    sizes = radii[:, np.newaxis] / (typical * factors)
    below = np.clip((sizes - SIZES[0]) / (SIZES[1] - SIZES[0]), 0, 1).mean(axis=1)
    below[radii <= 1] = 0  # in a coarse cube, balls are widened to a voxel
    places = world.resolution - 2.0 * (np.floor(radii[:-1]) + world.border)
    found = np.concatenate([[0], np.cumsum(np.diff(below) / places**3)])
    found.flags.writeable = False
    return found


class Posterior:
    """What frames of a world with exactly one ball say about this ball.

    The frames may have been read at any moment of the cube, all equally likely: the posterior
    knows where in space the cube ends, and that a ball keeps `world.border` voxels away from there,
    but not where in time it ends.

    Attributes:
        moments: (K,), the times at which the centre may be, in the voxels of `times`.
        places: (S, 3), where in space it may be: voxels (d, h, w) at full resolution.
        low, high: whole numbers (K, S); there, the square of the radius is at least `low` and below
            `high`.
        weights: (K, S), the probability of each centre; the sum is 1. Members are those above 0.

    Args:
        frames: (T, D, H, W), 0 and 1, at least one voxel filled.
        times: (T,) different whole numbers, when they were read: voxels of the cube's time axis,
            counted from anywhere.
        world: how the cube is made.
    """

    def __init__(self, frames: ArrayLike, times: Sequence[int], world: World = WORLD):
        self.world, self._prior = world, prior(world)
        frames, times = _observed(frames, world), np.asarray(times)
        if times.shape != frames.shape[:1] or times.dtype.kind not in "iu":
            raise ValueError(f"times is {times}; expected {len(frames)} whole numbers.")
        seen = frames.reshape(len(frames), -1)  # (T, blocks)
        filled = seen.any(axis=1)
        if not filled.any():
            raise ValueError("All frames are empty: nothing is known of the ball. See `Ideal`.")
        most = len(self._prior) - 1
        reach = math.isqrt(most)
        earliest, latest = times[filled].max() - reach, times[filled].min() + reach
        moments = np.arange(earliest, latest + 1)
        places = _places(frames[filled], world.pooling)
        squares = _squares(places, world)  # (S, blocks)
        low = np.zeros((len(moments), len(places)), int)
        high = np.full(low.shape, most)
        # Of the blocks that the largest ball cannot reach, those seen empty say nothing.
        near = seen.any(axis=0) | (squares.min(axis=0, initial=most) < most)
        columns = np.ascontiguousarray(squares[:, near].T)  # (blocks, S)
        # A ball in space and time: squared distances in both add up.
        for frame, time in zip(seen[:, near], times):
            since = (moments - time)[:, np.newaxis] ** 2
            low = np.maximum(low, since + columns[frame].max(axis=0)) if frame.any() else low
            high = np.minimum(high, since + columns[~frame].min(axis=0, initial=most))
        walls = np.minimum(places, world.resolution - 1 - places).min(axis=1) - world.border
        high = np.minimum(high, np.maximum(walls + 1, 0) ** 2)
        low = np.minimum(low, most)
        weights = np.maximum(self._prior[high] - self._prior[low], 0)
        if not weights.any():
            raise ValueError("No ball of this world fills the frames as they are.")
        k, s = weights.any(axis=1), weights.any(axis=0)
        self.moments, self.places, self._squares = moments[k], places[s], squares[s]
        self.low, self.high, weights = (each[k][:, s] for each in (low, high, weights))
        self._total = weights.sum()
        self.weights = weights / self._total

    def probability(self, times: Sequence[int]) -> np.ndarray:
        """Return how likely each voxel of frames is filled: times (K,) to float64 (K, D, H, W)."""
        share, most = self._prior / self._total, len(self._prior) - 1
        steps, side = np.arange(most + 1), self.world.resolution // self.world.pooling
        squares, rows = np.minimum(self._squares, most), np.arange(len(self.places))[:, np.newaxis]
        low, high = share[self.low][..., np.newaxis], share[self.high][..., np.newaxis]
        found = []
        for time in times:
            # At this time the ball is one in space; its squared radius there is at least n with
            # the probability wide[:, n].
            wide = np.zeros((len(self.places), most + 1))
            for k, since in enumerate((self.moments - time) ** 2):
                if since < most:
                    larger = share[np.minimum(steps + since, most)]
                    wide += np.maximum(high[k] - np.maximum(low[k], larger), 0)
            found.append(wide[rows, squares].sum(axis=0).reshape(side, side, side))
        return np.clip(found, 0, 1)

    def by_moment_and_radius(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the radii (N,), and how likely they are with each moment of the centre: (K, N)."""
        most = len(self._prior) - 1
        count = np.zeros((len(self.moments), most + 1))
        k, s = np.nonzero(self.weights)
        np.add.at(count, (k, self.low[k, s]), 1)
        np.add.at(count, (k, self.high[k, s]), -1)
        share = np.diff(self._prior) / self._total
        return np.sqrt(np.arange(most) + 0.5), np.cumsum(count, axis=1)[:, :-1] * share

    def spread(self) -> np.ndarray:
        """Return the standard deviations of the centre (t, d, h, w) and the radius: voxels (5,)."""
        radii, joint = self.by_moment_and_radius()
        somewhere, sized = self.weights.sum(axis=0), joint.sum(axis=0)
        pairs = [(self.moments, self.weights.sum(axis=1))]
        pairs += [(axis, somewhere) for axis in self.places.T] + [(radii, sized)]
        means = [values @ weights for values, weights in pairs]
        squared = [(v - mean) ** 2 @ weights for (v, weights), mean in zip(pairs, means)]
        # Within a step of ⌊a²⌋ no frame tells radii apart.
        squared[-1] += np.diff(np.sqrt(np.arange(len(radii) + 1))) ** 2 / 12 @ sized
        return np.sqrt(squared)


@dataclass(frozen=True)
class Ideal:
    """The forecaster that nobody can beat where there is one ball; see `Posterior`.

    It knows the world and the time step, and of the moment only that all are equally likely. Before
    a ball has been seen it forecasts an empty frame: a ball that begins may begin anywhere, so that
    no voxel has a probability worth naming. It takes nothing but observed frames: for what lies
    further ahead it gives several frames at once.

    Attributes:
        step: time points from frame to frame, the TINC of a `helpers.sequences.FrameFormat`.
        world: how the cubes are made.
        ahead: so many frames at once.
        name: what tables call it.
    """

    step: int = _checks.field(least=1, whole=True)
    world: World = WORLD
    ahead: int = _checks.field(5, least=1, whole=True)
    name: str = "ideal"

    def __post_init__(self):
        _checks.configuration(self)

    def __call__(self, history: ArrayLike) -> np.ndarray:
        """Return the next frame: (B, T, D, H, W) of 0 and 1 to (B, D, H, W), values 0…1."""
        return self._forecast(history, 1)[:, 0]

    def several(self, history: ArrayLike) -> np.ndarray:
        """Return the next frames: (B, T, D, H, W) of 0 and 1 to (B, `ahead`, D, H, W)."""
        return self._forecast(history, self.ahead)

    def _forecast(self, history: ArrayLike, ahead: int) -> np.ndarray:
        history = _checks.voxels("history", history, axes=(5,))
        stride = self.step * self.world.resolution // self.world.time_points
        times = stride * np.arange(1 - history.shape[1], 1 + ahead)
        found = np.zeros((len(history), ahead, *history.shape[2:]), np.float32)
        for frames, forecast in zip(history, found):
            if frames.any():
                posterior = Posterior(frames, times[:-ahead], self.world)
                forecast[:] = posterior.probability(times[-ahead:])
        return found


def _observed(frames: ArrayLike, world: World) -> np.ndarray:
    """Return frames as bool (T, D, H, W), or say what is wrong with them."""
    frames = _checks.voxels("frames", frames, axes=(4,))
    side = world.resolution // world.pooling
    if frames.shape[1:] != (side,) * 3:
        raise ValueError(
            f"frames has shape {frames.shape}; expected (T, {side}, {side}, {side}), as in this "
            "world."
        )
    if not ((frames == 0) | (frames == 1)).all():
        raise ValueError(
            "frames has values between 0 and 1; expected observed ones, of 0 and 1. For steps "
            "further ahead take `Posterior.probability` or `Ideal.several`."
        )
    return frames.astype(bool)


def _places(filled: np.ndarray, size: int) -> np.ndarray:
    """Return where in space a ball's centre can be: (S, 3), from frames (T, D, H, W) that show it.

    In each frame the ball reaches equally far to both sides: the first block along an axis that is
    filled holds its first voxel, the last block its last one, and the centre lies midway.
    """
    ranges = []
    for axis in (1, 2, 3):
        shadow = filled.any(axis=tuple({1, 2, 3} - {axis}))  # (T, blocks along the axis)
        both = shadow.argmax(axis=1) + shadow.shape[1] - 1 - shadow[:, ::-1].argmax(axis=1)
        first, last = -(-size * both // 2).max(), (size * both // 2 + size - 1).min()
        ranges.append(np.arange(first, last + 1))
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)


def _squares(places: np.ndarray, world: World) -> np.ndarray:
    """Return squared distances from places (S, 3) to the nearest voxel of each block: (S, blocks).

    Whole numbers; blocks come in reading order, as the voxels of a pooled frame do.
    """
    first = np.arange(0, world.resolution, world.pooling)
    beyond = np.maximum(first - places[..., np.newaxis], 0)
    beyond += np.maximum(places[..., np.newaxis] - first - world.pooling + 1, 0)
    d, h, w = np.moveaxis(beyond.astype(np.int32) ** 2, 1, 0)  # each (S, blocks along the axis)
    found = d[:, :, None, None] + h[:, None, :, None] + w[:, None, None, :]
    return found.reshape(len(places), -1)
