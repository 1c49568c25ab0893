"""The simulated world: four kinds of 4D solids at rest in a cube, read as 3D frames over time.

Hannouch & Chalup (arXiv 2306.14442) put cavities into a 4D cube; the thesis reads the fourth axis
as time. This file draws such cubes: how many cavities of each kind, how large, how turned, where;
then voxels, max-pooled in space, and the Betti numbers of the material around the cavities.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice

import numpy as np

SOLIDS = ("B⁴", "S¹×B³", "S²×B²", "S¹×S¹×B²")
BALL, RING, SHELL, TORUS = range(4)

# A bound is trusted only beyond this margin, far above the rounding of float64 at these sizes.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Solid:
    """One cavity: its kind, where it is, how it is turned and how large it is.

    Attributes:
        kind: index into `SOLIDS`.
        centre: voxel (t, d, h, w) at full resolution.
        rotation: (4, 4) in SO(4); column k is the direction of the solid's own axis k = x, y, z, w
            in the cube, written in the order (W, H, D, T). The identity puts w along time.
        a: radius of the ball, or of the tube around the solid's core, in voxels.
        r: radius of the core circle or sphere; 0 for the ball.
        R: distance of the core circle from the axis it turns about; S¹×S¹×B² only.
        alpha: tilt of that circle, in radians; S¹×S¹×B² only.
    """

    kind: int
    centre: tuple[int, int, int, int]
    rotation: np.ndarray
    a: float
    r: float = 0.0
    R: float = 0.0
    alpha: float = 0.0

    def distance(self, t, d, h, w) -> np.ndarray:
        """Return the signed distance of points to the surface, negative inside, in voxels.

        The function is exact outside and 1-Lipschitz everywhere. Every point is computed by the
        same elementwise operations, so that its value does not depend on the array it is part of.

        Args:
            t, d, h, w: coordinates in the cube, arrays that broadcast against each other.
        """
        turn = self.rotation
        dt, dd, dh, dw = (np.asarray(c, float) - m for c, m in zip((t, d, h, w), self.centre))
        x, y, z, v = (
            turn[0, k] * dw + turn[1, k] * dh + turn[2, k] * dd + turn[3, k] * dt for k in range(4)
        )
        if self.kind == BALL:
            return np.sqrt(x * x + y * y + z * z + v * v) - self.a
        if self.kind == RING:
            q = np.sqrt(x * x + y * y) - self.r
            return np.sqrt(q * q + z * z + v * v) - self.a
        if self.kind == SHELL:
            q = np.sqrt(x * x + y * y + z * z) - self.r
            return np.sqrt(q * q + v * v) - self.a
        cos, sin = np.cos(self.alpha), np.sin(self.alpha)
        q = np.sqrt(x * x + y * y) - self.R
        across = cos * v - sin * q
        along = cos * q + sin * v
        ring = np.sqrt(across * across + z * z) - self.r
        return np.sqrt(ring * ring + along * along) - self.a

    def reach(self) -> np.ndarray:
        """Return how far the solid extends from its centre along (T, D, H, W), in voxels: (4,)."""
        u = self.rotation[::-1]  # row = cube axis in the order (T, D, H, W), column = own axis
        flat = np.sqrt(u[:, 0] ** 2 + u[:, 1] ** 2)
        if self.kind == BALL:
            core = np.zeros(4)
        elif self.kind == RING:
            core = self.r * flat
        elif self.kind == SHELL:
            core = self.r * np.sqrt(flat**2 + u[:, 2] ** 2)
        else:
            across = np.cos(self.alpha) * np.abs(u[:, 3]) + np.sin(self.alpha) * flat
            core = self.R * flat + self.r * np.sqrt(across**2 + u[:, 2] ** 2)
        return core + self.a

    def radius(self) -> float:
        """Return the radius of a ball about the centre that holds the whole solid, in voxels."""
        return self.R + self.r + self.a


@dataclass(frozen=True, eq=False)
class Sample:
    """One sequence with its labels.

    Attributes:
        frames: uint8 (T, D, H, W), values 0 and 1; 1 = some of the voxel lies in a cavity.
        betti: uint8 (4,), Betti numbers b0…b3 of the material around the cavities.
        objects: uint8 (4,), how many cavities of each kind in `SOLIDS`.
        sample_id: its number in a data set.
        solids: the cavities themselves; empty for a sample that was read from a file.
        resolution: voxels per axis of the cube; 0 for a sample that was read from a file.
    """

    frames: np.ndarray
    betti: np.ndarray
    objects: np.ndarray
    sample_id: int = 0
    solids: tuple[Solid, ...] = ()
    resolution: int = 0

    @property
    def file_name(self) -> str:
        """Its file name in the thesis layout, for example `4d_mixed_#7_12_16.tfrecords`."""
        cavities = int(np.sum(self.objects, dtype=int))
        return f"4d_mixed_#{self.sample_id}_{cavities}_{self.frames.shape[-1]}.tfrecords"


@dataclass(frozen=True)
class World:
    """How a cube is made; lengths in voxels of the full resolution.

    Attributes:
        resolution: voxels per axis of the 4D cube; the radius laws scale with it.
        pooling: edge of the blocks of voxels that max-pooling makes one voxel of a frame.
        time_points: frames per sequence: the cube is read at so many equally spaced times.
        border: so many layers of voxels stay free on each side of each axis.
        gap: two cavities are further apart than this. Beyond 2, no voxel of one is a neighbour of
            a voxel of the other, not even diagonally.
        ball: smallest and largest radius a of B⁴, uniform between, in 128ths of the cube.
        ring_tube, ring_ratio: the same for a and r/a of S¹×B³.
        shell_tube, shell_ratio: the same for a and r/a of S²×B².
        torus_tube, torus_ratio, torus_hub: the same for a, r/a and R/(r + a) of S¹×S¹×B².
        attempts: positions tried for one cavity before all of them are drawn anew.
        restarts: how often all cavities are drawn anew before giving up.
    """

    resolution: int = 128
    pooling: int = 8
    time_points: int = 128
    border: int = 1
    gap: float = 2.0
    ball: tuple[float, float] = (7.0, 24.0)
    ring_tube: tuple[float, float] = (4.5, 13.0)
    ring_ratio: tuple[float, float] = (1.5, 2.1)
    shell_tube: tuple[float, float] = (4.0, 12.0)
    shell_ratio: tuple[float, float] = (1.4, 2.0)
    torus_tube: tuple[float, float] = (3.0, 8.0)
    torus_ratio: tuple[float, float] = (1.4, 2.0)
    torus_hub: tuple[float, float] = (1.2, 1.6)
    attempts: int = 100
    restarts: int = 50

    @property
    def times(self) -> np.ndarray:
        """The voxel index along the time axis of each frame: int (time_points,)."""
        stride = self.resolution // self.time_points
        return np.arange(self.time_points) * stride + stride // 2


def betti_numbers(objects: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the Betti numbers b0…b3 of the material around the cavities: uint8 (4,).

    By Alexander duality each cavity adds its own Betti numbers in the complementary dimension:
    b = [1, n2 + n3, n1 + 2·n3, n0 + n1 + n2 + n3] (Hannouch & Chalup, arXiv 2306.14442).

    Args:
        objects: (4,) non-negative whole numbers, cavities of each kind in `SOLIDS`.

    Raises:
        ValueError: not four non-negative whole numbers, or a Betti number beyond 255.
    """
    counts = np.asarray(objects)
    if counts.shape != (4,) or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(
            f"Expected four counts of cavities, whole numbers of at least 0, found {objects!r}."
        )
    n0, n1, n2, n3 = (int(n) for n in counts)
    betti = [1, n2 + n3, n1 + 2 * n3, n0 + n1 + n2 + n3]
    if max(betti) > 255:
        raise ValueError(f"Betti numbers {betti} do not fit into 8 bits: use fewer cavities.")
    return np.array(betti, np.uint8)


