"""Shapes of frames: Betti numbers and surface distances against independent ways to get them."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from notebook_code import definition
from scipy import ndimage
from scipy.spatial.distance import cdist

from helpers import topology

FRAMES = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))
PAIRS = hnp.arrays(bool, st.tuples(st.just(2), *[st.integers(1, 5)] * 3))


def rank(matrix):
    """The rank over the field of two elements, by elimination; rows are Python integers."""
    rows = [int("".join(map(str, row)) or "0", 2) for row in matrix]
    found = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            found += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return found


def by_homology(frame):
    """Betti numbers from the boundary matrices of the cubical complex, with nothing shared.

    A cell is a point of the doubled grid: a coordinate is even where it is flat, odd where it is
    an interval.
    """
    cells = set()
    for voxel in np.argwhere(frame):
        for step in itertools.product((-1, 0, 1), repeat=3):
            cells.add(tuple(2 * voxel + 1 + step))
    by_dimension = [[], [], [], []]
    for cell in sorted(cells):
        by_dimension[sum(c % 2 for c in cell)].append(cell)
    ranks = [0]
    for low, high in itertools.pairwise(by_dimension):
        place = {cell: n for n, cell in enumerate(low)}
        matrix = np.zeros((len(high), len(low)), int)
        for row, cell in enumerate(high):
            for axis in range(3):
                if cell[axis] % 2:
                    for side in (-1, 1):
                        face = (*cell[:axis], cell[axis] + side, *cell[axis + 1 :])
                        matrix[row, place[face]] ^= 1
        ranks.append(rank(matrix))
    ranks.append(0)
    return [len(by_dimension[k]) - ranks[k] - ranks[k + 1] for k in range(4)]


@given(FRAMES)
def test_betti_numbers_agree_with_homology(frame):
    *expected, solid = by_homology(frame)
    assert topology.betti_numbers(frame).tolist() == expected and solid == 0


def test_betti_numbers_of_known_shapes():
    d, h, w = np.indices((16, 16, 16)) - 7.5
    ball = d**2 + h**2 + w**2 <= 36
    ring = (np.sqrt(h**2 + w**2) - 5) ** 2 + d**2 <= 3
    hollow = ball & (d**2 + h**2 + w**2 > 16)
    halves = ball & (abs(w) > 2)
    corner = np.zeros((16, 16, 16), bool)
    corner[3, 3, 3] = corner[4, 4, 4] = True  # they share a corner: one piece
    torus_surface = ndimage.binary_dilation(ring) & ~ring
    expected = {
        "ball": (ball, (1, 0, 0)),
        "ring": (ring, (1, 1, 0)),
        "hollow ball": (hollow, (1, 0, 1)),
        "two halves": (halves, (2, 0, 0)),
        "hollow ring": (torus_surface, (1, 2, 1)),
        "corner": (corner, (1, 0, 0)),
        "nothing": (0 * ball, (0, 0, 0)),
        "everything": (ball | ~ball, (1, 0, 0)),
        "all but the middle": (~ball, (1, 0, 1)),
    }
    for name, (frame, numbers) in expected.items():
        assert tuple(topology.betti_numbers(frame)) == numbers, name
    stack = np.stack([frame for frame, _ in expected.values()]).reshape(3, 3, 16, 16, 16)
    found = topology.betti_numbers(stack * 0.7)
    assert found.shape == (3, 3, 3)
    assert found.reshape(-1, 3).tolist() == [list(numbers) for _, numbers in expected.values()]
    assert topology.betti_numbers(stack * 0.4).sum() == 0


@given(FRAMES, st.permutations((0, 1, 2)), st.tuples(*[st.booleans()] * 3))
def test_betti_numbers_do_not_depend_on_the_view(frame, order, flips):
    turned = np.flip(frame.transpose(order), [axis for axis in range(3) if flips[axis]])
    expected = topology.betti_numbers(frame).tolist()
    assert topology.betti_numbers(turned).tolist() == expected
    assert topology.betti_numbers(np.pad(frame, 2)).tolist() == expected
    larger = frame.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert topology.betti_numbers(larger).tolist() == expected


@functools.cache
def taught():
    known = {"np": np, "ndimage": ndimage}
    for name in ("euler", "pieces", "betti_3d"):
        known[name] = definition("01", name, **known)
    return known["betti_3d"]


@given(FRAMES)
def test_betti_numbers_are_those_of_notebook_01(frame):
    assert taught()(frame) == tuple(topology.betti_numbers(frame))


def test_batches_change_nothing(rng, monkeypatch):
    frames = rng.random((23, 6, 7, 8)) < 0.3
    other = rng.random((23, 6, 7, 8)) < 0.3
    frames[4] = other[5] = False
    whole = topology.betti_numbers(frames), topology.surface_distance(frames, other)
    monkeypatch.setattr(topology, "_AT_ONCE", 3000)  # a few frames at a time
    np.testing.assert_array_equal(topology.betti_numbers(frames), whole[0])
    np.testing.assert_array_equal(topology.surface_distance(frames, other), whole[1])


def surface_by_hand(frame):
    """The filled voxels that are not deep inside, (n, 3)."""
    return np.argwhere(frame & ~ndimage.binary_erosion(frame))


@given(PAIRS)
def test_surface_distance_agrees_with_all_pairs(pair):
    truth, prediction = pair
    found = topology.surface_distance(truth, prediction)
    one, other = surface_by_hand(truth), surface_by_hand(prediction)
    if len(one) and len(other):
        distances = cdist(one, other)
        there, back = distances.min(axis=1), distances.min(axis=0)
        mean = np.concatenate([there, back]).mean()
        sides = [np.percentile(side, 95, method="inverted_cdf") for side in (there, back)]
        np.testing.assert_allclose((found.mean, found.hausdorff_95), (mean, max(sides)))
    elif len(one) or len(other):
        assert np.isnan(found.mean) and np.isnan(found.hausdorff_95)
    else:
        assert found.mean == found.hausdorff_95 == 0
    back = topology.surface_distance(prediction, truth)
    np.testing.assert_array_equal(found, back)


@pytest.mark.parametrize("shape", [(5, 1, 7), (16, 16, 16), (3, 4, 150), (2, 130, 130)])
def test_the_distance_transform_is_scipys(rng, shape):
    filled = rng.random((3, *shape)) < 0.02
    filled[:, 0, 0, 0] = True
    expected = [ndimage.distance_transform_edt(~frame) for frame in filled]
    np.testing.assert_allclose(np.sqrt(topology._squared_distance(filled)), expected)


def test_a_shifted_shape_is_off_by_the_shift():
    frame = np.zeros((16, 16, 16))
    frame[4, 4:9, 4:9] = 1  # a plate: all of it is surface
    moved = np.roll(frame, 3, axis=0)
    assert topology.surface_distance(frame, moved) == (3, 3)
    assert topology.surface_distance(frame, frame) == (0, 0)
    stray = frame.copy()
    stray[15, 15, 15] = 1  # one voxel of 26 is far off: within the 5 % that are forgiven
    found = topology.surface_distance(frame, stray)
    assert found.hausdorff_95 == 0
    assert found.mean == pytest.approx(np.sqrt(11**2 + 7**2 + 7**2) / 51)


def test_where_one_of_two_frames_is_empty(rng):
    truth = rng.random((2, 5, 6, 6, 6)) < 0.2
    prediction = 0.8 * rng.random((2, 5, 6, 6, 6))
    truth[0, 1] = truth[1, 2] = False
    prediction[1, 2] = prediction[1, 3] = 0.2
    found = topology.surface_distance(truth, prediction)
    assert found.mean.shape == found.hausdorff_95.shape == (2, 5)
    assert np.argwhere(np.isnan(found.mean)).tolist() == [[0, 1], [1, 3]]
    assert found.mean[1, 2] == 0
    one = topology.surface_distance(truth[1, 4], prediction[1, 4] >= 0.5)
    assert one == (found.mean[1, 4], found.hausdorff_95[1, 4])


def test_what_is_refused():
    good = np.zeros((4, 4, 4))
    for bad, words in (
        (np.zeros((4, 4)), "axis -3"),
        (np.full((4, 4, 4), 2), "expected 0…1"),
        (np.zeros((4, 4, 4, 1)), "channel"),
        (np.zeros((4, 0, 4)), "no voxels"),
    ):
        with pytest.raises(ValueError, match=words):
            topology.betti_numbers(bad)
        with pytest.raises(ValueError, match=words):
            topology.surface_distance(bad, bad)
    with pytest.raises(ValueError, match="shapes must agree"):
        topology.surface_distance(good, np.zeros((4, 4, 5)))
    nothing = np.zeros((0, 4, 4, 4))
    assert topology.betti_numbers(nothing).shape == (0, 3)
    assert topology.surface_distance(nothing, nothing).mean.shape == (0,)
