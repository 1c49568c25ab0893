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
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import numpy as np

from helpers import _checks, _processes

SOLIDS = ("B⁴", "S¹×B³", "S²×B²", "S¹×S¹×B²")
BALL, RING, SHELL, TORUS = range(4)

# Of each kind the typical radii (a), (a, r) or (a, r, R), in 128ths of the cube. A cavity's radii
# are these times one size, uniform in SIZES, times a factor of its own for each radius, uniform in
# 1 ± JITTER. So its kind keeps its holes, whatever is drawn.
RADII = ((15.0,), (8.6, 17.0), (6.2, 13.5), (4.65, 7.9, 16.4))
SIZES = (0.53, 1.47)
JITTER = 0.12
# So many turns and positions are tried for one cavity before all are drawn anew, so many times.
ATTEMPTS, RESTARTS = 100, 50

# In place of both labels of a sample whose cavities nobody has counted: people's own data.
UNLABELLED = np.full(4, 255, np.uint8)
UNLABELLED.flags.writeable = False

# The order in which `random_rotation` turns by angles: the last of the four axes is moved first.
_PLANES = ((2, 3), (1, 3), (1, 2), (0, 3), (0, 2), (0, 1))

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


@dataclass(frozen=True)
class World:
    """How a cube is made; `RADII`, `SIZES`, `gap` and `border` are fitted to the thesis's data.

    How this was fitted, to the 25,600 training samples: sizes to how long isolated balls last
    (radii of 7 to 25, evenly between 9 and 20, fading out on both sides); typical radii and turns
    of each kind to the extents of its isolated cavities along the four axes, to the occupancy that
    one more of it adds (a linear fit), and to the Jaccard distance between neighbouring frames of
    samples with that kind alone; the gap to the short pauses in the columns of samples with balls
    alone. Sizes show no dependence on the number of cavities, so there is none here. The rise of
    occupancy after the first frame was not fitted: it follows from the border and the turns.

    Attributes:
        resolution: voxels per axis of the 4D cube.
        pooling: edge of the blocks of voxels that max-pooling makes one voxel of a frame.
        time_points: frames per sequence; the cube is read at so many equally spaced times.
        border: so many layers of voxels stay free on each side of each axis.
        gap: cavities keep further apart than this, in 128ths of the cube, and in any case further
            than 2 voxels: then no voxel of one is a neighbour of another's, not even diagonally.
    """

    resolution: int = _checks.field(128, least=1, whole=True)
    pooling: int = _checks.field(8, least=1, whole=True)
    time_points: int = _checks.field(128, least=1, whole=True)
    border: int = _checks.field(1, least=0, whole=True)
    gap: float = _checks.field(6.0, least=0)

    def __post_init__(self):
        _checks.configuration(self)
        for name in ("pooling", "time_points"):
            if self.resolution % getattr(self, name):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected a divisor of the resolution, "
                    f"{self.resolution}."
                )
        # In a coarse cube tubes are widened to a voxel: no radius is above 8.
        largest = max(8, SIZES[1] * (1 + JITTER) * sum(RADII[TORUS]) * self.scale)
        if int(largest) + self.border > (self.resolution - 1) // 2:
            raise ValueError(
                f"The largest cavity has a radius of {largest:.0f} voxels and does not fit into a "
                f"cube of resolution {self.resolution} with border {self.border}; use a higher "
                "resolution or a thinner border."
            )

    @property
    def scale(self) -> float:
        """Voxels per 128th of the cube."""
        return self.resolution / 128

    @property
    def times(self) -> np.ndarray:
        """The position of each frame on the time axis of the cube, in voxels: int (T,)."""
        stride = self.resolution // self.time_points
        return np.arange(self.time_points) * stride + stride // 2