@lru_cache(maxsize=1)
def _allowed() -> np.ndarray:
    grid = np.indices((17,) * 4).reshape(4, -1).T
    total, twice = grid.sum(1), grid[:, 1] + 2 * grid[:, 3]
    table = grid[(total >= 1) & (total <= 16) & (twice <= 16)].astype(np.uint8)
    table.flags.writeable = False
    return table


def allowed_counts() -> np.ndarray:
    """Return every allowed tuple of counts: uint8 (4184, 4), sorted.

    Allowed are 1 ≤ n0 + n1 + n2 + n3 ≤ 16 with n1 + 2·n3 ≤ 16, as in the thesis's data.
    """
    return _allowed().copy()


def sample_sequence(
    rng: np.random.Generator, world: World = World(), *, sample_id: int = 0
) -> Sample:
    """Draw one cube and return it as frames: `frames` (T, D, H, W) uint8 and exact labels.

    Args:
        rng: NumPy's random generator; the sample depends on nothing else.
        world: how the cube is made.
        sample_id: the number the sample gets.

    Raises:
        ValueError: the world cannot be made, see `check_world`.
        RuntimeError: the cavities found no place in a bounded number of attempts.
    """
    check_world(world)
    objects = _allowed()[rng.integers(len(_allowed()))]
    return render(place(objects, rng, world), world, sample_id=sample_id)


