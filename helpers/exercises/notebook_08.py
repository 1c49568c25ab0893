"""The exercises of notebook 08."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import array, ask, compare, exercise, one_number, require, two


@exercise("8.1")
def check_paired_interval(paired_interval: Callable):
    """Check exercise 8.1: the 95 % bootstrap interval of a mean difference, sample by sample."""
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


def _percentiles(distances):
    """Return the 95 % percentile, interpolated in three ways; each will do."""
    return [np.percentile(distances, 95, method=way) for way in ("lower", "linear", "higher")]


@exercise("8.2")
def check_hausdorff(hausdorff: Callable):
    """Check exercise 8.2: the 95 % Hausdorff distance of two surfaces, points (n, 3) and (m, 3)."""
    rng = np.random.default_rng(82)
    one = rng.uniform(0, 10, (60, 3))
    part = one[:40] + (0.0, 0.0, 0.5)  # all of it is near the first, but not the reverse
    part[0] += 30.0  # one stray point, within the 5 % that are forgiven
    for first, second in ((one, part), (part, one)):
        found = one_number(ask(hausdorff, first.copy(), second.copy()))
        apart = np.sqrt(((first[:, None] - second) ** 2).sum(axis=-1))
        there, back = apart.min(axis=1), apart.min(axis=0)
        low, _, high = np.maximum(_percentiles(there), _percentiles(back))
        largest, means = max(there.max(), back.max()), [there.mean(), back.mean()]
        one_way = _percentiles(there) + _percentiles(back)
        together = _percentiles(np.concatenate([there, back]))
        stray = "That is the largest distance. One stray voxel decides it: take the 95 % instead."
        both = "You look one way only. What the forecast lacks shows from the truth: go both ways."
        mistakes = {
            stray: largest,
            both: one_way,
            "Take the 95 % of each direction by itself, then the larger one.": together,
            "For each point, take the *nearest* point of the other surface first.": apart.max(),
            "That is a mean distance, not the 95 %.": [*means, np.mean(means)],
        }
        otherwise = f"Expected {low:.3f} to {high:.3f}, found {found:.3f}."
        compare(found, np.clip(found, low, high), mistakes, otherwise)


@exercise("8.3")
def check_vanished(vanished: Callable):
    """Check exercise 8.3: the share of samples whose forecast has vanished, at each horizon."""
    rng = np.random.default_rng(83)
    truth = (rng.random((8, 5, 4, 4, 4)) < 0.3).astype(np.uint8)
    prediction = rng.uniform(0, 0.95, truth.shape).astype(np.float32)
    prediction[..., 0, 0, 0] = 0.9
    for horizon in range(5):
        prediction[:horizon, horizon] *= 0.5  # grey everywhere, filled nowhere
    truth[0, 2:] = truth[6, 3] = 0
    expected = np.array([0, 1, 1, 2, 3]) / 8
    hint = "That is an answer for each sample: take the mean over the samples."
    result = ask(vanished, truth.copy(), prediction.copy())
    result = array(result, (5,), "one share per horizon", {(8, 5): hint})
    empty, full = ~(prediction >= 0.5).any(axis=(2, 3, 4)), truth.any(axis=(2, 3, 4))
    among_full = (empty & full).sum(axis=0) / full.sum(axis=0)
    mistakes = {
        "You count the samples: divide by their number.": expected * 8,
        "Where the truth is empty as well, an empty forecast is right: leave it out.": empty.mean(
            0
        ),
        "Grey voxels are not filled: cut at 0.5 before you ask whether any is.": np.zeros(5),
        "Divide by all samples, also those whose truth is empty.": among_full,
    }
    compare(result, expected, mistakes)
