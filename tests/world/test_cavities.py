"""Tests of the simulated world."""

import itertools
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from helpers import topology
from helpers.world import cavities
from helpers.world.cavities import (
    BALL,
    JITTER,
    RADII,
    RING,
    SHELL,
    TORUS,
    Sample,
    Solid,
    World,
    allowed_counts,
    betti_numbers,
    full_frames,
    generate,
    place,
    random_rotation,
    render,
    sample_sequence,
    touching,
)

SMALL = World(resolution=32, pooling=4, time_points=32)
KINDS = st.integers(0, 3)


def every_voxel(solids, resolution: int) -> np.ndarray:
    """All voxels of the cube by the formulas of the solids: bool (resolution,) * 4."""
    axes = np.ogrid[(slice(resolution),) * 4]
    inside = np.zeros((resolution,) * 4, bool)
    for solid in solids:
        inside |= solid.distance(*axes) <= 0
    return inside


def max_pool(cube: np.ndarray, size: int) -> np.ndarray:
    side = cube.shape[-1] // size
    return cube.reshape(-1, side, size, side, size, side, size).max((2, 4, 6))


def inside_by_formula(solid: Solid, point) -> bool:
    """The formulas of the four solids, written down a second time, for one point (T, D, H, W)."""
    offset = (np.array(point) - solid.centre)[::-1]
    x, y, z, w = solid.rotation.T @ offset
    a, r, big = solid.a, solid.r, solid.R
    if solid.kind == BALL:
        return x**2 + y**2 + z**2 + w**2 <= a**2
    if solid.kind == RING:
        return (np.sqrt(x**2 + y**2) - r) ** 2 + z**2 + w**2 <= a**2
    if solid.kind == SHELL:
        return (np.sqrt(x**2 + y**2 + z**2) - r) ** 2 + w**2 <= a**2
    cos, sin = np.cos(solid.alpha), np.sin(solid.alpha)
    q = np.sqrt(x**2 + y**2) - big
    first = np.sqrt((-sin * q + cos * w) ** 2 + z**2) - r
    return first**2 + (cos * q + sin * w) ** 2 <= a**2