@dataclass(frozen=True, eq=False)
class Sample:
    """One sequence with its labels.

    Attributes:
        frames: uint8 (T, D, H, W), values 0 and 1; 1 = some of the voxel lies in a cavity.
        betti: uint8 (4,), Betti numbers b0…b3 of the material around the cavities; `UNLABELLED`,
            in both labels, where nobody has counted them.
        objects: uint8 (4,), how many cavities of each kind in `SOLIDS`.
        sample_id: its number in a data set.
        solids: the cavities themselves; empty for a sample that was read from a file.
        world: how its cube was made; None for a sample that was read from a file.
    """

    frames: np.ndarray
    betti: np.ndarray
    objects: np.ndarray
    sample_id: int = 0
    solids: tuple[Solid, ...] = ()
    world: World | None = None

    @property
    def file_name(self) -> str:
        """Its file name in the thesis layout, for example `4d_mixed_#7_12_16.tfrecords`.

        The second number counts the cavities; 255 in an `UNLABELLED` sample.
        """
        counted = not np.array_equal(self.objects, UNLABELLED)
        cavities = int(np.sum(self.objects, dtype=int)) if counted else 255
        return f"4d_mixed_#{self.sample_id}_{cavities}_{self.frames.shape[-1]}.tfrecords"


def betti_numbers(objects: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the Betti numbers b0…b3 of the material around the cavities: uint8 (4,).

    By Alexander duality each cavity adds its own Betti numbers in the complementary dimension:
    b = [1, n2 + n3, n1 + 2·n3, n0 + n1 + n2 + n3] (Hannouch & Chalup, arXiv 2306.14442).

    Args:
        objects: (4,) whole numbers of at least 0, cavities of each kind in `SOLIDS`; not so many
            that a Betti number is above 255.
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


@cache
def allowed_counts() -> np.ndarray:
    """Return every allowed tuple of counts: uint8 (4184, 4), sorted, not to be written to.

    Allowed are 1 ≤ n0 + n1 + n2 + n3 ≤ 16 with n1 + 2·n3 ≤ 16, as in the thesis's data.
    """
    grid = np.indices((17,) * 4).reshape(4, -1).T
    total, twice = grid.sum(1), grid[:, 1] + 2 * grid[:, 3]
    table = grid[(total >= 1) & (total <= 16) & (twice <= 16)].astype(np.uint8)
    table.flags.writeable = False
    return table


def sample_sequence(
    rng: np.random.Generator, world: World = World(), *, sample_id: int = 0
) -> Sample:
    """Draw one cube and return it as a sequence: `frames` (T, D, H, W) and its exact labels.

    The counts are uniform over `allowed_counts()`; `place` draws the cavities. The sample depends
    on the random generator and the world alone.
    """
    table = allowed_counts()
    return render(place(table[rng.integers(len(table))], rng, world), world, sample_id=sample_id)


def place(
    objects: Sequence[int] | np.ndarray, rng: np.random.Generator, world: World = World()
) -> tuple[Solid, ...]:
    """Draw cavities of the wanted kinds that keep clear of the border and of each other.

    One after another, in random order, each is turned at random and put on a voxel that is uniform
    among those where it keeps the border free, until it keeps clear of those before it. If one
    finds no place, all start again with new radii but the same counts: so counts stay uniform.

    Args:
        objects: (4,) how many of each kind in `SOLIDS`, whole numbers.
    """
    betti_numbers(objects)
    kinds = rng.permutation(np.repeat(np.arange(4), np.asarray(objects, int)))
    for _ in range(RESTARTS):
        placed: list[Solid] = []
        for kind in kinds:
            solid = _find_place(_draw_shape(int(kind), rng, world), placed, rng, world)
            if solid is None:
                break
            placed.append(solid)
        else:
            return tuple(placed)
    raise RuntimeError(
        f"Found no room for {[int(n) for n in objects]} cavities of the four kinds in "
        f"{RESTARTS} restarts of {ATTEMPTS} attempts each: ask for fewer cavities or a smaller gap."
    )


def render(solids: Sequence[Solid], world: World = World(), *, sample_id: int = 0) -> Sample:
    """Turn solids into a sample: pooled frames (T, D, H, W), counts and Betti numbers.

    The frames equal those from all voxels (inside where the distance is at most 0) and max-pooling
    in space, bit for bit. But blocks of voxels are decided whole where the distance at their centre
    allows it, and halved where it does not.
    """
    side = world.resolution // world.pooling
    frames = np.zeros((world.time_points, side, side, side), np.uint8)
    for solid in solids:
        _add(frames, solid, world.times, world)
    objects = np.bincount([solid.kind for solid in solids], minlength=4).astype(np.uint8)
    return Sample(frames, betti_numbers(objects), objects, sample_id, tuple(solids), world)


def full_frames(sample: Sample, times: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Return frames before pooling: uint8 (n, resolution, resolution, resolution), values 0, 1.

    Args:
        sample: a generated sample; one read from a file does not know its solids.
        times: which frames of the sequence, whole numbers in 0…T-1; all when left out, which takes
            256 MiB at 128 frames of 128³.
    """
    if sample.world is None:
        raise ValueError(
            "Full resolution needs a generated sample; one read from a file holds only pooled "
            "frames. Make one with sample_sequence() or render()."
        )
    world = replace(sample.world, pooling=1)
    chosen = world.times if times is None else world.times[np.atleast_1d(times)]
    frames = np.zeros((len(chosen),) + (world.resolution,) * 3, np.uint8)
    for frame, time in zip(frames, chosen):
        for solid in sample.solids:
            _add(frame[np.newaxis], solid, time[np.newaxis], world)
    return frames


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation from SO(4): float64 (4, 4), see `Solid` for the meaning of its columns.

    It turns in the six coordinate planes one after the other, each by a uniform angle. That is not
    uniform over SO(4): it favours directions, here so that cavities are shortest along time, as
    they are in the thesis's data.
    """
    turned = np.eye(4)  # rows (T, D, H, W), columns (x, z, y, w)
    for (i, j), angle in zip(_PLANES, rng.uniform(0, 2 * np.pi, 6)):
        cos, sin = np.cos(angle), np.sin(angle)
        turned[:, [i, j]] = turned[:, [i, j]] @ np.array([[cos, -sin], [sin, cos]])
    # The minus keeps the determinant at 1 where z and y change places.
    return turned[::-1, [0, 2, 1, 3]] * (1, 1, -1, 1)


def touching(one: Solid, other: Solid, gap: float = 2.0) -> bool:
    """Tell whether two solids come within `gap` voxels of each other.

    They do if and only if, each swollen by gap / 2, they share a point. That point is sought by
    halving cells: no cell holds one whose centre is further from either solid than half the cell's
    diagonal. Within 0.05 voxels of the limit the answer may be True although they keep clear; it
    is never False where they do not.
    """
    swell = gap / 2
    between = np.subtract(one.centre, other.centre)
    if between @ between > (one.radius() + other.radius() + gap) ** 2:
        return False
    low = np.maximum(one.centre - one.reach(), other.centre - other.reach()) - swell
    high = np.minimum(one.centre + one.reach(), other.centre + other.reach()) + swell
    if (low > high).any():
        return False
    edge = 8.0
    steps = [np.arange(n) for n in np.ceil((high - low) / edge).astype(int).clip(1)]
    cells = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 4) * edge + low + edge / 2
    corners = np.indices((2,) * 4).reshape(4, -1).T - 0.5
    while len(cells):
        outside = np.maximum(one.distance(*cells.T), other.distance(*cells.T))
        if (outside <= swell).any():
            return True
        # In 4D half the diagonal of a cell is as long as its edge.
        cells = cells[outside <= swell + edge]
        if edge < 0.05 and len(cells):
            return True
        edge /= 2
        cells = (cells[:, None] + corners * edge).reshape(-1, 4)
    return False


def generate(
    count: int, seed: int, world: World = World(), *, processes: int = 1, first_id: int = 0
) -> Iterator[Sample]:
    """Yield samples one by one, in order, with `sample_id` from `first_id` on.

    Sample k depends only on `seed`, k and `world`: neither on the number of processes nor on how
    many samples are asked for. The processes are fresh ones, so that TensorFlow may be loaded here;
    a script must therefore call this under `if __name__ == "__main__":`. They end when the last
    sample is taken, and when the caller stops early or is interrupted.

    Args:
        count, seed, first_id: whole numbers of at least 0.
        world: how the cubes are made.
        processes: how many samples are made side by side; 1 makes them in this process.
    """
    count, first_id = _checks.whole("count", count, 0), _checks.whole("first_id", first_id, 0)
    seed, processes = _checks.whole("seed", seed, 0), _checks.whole("processes", processes, 1)
    jobs = ((seed, number, world) for number in range(first_id, first_id + count))
    processes = min(processes, count)
    return map(_make, jobs) if processes <= 1 else _side_by_side(jobs, processes)


def _make(job: tuple[int, int, World]) -> Sample:
    seed, number, world = job
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    return sample_sequence(rng, world, sample_id=number)


def _side_by_side(jobs: Iterator[tuple[int, int, World]], processes: int) -> Iterator[Sample]:
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, _begin)
    try:
        # A bounded queue: a slow reader does not fill the memory with samples.
        waiting = deque(pool.submit(_make, job) for job in islice(jobs, 4 * processes))
        while waiting:
            sample = waiting.popleft().result()
            waiting.extend(pool.submit(_make, job) for job in islice(jobs, 1))
            yield sample
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Only the parent reacts to an interrupt, and ends the others; they end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _processes.end_with_parent()


