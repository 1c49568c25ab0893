"""The simulated world: four kinds of 4D solids at rest in a cube, read as 3D frames over time.

Hannouch & Chalup (arXiv 2306.14442) put cavities into a 4D cube; the thesis reads the fourth axis
as time. This file draws such cubes: how many cavities of each kind, how large, how turned, where;
then voxels, max-pooled in space, and the Betti numbers of the material around the cavities.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np

from helpers import _checks, _processes

SOLIDS = ("B⁴", "S¹×B³", "S²×B²", "S¹×S¹×B²")
BALL, RING, SHELL, TORUS = range(4)

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
    """How a cube is made; radii, `gap` and `border` are fitted to the thesis's data.

    A cavity's radii are its kind's typical radii times one size, uniform in `size`, times a factor
    of its own for each radius, uniform in 1 ± `jitter`.

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
        size: smallest and largest size, relative to the typical radii.
        jitter: how far each radius varies on its own.
        ball: typical a of B⁴, in 128ths of the cube.
        ring: typical (a, r) of S¹×B³.
        shell: typical (a, r) of S²×B².
        torus: typical (a, r, R) of S¹×S¹×B²; its tilt is uniform in 0…π/2.
        turns: how cavities are turned, `"angles"` as in the thesis's data or `"uniform"` over
            SO(4); see `random_rotation`.
        attempts: turns and positions tried for one cavity before all are drawn anew.
        restarts: how often all are drawn anew, with the same counts, before giving up.
    """

    resolution: int = 128
    pooling: int = 8
    time_points: int = 128
    border: int = 1
    gap: float = 6.0
    size: tuple[float, float] = (0.53, 1.47)
    jitter: float = 0.12
    ball: float = 15.0
    ring: tuple[float, float] = (8.6, 17.0)
    shell: tuple[float, float] = (6.2, 13.5)
    torus: tuple[float, float, float] = (4.65, 7.9, 16.4)
    turns: str = "angles"
    attempts: int = 100
    restarts: int = 50

    @property
    def times(self) -> np.ndarray:
        """The position of each frame on the time axis of the cube, in voxels: int (T,)."""
        return _times(self.resolution, self.time_points)

    @property
    def scale(self) -> float:
        """Voxels per 128th of the cube."""
        return self.resolution / 128

    @property
    def clearance(self) -> float:
        """Cavities keep further apart than this, in voxels."""
        return max(2.0, self.gap * self.scale)

    def typical(self, kind: int) -> tuple[float, ...]:
        """The typical radii (a), (a, r) or (a, r, R) of one kind, in 128ths of the cube."""
        return ((self.ball,), self.ring, self.shell, self.torus)[kind]


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
    """Draw one cube and return it as a sequence: `frames` (T, D, H, W) and its exact labels.

    The counts are uniform over `allowed_counts()`; `place` draws the cavities.

    Args:
        rng: NumPy's random generator; the sample depends on nothing else.
        world: how the cube is made.
        sample_id: the number the sample gets.

    Raises:
        ValueError: the world cannot be made, see `check_world`.
        RuntimeError: the cavities found no place in a bounded number of attempts.
    """
    check_world(world)
    table = _allowed()
    return render(place(table[rng.integers(len(table))], rng, world), world, sample_id=sample_id)


def place(
    objects: Sequence[int] | np.ndarray, rng: np.random.Generator, world: World = World()
) -> tuple[Solid, ...]:
    """Draw cavities of the wanted kinds that keep clear of the border and of each other.

    One after another, in random order, each is turned at random and put on a voxel that is uniform
    among those where it keeps the border free, until it keeps clear of those before it. If one
    finds no place, all start again with new radii but the same counts: so counts stay uniform.

    Args:
        objects: (4,) how many of each kind in `SOLIDS`.
        rng: NumPy's random generator.
        world: how the cube is made.

    Raises:
        ValueError: the counts are not four whole numbers of at least 0, or the world is wrong.
        RuntimeError: no room was found after `world.restarts` restarts.
    """
    check_world(world)
    betti_numbers(objects)
    kinds = rng.permutation(np.repeat(np.arange(4), np.asarray(objects, int)))
    for _ in range(world.restarts):
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
        f"{world.restarts} restarts of {world.attempts} attempts each: ask for fewer cavities, "
        "make them smaller, or raise `attempts` or `restarts`."
    )


def render(solids: Sequence[Solid], world: World = World(), *, sample_id: int = 0) -> Sample:
    """Turn solids into a sample: pooled frames (T, D, H, W), counts and Betti numbers.

    The frames equal those from all voxels (inside where the distance is at most 0) and max-pooling
    in space, bit for bit. But blocks of voxels are decided whole where the distance at their centre
    allows it, and halved where it does not.

    Raises:
        ValueError: the world cannot be made, see `check_world`.
    """
    check_world(world)
    side = world.resolution // world.pooling
    frames = np.zeros((world.time_points, side, side, side), np.uint8)
    for solid in solids:
        _add_pooled(frames, solid, world)
    objects = np.bincount([solid.kind for solid in solids], minlength=4).astype(np.uint8)
    return Sample(
        frames, betti_numbers(objects), objects, sample_id, tuple(solids), world.resolution
    )


def full_frames(sample: Sample, times: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Return frames before pooling: uint8 (n, resolution, resolution, resolution), values 0, 1.

    Args:
        sample: a generated sample; one read from a file does not know its solids.
        times: which frames of the sequence, whole numbers in 0…T-1; all when left out, which takes
            256 MiB at 128 frames of 128³.

    Raises:
        ValueError: the sample was not generated, or there is no such frame.
    """
    if not sample.resolution:
        raise ValueError(
            "Full resolution needs a generated sample; one read from a file holds only pooled "
            "frames. Make one with sample_sequence() or render()."
        )
    points = len(sample.frames)
    chosen = np.arange(points) if times is None else np.atleast_1d(times)
    if not np.issubdtype(chosen.dtype, np.integer) or chosen.ndim != 1:
        raise ValueError(f"Expected a list of frame numbers, found {times!r}.")
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= points):
        raise ValueError(f"Expected frame numbers in 0…{points - 1}, found {times!r}.")
    frames = np.zeros((len(chosen),) + (sample.resolution,) * 3, np.uint8)
    for solid in sample.solids:
        low, high = _box(solid, sample.resolution)
        space = tuple(slice(a, b + 1) for a, b in zip(low[1:], high[1:]))
        axes = np.ix_(*(np.arange(a, b + 1) for a, b in zip(low[1:], high[1:])))
        for frame, t in zip(frames, _times(sample.resolution, points)[chosen]):
            if low[0] <= t <= high[0]:
                frame[space] |= solid.distance(t, *axes) <= 0
    return frames


