"""The exercises of notebook 10, and what it teaches against the helpers."""

import numpy as np
from answers import says
from notebook_code import definition

from helpers import exercises
from helpers.models import patchnet
from helpers.workshop import tensorflow

tf = tensorflow()


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


test_worth_taking = says(
    exercises.check_worth_taking,
    (lambda p, j: p > j / (1 + j), "solved"),
    (lambda p, j: p * 1.0 > j * (1 - p), "solved"),
    (lambda p, j: p > 0.5, "One half is right only"),
    (lambda p, j: p > j, "in the union already"),
    (lambda p, j: p < j / (1 + j), "it should be"),
)


ALL = tuple(np.ndindex(2, 2, 2))


def averaged(forecast, history, back=True, share=8, ways=ALL, axes=(-3, -2, -1)):
    total = 0
    for flips in ways:
        chosen = [axis for axis, flip in zip(axes, flips) if flip]
        found = forecast(np.flip(history, chosen))
        total = total + (np.flip(found, chosen) if back else found)
    return total / share


test_averaged_forecast = says(
    exercises.check_averaged_forecast,
    (averaged, "solved"),
    (lambda f, h: averaged(f, h, back=False), "back before you average"),
    (lambda f, h: averaged(f, h, share=1), "divide by their number"),
    (lambda f, h: averaged(f, h, share=4, ways=[ALL[n] for n in (0, 1, 2, 4)]), "= 8 ways"),
    (lambda f, h: f(h), "asked 1 times"),
    (lambda f, h: averaged(f, h)[0], "(B, D, H, W)."),
    (lambda f, h: averaged(f, h, axes=(-4, -2, -1)), "D, H and W only"),
)


def test_the_past_of_the_notebook_is_that_of_the_helper(rng):
    past = definition("10", "past_of", np=np)
    frames = (rng.random((2, 7, 3, 3, 3)) < 0.4).astype(np.float32)
    found = np.asarray(patchnet.Past()(frames, np.array([7, 7])))
    np.testing.assert_allclose(past(frames), found, atol=1e-6)


def test_the_arithmetic_of_the_notebook_is_that_of_the_helper():
    count = definition("10", "multiply_adds")
    for config in (patchnet.shipped(), patchnet.workshop()):
        assert count(config) == patchnet.multiply_adds(config)
