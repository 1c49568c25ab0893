"""The exercises of notebook 08."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import ask, exercise, require, two


@exercise("8.1")
def check_horizons(horizons: Callable):
    """Check exercise 8.1: skill and trust horizon of distances (N, H), in steps."""
    rng = np.random.default_rng(81)
    hard = rng.normal(0, 0.05, (40, 1))  # some samples are harder than others, at every step
    null = np.array([0.2, 0.4, 0.6, 0.7, 0.8])
    for case, means, expected in (
        ("a model that is better at every step", [0.1, 0.2, 0.3, 0.4, 0.47], (5, 5)),
        ("a model that loses at step 3 and gains at step 4", [0.1, 0.3, 0.65, 0.45, 0.7], (2, 2)),
        ("a model that is worse than persistence", [0.25, 0.45, 0.7, 0.8, 0.9], (0, 2)),
    ):
        model = np.array(means) + hard
        result = ask(horizons, model, null + hard)
        found = two(result, int, "Return two whole numbers, the skill and the trust horizon.")
        hint = f"With {case}: expected {expected[0]} and {expected[1]}, found {found}."
        if found == expected[::-1]:
            hint = "The skill horizon comes first, then the trust horizon."
        elif found[1] == (model < 0.5).all(axis=0).cumprod().sum() != expected[1]:
            hint = "Take the mean over the samples first, then compare it with 0.5."
        elif "loses" in case and max(found) > 2:
            hint = "Stop at the first step that is not below, whatever comes after it."
        require(found == expected, hint)


@exercise("8.2")
def check_paired_interval(paired_interval: Callable):
    """Check exercise 8.2: the 95 % bootstrap interval of a mean difference, sample by sample."""
    rng = np.random.default_rng(81)
    count = 150
    hard = rng.uniform(0.2, 0.8, count)  # samples differ much, what is gained little
    gain = rng.normal(0.04, 0.05, count)
    result = ask(paired_interval, hard - gain, hard.copy(), 1000)
    low, high = two(result, float, "Return two numbers, the lower and the upper end.")
    error = gain.std() / np.sqrt(count)
    width, middle, goal = high - low, (low + high) / 2, 3.92 * error
    require(width >= 0, "The lower end is above the upper one.")
    hint = "Every resample has the same mean: draw N samples *with* replacement."
    require(width > error / 20, hint)
    hint = "That is persistence - prediction. Below 0 shall mean: the model is better."
    require(not np.isclose(middle, gain.mean(), atol=2 * error), hint)
    hint = "That is the spread of single samples. The interval is of their *mean*."
    near = abs(low - np.quantile(-gain, 0.025)) < 3 * error
    require(width <= 3 * goal or not near, hint)
    require(
        width <= 3 * goal,
        "The interval is far too wide. Draw the same samples for prediction and persistence: "
        "most of what differs between samples then cancels.",
    )
    hint = f"The middle should be near {-gain.mean():.4f}, found {middle:.4f}."
    require(np.isclose(middle, -gain.mean(), atol=error), hint)
    require(
        0.8 < width / goal < 1.2,
        f"The width should be near {goal:.4f}, found {width:.4f}: take the 2.5 % and the 97.5 % "
        "quantile of the means.",
    )