def render(solids: Sequence[Solid], world: World = World(), *, sample_id: int = 0) -> Sample:
    """Turn solids into a sample: pooled frames (T, D, H, W), counts and Betti numbers.

    Raises:
        ValueError: the world cannot be made, see `check_world`.
    """
    check_world(world)
    side = world.resolution // world.pooling
    frames = np.zeros((world.time_points, side, side, side), np.uint8)
    for solid in solids:
        _add_pooled(frames, solid, world)
    objects = np.bincount([s.kind for s in solids], minlength=4).astype(np.uint8)
    return Sample(
        frames, betti_numbers(objects), objects, sample_id, tuple(solids), world.resolution
    )


def check_world(world: World) -> None:
    """Check that a world can be made.

    Raises:
        ValueError: sizes that are not whole, do not divide each other or leave no room.
    """


def place(objects: Sequence[int], rng: np.random.Generator, world: World = World()) -> list[Solid]:
    """Draw cavities of the wanted kinds that keep clear of the border and of each other."""
    kinds = np.repeat(np.arange(4), np.asarray(objects, int))
    for _ in range(world.restarts):
        shapes = [_draw_shape(int(kind), rng, world) for kind in kinds]
        shapes.sort(key=Solid.radius, reverse=True)
        placed: list[Solid] = []
        for shape in shapes:
            solid = _find_place(shape, placed, rng, world)
            if solid is None:
                break
            placed.append(solid)
        else:
            return placed
    raise RuntimeError(
        f"No room for {list(map(int, objects))} cavities after {world.restarts} restarts: use fewer "
        "or smaller cavities, or raise `attempts` or `restarts`."
    )


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation uniformly (Haar measure) from SO(4): float64 (4, 4).

    QR decomposition of a normal matrix with the signs of R's diagonal moved into Q, after
    Mezzadri, "How to generate random matrices from the classical compact groups" (2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((4, 4)))
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return q


def _draw_shape(kind: int, rng: np.random.Generator, world: World) -> Solid:
    scale = world.resolution / 128
    r = big = alpha = 0.0
    if kind == BALL:
        a = rng.uniform(*world.ball)
    elif kind == RING:
        a = rng.uniform(*world.ring_tube)
        r = a * rng.uniform(*world.ring_ratio)
    elif kind == SHELL:
        a = rng.uniform(*world.shell_tube)
        r = a * rng.uniform(*world.shell_ratio)
    else:
        a = rng.uniform(*world.torus_tube)
        r = a * rng.uniform(*world.torus_ratio)
        big = (r + a) * rng.uniform(*world.torus_hub)
        alpha = rng.uniform(0, np.pi / 2)
    return Solid(kind, (0, 0, 0, 0), np.eye(4), a * scale, r * scale, big * scale, alpha)


def _find_place(
    shape: Solid, placed: list[Solid], rng: np.random.Generator, world: World
) -> Solid | None:
    for _ in range(world.attempts):
        turned = replace(shape, rotation=random_rotation(rng))
        margin = np.floor(turned.reach()).astype(int) + world.border
        if (2 * margin > world.resolution - 1).any():
            continue
        centre = rng.integers(margin, world.resolution - margin)
        solid = replace(turned, centre=tuple(int(c) for c in centre))
        if not any(touching(solid, other, world.gap) for other in placed):
            return solid
    return None


