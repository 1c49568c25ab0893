"""The exercises of notebook 11, and what it teaches against the helpers."""

import numpy as np
from answers import says
from notebook_code import definition

from helpers import exercises, metrics
from helpers.exercises.notebook_11 import most_to_expect
from helpers.models import surfacenet
from helpers.workshop import tensorflow

tf = tensorflow()


def number(frames):
    values = 2 ** np.arange(len(frames))[::-1]
    return 2 ** len(frames) + np.tensordot(values, frames, axes=1)


test_past_numbers = says(
    exercises.check_past_numbers,
    (number, "solved"),
    (lambda f: sum(s << k for k, s in enumerate(f[::-1])) + (1 << len(f)), "solved"),
    (lambda f: number(f).astype(float), "solved"),
    (lambda f: number(f[::-1]), "not the first"),
    (lambda f: number(f) - (1 << len(f)), "in front is missing"),
    (lambda f: 2 * (number(f) - (1 << len(f))) + 1, "not behind"),
    (lambda f: 10 ** len(f) + np.tensordot(10 ** np.arange(len(f))[::-1], f, 1), "decimal"),
    (lambda f: number(f) + 1, "expected"),
    (lambda f: number(f) + 0.5, "expected"),
    (lambda f: f, "one number for each voxel"),
)


def pose(cube, slope):
    mirrored = np.flip(cube, np.flatnonzero(slope < 0))
    return np.transpose(mirrored, np.argsort(-np.abs(slope)))


test_in_pose = says(
    exercises.check_in_pose,
    (pose, "solved"),
    (lambda c, s: np.flip(c, np.flatnonzero(s < 0)), "not in order yet"),
    (lambda c, s: pose(c, np.abs(s)), "not mirrored"),
    (lambda c, s: np.transpose(pose(c, s), (2, 1, 0)), "comes first, not last"),
    (
        lambda c, s: np.transpose(np.flip(c, np.flatnonzero(s < 0)), np.argsort(-s)),
        "whatever its sign",
    ),
    (
        lambda c, s: np.transpose(
            np.flip(c, np.flatnonzero(s < 0)), np.argsort(np.argsort(-np.abs(s)))
        ),
        "which old axis",
    ),
    (lambda c, s: np.flip(pose(c, np.abs(s)), np.flatnonzero(s < 0)), "mirror before"),
    (lambda c, s: c[:3], "shape"),
    (lambda c, s: 2 * c, "not its canonical pose"),
)


def how_many(p):
    falling = np.sort(p)[::-1]
    hits = falling.cumsum()
    return np.argmax(hits / (np.arange(1, len(p) + 1) + hits[-1] - hits)) + 1


test_how_many = says(
    exercises.check_how_many,
    (how_many, "solved"),
    (lambda p: metrics.cut(p[None, None], "expected").sum(), "solved"),
    (lambda p: how_many(p) - 1, "one more voxel"),
    (lambda p: (p > 0.5).sum(), "above 1/2"),
    (lambda p: most_to_expect(p), "sort the probabilities"),
    (lambda p: most_to_expect(np.sort(p)), "comes first"),
    (lambda p: len(p) + 5, "expected"),
)


def test_the_pose_of_the_notebook_is_that_of_the_network(rng):
    places = surfacenet.neighbours(3)
    slope_of = definition("11", "slope_of", np=np)
    canonical = definition("11", "canonical", np=np)
    model = surfacenet.build(surfacenet.Config())
    for _ in range(20):
        slope = slope_of(places, rng.normal(size=len(places)))
        (chosen,) = np.asarray(model._pose(tf.constant(slope[None].astype(np.float32))))
        np.testing.assert_array_equal(canonical(places, slope), surfacenet.poses(places)[chosen])


def test_the_network_of_the_notebook_has_the_same_size():
    import keras

    build_open = definition("11", "build_open", keras=keras, surfacenet=surfacenet)
    small = surfacenet.Config(radius=1, blocks=0, width=20, layers=0, ahead=2)
    for config in (surfacenet.Config(), small):
        assert build_open(config).count_params() == surfacenet.build(config).count_params()


def test_near_surface_of_the_notebook(rng):
    from scipy import ndimage

    near = definition("11", "near_surface", ndimage=ndimage)
    frames = ndimage.gaussian_filter(rng.random((3, 9, 9, 9)), (0, 1, 1, 1)) > 0.5
    frames = frames.astype(np.uint8)
    for reach in surfacenet.RINGS:
        expected = np.asarray(surfacenet.near_surface(frames, reach))
        np.testing.assert_array_equal(near(frames, reach), expected)
