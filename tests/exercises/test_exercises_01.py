"""The exercises of notebook 01, and what it teaches against the helpers."""

import nbformat
import numpy as np
import pytest
from answers import says
from hypothesis import given
from hypothesis.extra import numpy as arrays
from notebook_code import NOTEBOOKS, definition
from scipy import ndimage

from helpers import exercises, metrics, records, workshop
from helpers.sequences import THESIS_FORMATS
from helpers.world import cavities

betti_from_objects = definition("01", "betti_from_objects", np=np)


def squared(times, centre, a):
    return np.maximum(a**2 - (np.asarray(times) - centre) ** 2, 0)


test_cross_section = says(
    exercises.check_cross_section,
    (lambda times, centre, a: np.sqrt(squared(times, centre, a)), "solved"),
    (lambda times, centre, a: np.sqrt(a**2 - (times - centre) ** 2), "NaN"),
    (lambda times, centre, a: np.maximum(a - np.abs(times - centre), 0), "grows evenly"),
    (squared, "radius squared"),
    (lambda times, centre, a: np.sqrt(squared(times, 0, a)), "not at 0"),
    (lambda times, centre, a: np.sqrt(squared(times, centre + 1, a)), "At ["),
    (lambda times, centre, a: a, "one radius per time"),
)


def none_filled(frames):
    return ~frames.any(axis=(2, 3, 4))


def both(frames):
    return none_filled(frames)[:, 1:] & none_filled(frames)[:, :-1]


def across(frames):
    empty = none_filled(frames).ravel()
    return (empty[1:] & empty[:-1]).mean()


test_empty_pairs = says(
    exercises.check_empty_pairs,
    (lambda frames: both(frames).mean(), "solved"),
    (lambda frames: none_filled(frames).mean(), "share of empty frames"),
    (lambda frames: both(frames).sum(), "how many"),
    (lambda frames: both(frames).sum() / none_filled(frames).size, "T - 1 pairs"),
    (across, "first of the next"),
    (lambda x: (none_filled(x)[:, 1:] | none_filled(x)[:, :-1]).mean(), "at least one"),
    (lambda frames: both(frames).mean(axis=1), "one number"),
    (lambda frames: 0.123, "found 0.123"),
)


