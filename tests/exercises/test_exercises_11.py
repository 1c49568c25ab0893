"""The exercises of notebook 11, and what it teaches against the helpers."""

import numpy as np
from answers import says
from notebook_code import definition
from random_weights import randomised

from helpers import exercises
from helpers.models import surfacenet
from helpers.sequences import T80_TINC4
from helpers.workshop import tensorflow

tf = tensorflow()


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


RUNS = {"nothing": [0.28, 0.29, 0.3], "the pose": [0.3, 0.31, 0.32]}


def first(what, seed):
    assert seed == 1
    return RUNS[what][0]


test_surroundings = says(
    exercises.check_surroundings,
    (("nothing", RUNS, first), "solved"),
    ((None, {}, first), "Say first"),
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


def test_the_forecast_of_the_notebook_is_that_of_the_network(rng):
    """Gathered, turned and looked up for one voxel at a time, as the network does for all."""
    import keras

    config = surfacenet.Config(ahead=1, radius=2, blocks=0, width=12, layers=1, grid=6)
    known = {"np": np, "keras": keras, "CONFIG": config, "FORMAT": T80_TINC4}
    known |= {"places": surfacenet.neighbours(2), "table": surfacenet.codes(config.history)}
    for name in ("slope_of", "canonical", "numbers_of", "row_of", "dense_layers", "forecast_at"):
        known[name] = definition("11", name, **known)
    model = randomised(surfacenet.build(config))
    dense = known["dense_layers"](config)
    dense.set_weights(model.get_weights())
    frames = (rng.random((9, 6, 6, 6)) < 0.4).astype(np.float32)  # no two slopes are the same
    voxels = np.argwhere(np.ones((6, 6, 6)))
    found = known["forecast_at"](frames, voxels, dense)
    inputs = {"frames": frames[None], "observed": np.int32([9]), "step": np.int32([4])}
    padded = np.concatenate([np.zeros((3, 6, 6, 6), np.float32), frames])
    inputs |= {"frames": padded[None], "voxels": np.arange(216, dtype=np.int32)[None]}
    expected = np.asarray(model(inputs)["next"])[0, :, 0]
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_near_surface_of_the_notebook(rng):
    from scipy import ndimage

    near = definition("11", "near_surface", ndimage=ndimage)
    frames = ndimage.gaussian_filter(rng.random((3, 9, 9, 9)), (0, 1, 1, 1)) > 0.5
    frames = frames.astype(np.uint8)
    for reach in surfacenet.RINGS:
        expected = np.asarray(surfacenet.near_surface(frames, reach))
        np.testing.assert_array_equal(near(frames, reach), expected)