def slope(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Gradient of the distance by central differences: (4, points)."""
    steps = np.eye(4)[:, :, None] * 1e-5
    return (
        np.stack(
            [solid.distance(*(points + step)) - solid.distance(*(points - step)) for step in steps]
        )
        / 2e-5
    )


@st.composite
def solids(draw, kinds=KINDS, centre=st.integers(12, 20)):
    """Solids of any kind, well formed, somewhere near the middle of a cube of 32."""
    kind = draw(kinds)
    a = draw(st.floats(1, 4))
    r = a * draw(st.floats(1.1, 2)) if kind else 0.0
    alpha = draw(st.floats(0, np.pi / 2)) if kind == TORUS else 0.0
    big = (r + a) * draw(st.floats(1.1, 1.5)) if kind == TORUS else 0.0
    rotation = random_rotation(np.random.default_rng(draw(st.integers(0, 10**6))))
    return Solid(kind, tuple(draw(centre) for _ in range(4)), rotation, a, r, big, alpha)


# Labels


def test_allowed_counts_are_those_of_the_thesis():
    table = allowed_counts()
    assert table.shape == (4184, 4) and table.dtype == np.uint8
    assert len(np.unique(table, axis=0)) == 4184
    total, loops = table.sum(1, dtype=int), table[:, 1] + 2 * table[:, 3].astype(int)
    assert total.min() == 1 and total.max() == 16 and loops.max() == 16
    with pytest.raises(ValueError, match="read-only"):
        table[:] = 0


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_betti_numbers_follow_the_label_algebra(objects):
    n0, n1, n2, n3 = objects
    betti = betti_numbers(objects)
    assert betti.dtype == np.uint8
    assert betti.tolist() == [1, n2 + n3, n1 + 2 * n3, n0 + n1 + n2 + n3]


@given(st.tuples(*[st.integers(0, 15)] * 4), st.tuples(*[st.integers(0, 15)] * 4))
def test_betti_numbers_add_up_beyond_the_one_piece_of_material(one, other):
    base = betti_numbers([0, 0, 0, 0]).astype(int)
    both = betti_numbers(np.add(one, other)).astype(int) - base
    assert (both == betti_numbers(one) - base + betti_numbers(other) - base).all()


def test_betti_numbers_refuse_what_is_no_count_and_to_wrap_around():
    for objects in ([1, 2, 3], [1, 2, 3, -1], [0.5, 1, 1, 1]):
        with pytest.raises(ValueError, match="whole numbers"):
            betti_numbers(objects)
    with pytest.raises(ValueError, match="8 bits"):
        betti_numbers([200, 30, 20, 10])


def test_thesis_labels_follow_the_algebra(thesis_folder):
    with np.load(thesis_folder / "packed" / "validation.npz") as packed:
        betti, objects = packed["betti"], packed["objects"]
    assert all((betti_numbers(o) == b).all() for o, b in zip(objects, betti))
    allowed = {tuple(row) for row in allowed_counts().tolist()}
    assert {tuple(row) for row in objects.tolist()} <= allowed


def test_counts_are_uniform_over_the_allowed_tuples(monkeypatch):
    monkeypatch.setattr(cavities, "place", lambda objects, rng, world: tuple(map(int, objects)))
    monkeypatch.setattr(cavities, "render", lambda objects, world, sample_id: objects)
    rng, draws = np.random.default_rng(5), 20_000
    drawn, times = np.unique(
        [sample_sequence(rng) for _ in range(draws)], axis=0, return_counts=True
    )
    expected = draws / 4184
    assert {tuple(row) for row in drawn.tolist()} <= set(map(tuple, allowed_counts().tolist()))
    # Each is a Poisson count of mean 4.8: 35 of the 4,184 are 0, and none should be above 20.
    assert len(drawn) == pytest.approx(4184 * (1 - np.exp(-expected)), abs=25)
    assert times.max() <= 20


# Solids


@given(solids(), st.tuples(*[st.integers(0, 31)] * 4))
def test_inside_is_what_the_formulas_say(solid, point):
    distance = float(solid.distance(*point))
    if abs(distance) > 1e-9:
        assert (distance <= 0) == inside_by_formula(solid, point)


@given(solids(), st.integers(0, 10**6))
def test_distance_is_lipschitz_and_never_too_long(solid, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 32, (4, 400))
    value = solid.distance(*points)
    step = np.linalg.norm(points[:, 1:] - points[:, :-1], axis=0)
    assert (np.abs(np.diff(value)) <= step + 1e-9).all()
    inside = points[:, value <= 0]
    if inside.size:
        gaps = np.linalg.norm(points[:, :, None] - inside[:, None], axis=0).min(1)
        assert (value <= gaps + 1e-9).all()


@given(solids())
def test_distance_is_exact_outside(solid):
    """Walking down the gradient by the distance ends on the surface."""
    points = np.random.default_rng(1).uniform(0, 32, (4, 50))
    value, gradient = solid.distance(*points), slope(solid, points)
    smooth = (value > 0.1) & (np.abs(np.linalg.norm(gradient, axis=0) - 1) < 1e-6)
    landed = solid.distance(*(points - gradient * value)[:, smooth])
    assert np.abs(landed).max(initial=0) < 1e-3


def core(solid: Solid) -> np.ndarray:
    """Many points of the circle, sphere or torus that the tube is around: (T, D, H, W), (4, n)."""
    u, v = np.meshgrid(*[np.linspace(0, 2 * np.pi, 200)] * 2)
    r, nothing = solid.r, np.zeros_like(u)
    if solid.kind == TORUS:
        cos, sin = np.cos(solid.alpha), np.sin(solid.alpha)
        wide = solid.R - sin * r * np.cos(v)
        own = [wide * np.cos(u), wide * np.sin(u), r * np.sin(v), cos * r * np.cos(v)]
    elif solid.kind == SHELL:
        own = [r * np.sin(v) * np.cos(u), r * np.sin(v) * np.sin(u), r * np.cos(v), nothing]
    else:
        own = [r * np.cos(u), r * np.sin(u), nothing, nothing]
    return (solid.rotation @ np.reshape(own, (4, -1)))[::-1]


@settings(max_examples=40)
@given(solids(centre=st.just(0)))
def test_reach_is_the_bounding_box(solid):
    points = core(solid)
    assert np.allclose(solid.distance(*points), -solid.a)
    assert np.abs(points).max(1) + solid.a == pytest.approx(solid.reach(), abs=0.01)
    assert (solid.reach() <= solid.radius() + 1e-9).all()


# Rotations


def test_rotations_are_rotations(rng):
    turned = np.array([random_rotation(rng) for _ in range(200)])
    assert np.allclose(turned @ turned.transpose(0, 2, 1), np.eye(4), atol=1e-12)
    assert np.allclose(np.linalg.det(turned), 1)


def test_turning_by_angles_shortens_the_shell_along_time(rng):
    turned = np.array([random_rotation(rng) for _ in range(4000)])
    normal = (turned[:, :, 3] ** 2).mean(0)  # of the shell's thin axis, along (W, H, D, T)
    assert normal == pytest.approx([1 / 8, 1 / 8, 1 / 4, 1 / 2], abs=0.03)


# Voxels


@pytest.mark.parametrize(
    "world",
    [
        SMALL,
        World(resolution=36, pooling=3, time_points=36),
    ],
    ids=lambda world: f"{world.resolution}-{world.pooling}-{world.time_points}",
)
def test_frames_equal_all_voxels_max_pooled(world):
    for sample in generate(1, 9, world):
        cube = every_voxel(sample.solids, world.resolution)
        assert sample.frames.dtype == np.uint8
        assert (sample.frames == max_pool(cube[world.times], world.pooling)).all()
        assert (full_frames(sample) == cube[world.times]).all()


@settings(max_examples=12)
@given(st.lists(solids(centre=st.integers(-3, 34)), min_size=1, max_size=3))
def test_frames_are_exact_wherever_solids_lie(chosen):
    """Also where they overlap or stick out of the cube."""
    sample = render(chosen, SMALL)
    cube = every_voxel(chosen, 32)
    assert (sample.frames == max_pool(cube, 4)).all()
    assert (full_frames(sample, [5, 16]) == cube[[5, 16]]).all()


@pytest.mark.parametrize("kind", range(4))
def test_voxels_on_the_surface_count_as_inside(kind):
    """Whole radii and no turn put many voxels at distance 0 exactly."""
    whole = dict(zip(("a", "r", "R"), (3, 4, 8)[: (1, 2, 2, 3)[kind]]))
    sample = render([Solid(kind, (16,) * 4, np.eye(4), **whole)], SMALL)
    cube = every_voxel(sample.solids, 32)
    surface = sample.solids[0].distance(*np.ogrid[(slice(32),) * 4]) == 0
    assert surface.any() and cube[surface].all()
    assert (sample.frames == max_pool(cube, 4)).all()
    assert (full_frames(sample) == cube).all()


def test_shapes_and_labels_of_a_sample(rng):
    sample = sample_sequence(rng, World(resolution=64, pooling=4, time_points=32), sample_id=3)
    assert sample.frames.shape == (32, 16, 16, 16)
    assert set(np.unique(sample.frames)) == {0, 1}
    assert sample.betti.tolist() == betti_numbers(sample.objects).tolist()
    assert len(sample.solids) == sample.objects.sum()
    assert sample.file_name == f"4d_mixed_#3_{len(sample.solids)}_16.tfrecords"
    assert full_frames(sample, [7]).shape == (1, 64, 64, 64)


# Placement


def test_as_many_pieces_as_cavities_and_a_free_border():
    """Counted voxel by voxel, with diagonal neighbours, at full resolution."""
    for sample in generate(1, 2, SMALL):
        cube = every_voxel(sample.solids, 32)
        pieces = ndimage.label(cube, np.ones((3,) * 4))[1]
        assert pieces == sample.objects.sum() == sample.betti[3]
        core = (slice(1, -1),) * 4
        assert cube[core].sum() == cube.sum()


@pytest.mark.parametrize("border", [0, 2])
def test_border_stays_free_and_is_used_up(border):
    world = replace(SMALL, border=border)
    rng, first = np.random.default_rng(6), 32
    for _ in range(12):
        sample = render(place([1, 1, 1, 1], rng, world), world)
        times = np.flatnonzero(sample.frames.any((1, 2, 3)))
        first = min(first, times[0])
        assert times[0] >= border and times[-1] <= 31 - border
    assert first == border


@settings(max_examples=20)
@given(solids(), solids(), st.sampled_from([0.0, 2.0, 5.0]))
def test_touching_agrees_with_sampled_surfaces(one, other, gap):
    """Walking to and fro between the two solids finds their distance, as near as it can be."""
    points = np.random.default_rng(3).uniform(4, 28, (4, 300))
    for _ in range(30):
        for solid in (one, other):
            points = points - slope(solid, points) * np.maximum(solid.distance(*points), 0)
    nearest = one.distance(*points).min()
    # The walk ends on the other solid, so its distance from the one is at least the true one.
    if nearest < gap - 1e-6:
        assert touching(one, other, gap)
    elif nearest > gap + 0.3:
        assert not touching(one, other, gap)


@pytest.mark.parametrize("distance", [9.8, 10.2])
def test_touching_is_sharp(distance):
    """Two balls of radius 3 and one gap of 4 between them: the limit is at 10."""
    far = np.array([distance, 0, 0, 0])
    one = Solid(BALL, (0, 0, 0, 0), np.eye(4), 3.0)
    other = Solid(BALL, tuple(far), np.eye(4), 3.0)
    assert touching(one, other, 4.0) == touching(other, one, 4.0) == (distance < 10)


def test_linked_rings_do_not_touch():
    """A ball in the hole of a ring is inside its bounding box, but does not touch it."""
    ring = Solid(RING, (0, 0, 0, 0), np.eye(4), 2.0, 10.0)
    assert not touching(ring, Solid(BALL, (0, 0, 0, 0), np.eye(4), 5.0), 2.0)
    assert touching(ring, Solid(BALL, (0, 0, 0, 0), np.eye(4), 6.5), 2.0)


def test_neighbours_keep_the_clearance():
    placed = place([2, 2, 1, 1], np.random.default_rng(8), replace(SMALL, gap=16.0))
    for one, other in itertools.combinations(placed, 2):
        assert not touching(one, other, 4.0)


def test_no_room_is_said_clearly(rng, monkeypatch):
    monkeypatch.setattr(cavities, "ATTEMPTS", 3)
    monkeypatch.setattr(cavities, "RESTARTS", 2)
    crowded = replace(SMALL, gap=60.0)
    with pytest.raises(RuntimeError, match="Found no room for .*fewer cavities"):
        place([16, 0, 0, 0], rng, crowded)


# One solid alone


def test_holes_stay_open_whatever_is_drawn():
    least, most = 1 - JITTER, 1 + JITTER
    for a, r, *_ in RADII[1:]:
        assert r * least > a * most
    a, r, big = RADII[TORUS]
    assert big * least > (r + a) * most  # tilted by π/2


@pytest.mark.parametrize(
    ("kind", "betti"), [(BALL, [1, 0, 0]), (RING, [1, 1, 0]), (SHELL, [1, 0, 1])]
)
def test_middle_frames_have_the_topology_of_the_solid(kind, betti):
    """Unturned: a ball, a solid ring and a hollow ball."""
    radii = dict(zip(("a", "r"), RADII[kind]))
    sample = render([Solid(kind, (64,) * 4, np.eye(4), **radii)])
    assert sample.objects.tolist() == np.eye(4, dtype=int)[kind].tolist()
    assert topology.betti_numbers(full_frames(sample, [64])[0]).tolist() == betti


# Many samples


def same(one: Sample, other: Sample) -> bool:
    return (
        one.sample_id == other.sample_id
        and one.frames.tobytes() == other.frames.tobytes()
        and one.betti.tobytes() == other.betti.tobytes()
        and one.objects.tobytes() == other.objects.tobytes()
        and len(one.solids) == len(other.solids)
    )


def test_a_sample_depends_on_the_seed_and_its_number_only():
    """Neither on processes beside this one, which end when nobody asks for more samples."""
    alone, before = list(generate(4, 4, SMALL)), set(multiprocessing.active_children())
    assert [sample.sample_id for sample in alone] == list(range(4))
    beside = generate(1000, 4, SMALL, processes=2)
    assert all(map(same, alone, itertools.islice(beside, 4)))
    assert set(multiprocessing.active_children()) - before
    beside.close()
    assert not set(multiprocessing.active_children()) - before
    assert all(map(same, alone[3:], generate(1, 4, SMALL, first_id=3)))
    assert not same(alone[0], next(generate(1, 5, SMALL)))
    assert len({sample.frames.tobytes() for sample in alone}) == 4


@pytest.mark.parametrize("change", [{"count": 1.5}, {"seed": -1}, {"processes": 0}], ids=str)
def test_generate_refuses_bad_numbers_at_once(change):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(change))} is .*; expected"):
        generate(**{"count": 1, "seed": 1, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(pooling=7), "pooling is 7; expected a divisor of the resolution, 128"),
        (dict(resolution=128.0), "resolution is 128.0; expected a whole number"),
        (dict(border=17), "does not fit into a cube of resolution 128 with border 17"),
        (dict(resolution=16, pooling=1, time_points=8), "higher resolution"),
    ],
)
def test_impossible_worlds_are_refused(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        World(**change)


def test_full_frames_refuse_a_sample_from_a_file():
    frames = np.zeros((128, 16, 16, 16), np.uint8)
    sample = Sample(frames, betti_numbers([1, 0, 0, 0]), np.eye(4)[0])
    with pytest.raises(ValueError, match="needs a generated sample"):
        full_frames(sample)
    with pytest.raises(IndexError):
        full_frames(render([]), [128])


# Calibration


def test_calibration_is_near_the_thesis():
    """A smoke test on few samples; tests/benchmarks/calibration.py holds them to 5 and 10 %."""
    from benchmarks.calibration import NOTED, statistics

    measured = statistics((s.frames[None], s.objects[None]) for s in generate(12, 1))
    assert measured["occupancy at t = 0"] == measured["occupancy at t = 127"] == 0
    # The occupancy of one sample spreads by a third, so that of 12 by 10 %; twice that.
    assert measured["occupancy, mean"] == pytest.approx(NOTED["occupancy, mean"], rel=0.2)
    for t, bound in ((8, 0.4), (16, 0.3), (24, 0.25), (48, 0.25), (64, 0.25)):
        name = f"occupancy at t = {t}"
        assert measured[name] == pytest.approx(NOTED[name], rel=bound)
    for name in measured:
        if name.startswith("persistence"):
            assert measured[name] == pytest.approx(NOTED[name], rel=0.15)