def pool(reduce, axes=(1, 3, 5), blocks_first=True):
    def answer(frame, size):
        pairs = [(n // size, size) if blocks_first else (size, n // size) for n in frame.shape]
        return getattr(frame.reshape([n for pair in pairs for n in pair]), reduce)(axis=axes)

    return answer


test_max_pool = says(
    exercises.check_max_pool,
    (pool("max"), "solved"),
    (pool("mean"), "mean of each block"),
    (pool("max", axes=(0, 2, 4)), "swap the axes"),
    (pool("max", axes=(0, 2, 4), blocks_first=False), "not made of neighbours"),
    (lambda frame, size: frame[::size, ::size, ::size], "first voxel"),
    (lambda frame, size: frame.reshape(16, 8, 16, 8, 16, 8).max(axis=(1, 3, 5)), "ValueError"),
    (lambda frame, size: frame.max(axis=0), "shape (9, 12); expected (2, 3, 4)"),
    (lambda frame, size: 1 - pool("max")(frame, size), "At ["),
)


def possible_counts(betti):
    allowed = cavities.allowed_counts()
    return allowed[(betti_from_objects(allowed) == betti).all(axis=1)]


def any_agrees(betti):
    allowed = cavities.allowed_counts()
    return allowed[(betti_from_objects(allowed)[:, 1:] == betti[1:]).any(axis=1)]


test_possible_counts = says(
    exercises.check_possible_counts,
    (possible_counts, "solved"),
    (lambda betti: possible_counts(betti)[::-1].tolist() or np.empty((0, 4)), "solved"),
    (lambda betti: possible_counts(betti)[0], "one answer"),
    (lambda betti: (betti_from_objects(cavities.allowed_counts()) == betti).all(1), "mask"),
    (any_agrees, "All four numbers"),
    (lambda betti: possible_counts(betti)[1:], "expected 3 rows, found 2"),
    (lambda betti: len(possible_counts(betti)), "expected (k, 4)"),
)


def test_labels_as_in_the_helper():
    counts = cavities.allowed_counts()
    expected = np.stack([cavities.betti_numbers(row) for row in counts])
    np.testing.assert_array_equal(betti_from_objects(counts), expected)


@pytest.mark.parametrize("angle", [0, 30, 90])
@pytest.mark.parametrize(
    ("name", "kind", "sizes"),
    [
        ("ball", cavities.BALL, {"a": 15.3}),
        ("ring", cavities.RING, {"a": 6.3, "r": 13.2}),
        ("shell", cavities.SHELL, {"a": 6.3, "r": 13.2}),
        ("torus", cavities.TORUS, {"a": 3.3, "r": 6.2, "R": 12.1, "alpha": 0.7}),
    ],
)
def test_solids_as_in_the_helper(name, kind, sizes, angle):
    side = np.arange(-24, 25)
    D, H, W = np.meshgrid(side, side, side, indexing="ij")
    film = definition("01", "film", np=np, D=D, H=H, W=W)
    times = [-12, -3, 0, 7]
    frames = film(definition("01", name, np=np), times, angle=angle, **sizes)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    x, y, z, w = (0, cos, 0, sin), (-1, 0, 0, 0), (0, 0, 1, 0), (0, -sin, 0, cos)  # in (W, H, D, T)
    solid = cavities.Solid(kind, (0, 0, 0, 0), np.array([x, y, z, w]).T, **sizes)
    expected = np.stack([solid.distance(t, D, H, W) <= 0 for t in times])
    assert expected.any()
    np.testing.assert_array_equal(frames, expected)


KNOWN = {"np": np, "ndimage": ndimage}
KNOWN["euler"] = euler = definition("01", "euler", **KNOWN)
KNOWN["pieces"] = definition("01", "pieces", **KNOWN)
betti_3d = definition("01", "betti_3d", **KNOWN)


def test_betti_numbers_of_shapes_known_by_hand():
    full = np.ones((5, 5, 5))
    tunnel, void = full.copy(), full.copy()
    tunnel[:, 2, 2] = 0
    void[2, 2, 2] = 0
    two_tunnels = tunnel.copy()
    two_tunnels[2, :, 2] = 0  # crosses the first: four mouths, one junction, so three loops
    corners = np.zeros((5, 5, 5))
    corners[1, 1, 1] = corners[2, 2, 2] = corners[4, 4, 4] = 1  # two share a corner
    assert betti_3d(full) == (1, 0, 0)
    assert betti_3d(tunnel) == (1, 1, 0)
    assert betti_3d(void) == (1, 0, 1)
    assert betti_3d(two_tunnels) == (1, 3, 0)
    assert betti_3d(corners) == (2, 0, 0)
    assert betti_3d(np.zeros((5, 5, 5))) == (0, 0, 0)


@given(arrays.arrays(bool, (4, 4, 4)))
def test_betti_numbers_are_never_negative_and_turn_with_the_frame(filled):
    found = betti_3d(filled)
    assert min(found) >= 0
    assert found == betti_3d(filled.transpose(2, 0, 1)[::-1])


def test_euler_number_adds_up_over_separate_boxes():
    body = np.zeros((9, 9, 9, 9), bool)
    body[:3, :3, :3, :3] = body[5:, 5:, 5:, 5:] = True
    assert euler(body) == 2
    body[6:8, 6:8, 6:8, 6:8] = False  # a void in 4D: the skin S³ has Euler number 0
    assert euler(body) == 1


def test_births_as_in_the_helper(rng):
    born = definition("01", "born", ndimage=ndimage, np=np)
    frames = (rng.random((5, 6, 8, 8, 8)) < 0.03).astype(np.uint8)
    found = born(frames).sum(axis=(1, 2, 3, 4)) / frames[:, 1:].sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(metrics.births(frames[:, :-1], frames[:, 1:]), found)
    assert found.min() > 0 and found.max() < 1


def test_what_the_notebook_says_of_the_sample_set(monkeypatch):
    monkeypatch.delenv("WORKSHOP_DATA", raising=False)
    born = definition("01", "born", ndimage=ndimage, np=np)
    samples = records.read_folder(workshop.split_folder("training"))
    sequences = np.stack([sample.frames for sample in samples])
    frames = [chosen.select(sequences) for chosen in THESIS_FORMATS]
    slow, _, fast = (f"{some[:, 1:].sum() / born(some).sum():.0f}" for some in frames)
    counts = records.record_paths(workshop.split_folder("validation"))
    many = [path.name.split("_")[3] for path in counts].count("16")
    cells = nbformat.read(NOTEBOOKS / "01_inspect_the_dataset.ipynb", as_version=4).cells
    text = " ".join(" ".join(cell.source for cell in cells).split())
    assert f"voxel in {slow} is born in the slow format and one in {fast} in the fast one" in text
    assert (many, len(counts)) == (10, 24)
    assert "ten of its 24 samples have 16 cavities" in text
