"""The exercise of notebook 10, and what it teaches against the helpers."""

import dataclasses

import numpy as np
from answers import says
from notebook_code import definition
from random_weights import randomised

from helpers import exercises, workshop
from helpers.models import cnn

keras = workshop.keras()


def line(times):
    return np.polyval(np.polyfit(np.arange(len(times)), times, 1), len(times))


test_next_arrival = says(
    exercises.check_next_arrival,
    (line, "solved"),
    (lambda t: 2 * t[-1] - t[-2], "the last two times only"),
    (lambda t: t[-1] + np.diff(t).mean(), "the first and the last"),
    (lambda t: line(t) - np.polyfit(np.arange(len(t)), t, 1)[0], "one place further"),
    (lambda t: t, "one time"),
    (lambda t: t.mean(), "expected"),
)


def test_the_past_of_the_notebook_is_that_of_the_helper(rng):
    past = definition("10", "past_of", np=np)
    frames = (rng.random((2, 7, 3, 3, 3)) < 0.4).astype(np.float32)
    config = dataclasses.replace(cnn.small(), history=7)
    found = cnn.inputs(config, frames, [7, 7], [1, 2])[..., : 7 + 7]
    np.testing.assert_allclose(past(frames), found, atol=1e-6)


def test_the_network_of_the_notebook_is_that_of_the_helper(rng):
    known = {"keras": keras, "layers": keras.layers, "ops": keras.ops, "np": np, "cnn": cnn}
    build_open = definition("10", "build_open", **known)
    config = cnn.Config(history=3, ahead=2, width=8, blocks=2, grid=4)
    model, opened = randomised(cnn.build(config)), build_open(config)
    opened.set_weights(model.get_weights())
    past = rng.normal(size=(2, 4, 4, 4, cnn.channels(config))).astype(np.float32)
    theirs = model.predict_on_batch({"past": past})
    theirs = np.concatenate([theirs["next"], theirs["later"]], axis=1)
    np.testing.assert_allclose(opened.predict_on_batch(past), theirs, atol=1e-5)


def test_the_arithmetic_of_the_notebook_is_that_of_the_helper():
    count = definition("10", "multiply_adds")
    for config in (cnn.shipped(), cnn.small()):
        assert count(config) == cnn.multiply_adds(config)