def random_rotation(rng: np.random.Generator, turns: str = "angles") -> np.ndarray:
    """Draw a rotation from SO(4): float64 (4, 4), see `Solid` for the meaning of its columns.

    `"uniform"` is uniform over SO(4) (Haar measure): the QR decomposition of a normal matrix with
    the signs of R's diagonal moved into Q (Mezzadri, arXiv math-ph/0609050). `"angles"` turns in
    the six coordinate planes one after the other, each by a uniform angle. That is not uniform: it
    favours directions, here so that cavities are shortest along time, as they are in the thesis's
    data.

    Raises:
        ValueError: `turns` is neither.
    """
    if turns == "uniform":
        q, r = np.linalg.qr(rng.standard_normal((4, 4)))
        q = q * np.sign(np.diag(r))
        if np.linalg.det(q) < 0:
            q[:, 0] = -q[:, 0]
        return q
    if turns != "angles":
        raise ValueError(f"Expected turns 'angles' or 'uniform', found {turns!r}.")
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
    count: int,
    seed: int,
    world: World = World(),
    *,
    processes: int = 1,
    first_id: int = 0,
) -> Iterator[Sample]:
    """Yield samples one by one, in order, with `sample_id` from `first_id` on.

    Sample k depends only on `seed`, k and `world`: neither on the number of processes nor on how
    many samples are asked for. The processes are fresh ones, so that TensorFlow may be loaded here;
    a script must therefore call this under `if __name__ == "__main__":`. They end when the last
    sample is taken, and when the caller stops early or is interrupted.

    Args:
        count: how many samples.
        seed: a whole number of at least 0.
        world: how the cubes are made.
        processes: how many samples are made side by side; 1 makes them in this process.
        first_id: number of the first sample.

    Raises:
        TypeError, ValueError: a number that is not whole or negative, no process, or a world that
            cannot be made.
        RuntimeError: cavities found no place, or a process ended unexpectedly.
    """
    check_world(world)
    for name, value, least in (
        ("count", count, 0),
        ("seed", seed, 0),
        ("processes", processes, 1),
        ("first_id", first_id, 0),
    ):
        _checks.whole(name, value, least)
    jobs = ((seed, number, world) for number in range(first_id, first_id + count))
    processes = min(processes, count)
    return map(_make, jobs) if processes <= 1 else _side_by_side(jobs, processes)