def _draw_shape(kind: int, rng: np.random.Generator, world: World) -> Solid:
    """Draw a solid's radii; it stands unturned at the origin."""
    typical = np.array(RADII[kind]) * world.scale
    jitter = rng.uniform(1 - JITTER, 1 + JITTER, len(typical))
    radii = typical * rng.uniform(*SIZES) * jitter
    # In a coarse cube a tube thinner than a voxel would fall apart into loose voxels.
    radii = radii * max(1.0, 1 / radii[0])
    named = {name: float(size) for name, size in zip(("a", "r", "R"), radii)}
    alpha = float(rng.uniform(0, np.pi / 2)) if kind == TORUS else 0.0
    return Solid(kind, (0, 0, 0, 0), np.eye(4), **named, alpha=alpha)


def _find_place(
    shape: Solid, placed: list[Solid], rng: np.random.Generator, world: World
) -> Solid | None:
    clearance = max(2.0, world.gap * world.scale)
    for _ in range(ATTEMPTS):
        turned = replace(shape, rotation=random_rotation(rng))
        margin = np.floor(turned.reach()).astype(int) + world.border
        centre = rng.integers(margin, world.resolution - margin)
        solid = replace(turned, centre=tuple(int(c) for c in centre))
        if not any(touching(solid, other, clearance) for other in placed):
            return solid
    return None