def touching(one: Solid, other: Solid, gap: float = 2.0) -> bool:
    """Tell whether two solids come within `gap` voxels of each other.

    They do if and only if, each swollen by gap / 2, they share a point. The cube is searched for
    one by halving cells: a cell whose centre is further from one of the two than the cell's half
    diagonal holds none. Solids within 0.05 voxels of the limit count as touching.
    """
    swell = gap / 2
    between = np.subtract(one.centre, other.centre)
    if between @ between > (one.radius() + other.radius() + gap) ** 2:
        return False
    low = np.maximum(one.centre - one.reach(), other.centre - other.reach()) - swell
    high = np.minimum(one.centre + one.reach(), other.centre + other.reach()) + swell
    if (low > high).any():
        return False
    edge = 4.0
    steps = [np.arange(n) for n in np.ceil((high - low) / edge).astype(int).clip(1)]
    cells = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 4) * edge + low + edge / 2
    corners = np.indices((2,) * 4).reshape(4, -1).T - 0.5
    while True:
        worst = np.maximum(one.distance(*cells.T), other.distance(*cells.T))
        if (worst <= swell).any():
            return True
        cells = cells[worst <= swell + edge]  # half the diagonal of a 4D cell is its edge
        if not len(cells):
            return False
        if edge < 0.05:
            return True
        edge /= 2
        cells = (cells[:, None] + corners * edge).reshape(-1, 4)


def _add_pooled(frames: np.ndarray, solid: Solid, world: World) -> None:
    """Set the voxels of pooled `frames` (T, D, H, W) that hold a voxel of `solid`, in place."""
    reach, centre, size = solid.reach(), np.array(solid.centre), world.pooling
    low = np.maximum(np.ceil(centre - reach), 0).astype(int)
    high = np.minimum(np.floor(centre + reach), world.resolution - 1).astype(int)
    first, last = low[1:] // size, high[1:] // size
    inside = np.flatnonzero((world.times >= low[0]) & (world.times <= high[0]))
    if not len(inside):
        return
    window = frames[
        inside[0] : inside[-1] + 1,
        first[0] : last[0] + 1,
        first[1] : last[1] + 1,
        first[2] : last[2] + 1,
    ]
    grid = np.ix_(world.times[inside], *(np.arange(f, l + 1) * size for f, l in zip(first, last)))
    middle = (size - 1) / 2
    value = solid.distance(grid[0], *(axis + middle for axis in grid[1:]))
    sure, maybe = _decide(value, size)
    window[sure] = 1
    block = np.nonzero(maybe & (window == 0))
    corner = [axis.ravel()[index] for axis, index in zip(grid, block)]
    hit = _any_voxel(solid, corner, size)
    window[tuple(index[hit] for index in block)] = 1


def _decide(value: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """From the distance at the centres of blocks: (surely hit, undecided), both bool."""
    if size == 1:
        return value <= 0, np.zeros(value.shape, bool)
    nearest = 0.0 if size % 2 else np.sqrt(3) / 2
    sure = value <= -nearest - _ROUNDING
    return sure, ~sure & (value <= np.sqrt(3) * (size - 1) / 2 + _ROUNDING)


def _any_voxel(solid: Solid, corner: list[np.ndarray], size: int) -> np.ndarray:
    """Tell for each block whether it holds a voxel of the solid: bool (blocks,).

    Args:
        corner: time and first voxel of each block: four int arrays (blocks,) for T, D, H, W.
        size: edge of the blocks.
    """
    hit = np.zeros(len(corner[0]), bool)
    owner = np.arange(len(hit))
    t, *space = corner
    while size > 1 and len(owner):
        parts = next(p for p in range(2, size + 1) if size % p == 0)
        size //= parts
        shift = np.indices((parts,) * 3).reshape(3, -1) * size
        space = [axis[:, None] + step for axis, step in zip(space, shift)]
        value = solid.distance(t[:, None], *(axis + (size - 1) / 2 for axis in space))
        sure, maybe = _decide(value, size)
        hit[owner[sure.any(1)]] = True
        maybe &= ~hit[owner][:, None]
        row, column = np.nonzero(maybe)
        space = [axis[row, column] for axis in space]
        t, owner = t[row], owner[row]
    return hit


def generate(
    count: int,
    seed: int,
    world: World = World(),
    *,
    processes: int = 1,
    first_id: int = 0,
) -> Iterator[Sample]:
    """Yield `count` samples in order, the same for any number of processes."""
    check_world(world)
    jobs = ((seed, number, world) for number in range(first_id, first_id + count))
    return map(_make, jobs)


def _make(job: tuple[int, int, World]) -> Sample:
    seed, number, world = job
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    return sample_sequence(rng, world, sample_id=number)