def _make(job: tuple[int, int, World]) -> Sample:
    seed, number, world = job
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    return sample_sequence(rng, world, sample_id=number)


def _side_by_side(jobs: Iterator[tuple[int, int, World]], processes: int) -> Iterator[Sample]:
    pool = concurrent.futures.ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
    )
    try:
        # A bounded queue: a slow reader does not fill the memory with samples.
        waiting = deque(pool.submit(_make, job) for job in islice(jobs, 4 * processes))
        while waiting:
            sample = waiting.popleft().result()
            waiting.extend(pool.submit(_make, job) for job in islice(jobs, 1))
            yield sample
    except concurrent.futures.process.BrokenProcessPool as error:
        raise RuntimeError(
            "A process that makes samples ended unexpectedly. In a script, call generate() under "
            '`if __name__ == "__main__":`; if memory ran out, use fewer processes.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Only the parent reacts to an interrupt, and ends the others; they end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _processes.end_with_parent()


def check_world(world: World) -> None:
    """Check that a world can be made.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: sizes that do not divide each other, radii that make no such solid or do not
            fit into the cube.
    """
    for name in ("resolution", "pooling", "time_points", "attempts", "restarts"):
        _checks.whole(name, getattr(world, name), 1)
    _checks.whole("border", world.border, 0)
    for name in ("pooling", "time_points"):
        if world.resolution % getattr(world, name):
            raise ValueError(
                f"Expected a resolution that {name} divides, found resolution {world.resolution} "
                f"and {name} {getattr(world, name)}: choose a divisor of {world.resolution}."
            )
    if world.turns not in ("angles", "uniform"):
        raise ValueError(f"Expected turns 'angles' or 'uniform', found {world.turns!r}.")
    if not 0 <= world.gap < np.inf:
        raise ValueError(f"Expected a gap of at least 0, found {world.gap!r}.")
    if not 0 <= world.jitter < 1:
        raise ValueError(f"Expected a jitter of at least 0 and below 1, found {world.jitter!r}.")
    if len(world.size) != 2 or not 0 < world.size[0] <= world.size[1] < np.inf:
        raise ValueError(f"Expected a smallest and a largest size above 0, found {world.size!r}.")
    for kind, solid in enumerate(SOLIDS):
        _check_radii(kind, solid, world)


def _check_radii(kind: int, name: str, world: World) -> None:
    typical = world.typical(kind)
    if len(typical) != (1, 2, 2, 3)[kind] or not all(0 < size < np.inf for size in typical):
        raise ValueError(f"Expected positive radii (a, r, R as needed) of {name}, found {typical}.")
    least, most = 1 - world.jitter, 1 + world.jitter
    a, r, big = (*typical, 0, 0)[:3]
    extreme = Solid(kind, (0,) * 4, np.eye(4), a * most, r * least, big * least, np.pi / 2)
    if kind == TORUS:  # the hub is tightest where r is large, the ring where it is small
        wide = replace(extreme, r=r * most)
        problem = _misshapen(wide) or _misshapen(replace(extreme, R=np.inf))
    else:
        problem = _misshapen(extreme)
    if problem:
        raise ValueError(
            f"With a jitter of {world.jitter} the radii {typical} of {name} make no such solid: "
            f"{problem}. Lower the jitter or change the radii."
        )
    largest = most * sum(typical) * world.size[1] * world.scale
    thinnest = least * a * world.size[0] * world.scale
    if thinnest < 1:
        largest = max(largest, 1 + sum(typical[1:]) / a * most / least)
    room = (world.resolution - 1) // 2 - world.border
    if np.floor(largest) > room:
        raise ValueError(
            f"The largest {name} has a radius of {largest:.1f} voxels, but at resolution "
            f"{world.resolution} with border {world.border} only {room + 1} are free: use a higher "
            "resolution, a thinner border or smaller radii."
        )


def _misshapen(solid: Solid) -> str:
    """Say what keeps a solid from having the topology of its kind; empty when all is well."""
    if not solid.a > 0:
        return f"a = {solid.a:g} must be above 0"
    if solid.kind != BALL and not solid.r > solid.a:
        return f"r = {solid.r:g} must exceed a = {solid.a:g}, or its hole closes"
    if solid.kind == TORUS:
        if not 0 <= solid.alpha <= np.pi / 2:
            return f"alpha = {solid.alpha:g} must lie in 0…π/2"
        need = solid.r * np.sin(solid.alpha) + solid.a
        if not solid.R > need:
            return f"R = {solid.R:g} must exceed r·sin(alpha) + a = {need:g}, or its hole closes"
    return ""


def _times(resolution: int, time_points: int) -> np.ndarray:
    stride = resolution // time_points
    return np.arange(time_points) * stride + stride // 2


def _draw_shape(kind: int, rng: np.random.Generator, world: World) -> Solid:
    """Draw a solid's radii; it stands unturned at the origin."""
    typical = np.array(world.typical(kind)) * world.scale
    jitter = rng.uniform(1 - world.jitter, 1 + world.jitter, len(typical))
    radii = typical * rng.uniform(*world.size) * jitter
    # In a coarse cube a tube thinner than a voxel would fall apart into loose voxels.
    radii = radii * max(1.0, 1 / radii[0])
    named = {name: float(size) for name, size in zip(("a", "r", "R"), radii)}
    alpha = float(rng.uniform(0, np.pi / 2)) if kind == TORUS else 0.0
    return Solid(kind, (0, 0, 0, 0), np.eye(4), **named, alpha=alpha)


def _find_place(
    shape: Solid, placed: list[Solid], rng: np.random.Generator, world: World
) -> Solid | None:
    for _ in range(world.attempts):
        turned = replace(shape, rotation=random_rotation(rng, world.turns))
        margin = np.floor(turned.reach()).astype(int) + world.border
        centre = rng.integers(margin, world.resolution - margin)
        solid = replace(turned, centre=tuple(int(c) for c in centre))
        if not any(touching(solid, other, world.clearance) for other in placed):
            return solid
    return None


def _box(solid: Solid, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last voxel (T, D, H, W) of the solid's bounding box in the cube."""
    # Rounding must not cost a voxel on the surface.
    reach, centre = solid.reach() + _ROUNDING, np.array(solid.centre)
    low = np.maximum(np.ceil(centre - reach), 0).astype(int)
    return low, np.minimum(np.floor(centre + reach), resolution - 1).astype(int)


def _add_pooled(frames: np.ndarray, solid: Solid, world: World) -> None:
    """Set the voxels of pooled `frames` (T, D, H, W) that hold a voxel of `solid`, in place."""
    size = world.pooling
    low, high = _box(solid, world.resolution)
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
    corners = (np.arange(low, high + 1) * size for low, high in zip(first, last))
    grid = np.ix_(world.times[inside], *corners)
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