def _add(frames: np.ndarray, solid: Solid, times: np.ndarray, world: World) -> None:
    """Set the voxels of pooled `frames` (n, D, H, W), one for each time, that hold `solid`."""
    size = world.pooling
    # Rounding must not cost a voxel on the surface.
    reach, centre = solid.reach() + _ROUNDING, np.array(solid.centre)
    low = np.maximum(np.ceil(centre - reach), 0).astype(int)
    high = np.minimum(np.floor(centre + reach), world.resolution - 1).astype(int)
    inside = np.flatnonzero((times >= low[0]) & (times <= high[0]))
    box = [np.arange(a, b + 1) for a, b in zip(low[1:] // size, high[1:] // size)]
    corner = [axis[..., None] for axis in np.ix_(times[inside], *(axis * size for axis in box))]
    frames[np.ix_(inside, *box)] |= _hit(solid, corner, size)


def _hit(solid: Solid, corner: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Tell which groups of blocks hold a voxel of a solid: bool (...), from (..., blocks).

    Args:
        corner: the first voxel of each block, T, D, H, W: arrays that broadcast.
        size: edge of the blocks.
    """
    t, *space = corner
    value = solid.distance(t, *(axis + (size - 1) / 2 for axis in space))
    if size == 1:
        return (value <= 0).any(-1)
    # Of a block with an even edge, the voxels nearest to the centre lie half a diagonal from it.
    hit = (value <= (0 if size % 2 else -np.sqrt(3) / 2) - _ROUNDING).any(-1)
    unsure = (value <= np.sqrt(3) * (size - 1) / 2 + _ROUNDING) & ~hit[..., np.newaxis]
    if unsure.any():
        parts = next(p for p in range(2, size + 1) if size % p == 0)
        shift = np.indices((parts,) * 3).reshape(3, -1) * (size // parts)
        t, *space = (axis[unsure][:, np.newaxis] for axis in np.broadcast_arrays(*corner))
        inner = [t, *(axis + step for axis, step in zip(space, shift))]
        unsure[unsure] = _hit(solid, inner, size // parts)
    return hit | unsure.any(-1)
