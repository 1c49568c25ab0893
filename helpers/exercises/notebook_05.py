"""The exercises of notebook 05."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.exercises._shared import (
    array,
    ask,
    compare,
    differentiate,
    exercise,
    one_number,
    require,
    try_experiment,
)
from helpers.rollout import rollout


class Averaging:
    """A forecaster for exercise 5.1 that uses all it is given, and most of all the last frame."""

    name = "averaging"

    def __call__(self, history):
        history = np.asarray(history)
        return 0.6 * history[:, -1] + 0.4 * history.mean(axis=1)


@exercise("5.1")
def check_honest_forecast(forecast: Callable):
    """Check exercise 5.1: a rollout from the observed frames that never sees the others."""
    observed, horizon = 3, 4
    rng = np.random.default_rng(53)
    sequences = (rng.random((2, 9, 4, 4, 4)) < 0.4).astype(np.float32)
    other, before = sequences.copy(), sequences.copy()
    other[:, observed:] = 1 - other[:, observed:]
    found, again = (
        ask(forecast, Averaging(), each, observed, horizon) for each in (sequences, other)
    )
    hint = "You write into the sequences that you were given: copy them first."
    require(np.array_equal(sequences, before), hint)
    found = array(found, (2, horizon, 4, 4, 4), "(B, horizon, D, H, W)")
    expected = rollout(Averaging(), before[:, :observed], horizon)
    rounded = rollout(Averaging(), before[:, :observed], horizon, feedback="half")
    short = rollout(Averaging(), before[:, :observed], horizon, keep=observed)
    require(
        np.allclose(found, again, atol=1e-5),
        "When the frames after the observed ones change, your forecast changes: it still sees "
        "the truth. Give the forecaster the observed frames and your own forecasts.",
    )
    mistakes = {
        "Every step gives the same frame: put each forecast behind the history.": found[:, :1],
        "You round what you feed back. Feed back the probabilities as they are.": rounded,
        "You drop the oldest frame at each step. Keep all of them.": short,
    }
    step = int(np.abs(found - expected).max(axis=(0, 2, 3, 4)).argmax()) + 1
    otherwise = f"It sees no truth, but differs from a rollout, most at horizon {step}."
    compare(found, expected, mistakes, otherwise, atol=1e-5)


@exercise("5.2")
def check_learning_rate(expected: float, measured: dict, distance_after: Callable):
    """Check exercise 5.2: a guess, and the distance after a short training at several rates."""
    try_experiment(expected, measured, distance_after)


@exercise("5.3")
def check_rate(rate: Callable):
    """Check exercise 5.3: the learning rate with warm-up and cosine decay at each step."""
    for steps, peak, warm_up in ((100, 1e-2, 10), (40, 2.0, 1), (30, 0.5, 0)):
        step = np.arange(steps)
        found = np.array([one_number(ask(rate, int(n), steps, peak, warm_up)) for n in step])
        rise = np.minimum((step + 1) / max(warm_up, 1), 1)
        fall = (1 + np.cos(np.pi * step / steps)) / 2
        later = (1 + np.cos(np.pi * np.maximum(step - warm_up, 0) / (steps - warm_up))) / 2
        late_rise = np.minimum(step / max(warm_up, 1), 1)
        otherwise = ""
        if np.isnan(found).any():
            otherwise = "some rates are NaN."
        elif found.min() < 0:
            otherwise = "the rate becomes negative: lift the cosine to 0…1 with (1 + cos) / 2."
        wasted = "the rate of step 0 is 0, a wasted step: count steps from 1 in the warm-up."
        delayed = "the cosine begins to fall after the warm-up; let it fall from step 0 on."
        mistakes = {
            "there is no warm-up.": peak * fall,
            "the rate never falls.": peak * rise,
            wasted: peak * late_rise * fall,
            delayed: peak * rise * later,
        }
        case = f"With {steps} steps, a peak of {peak} and warm_up={warm_up}"
        compare(found, peak * rise * fall, mistakes, otherwise, case)


@exercise("5.4")
def check_shown_steps(shown_steps: Callable):
    """Check exercise 5.4: up to where the whole interval lies below 0, without a gap."""
    rng = np.random.default_rng(54)
    # The upper ends of the intervals at horizons 1, 2, …; means lie 0.02 below.
    cases = {
        "better at every horizon": ([-0.1, -0.09, -0.08, -0.07], 4, -0.1),
        "a forecast worse in the mean squared error": ([-0.1, -0.05, 0.05], 2, 0.1),
        "a forecast better in the mean squared error only": ([0.05, 0.06], 0, -0.1),
        "an interval around 0 at horizon 4": ([-0.1, -0.05, -0.03, 0.01, 0.03], 3, -0.1),
        "a gap at horizon 2": ([-0.1, 0.05, -0.05, -0.04, 0.05], 1, -0.1),
    }
    for case, (highs, expected, mse) in cases.items():
        rows = [
            (n, measure, high - 0.02, high - 0.04, high)
            for n, jaccard in enumerate(highs, start=1)
            for measure, high in (("jaccard", jaccard), ("mse", mse))
        ]
        table = pd.DataFrame(rows, columns=["horizon", "measure", "mean", "low", "high"])
        if "squared" not in case:
            table = table.iloc[rng.permutation(len(rows))]
        result = ask(shown_steps, table.reset_index(drop=True))
        whole = np.size(result) == 1 and int(np.squeeze(result)) == np.squeeze(result)
        require(whole, "Return one whole number, how many steps ahead.")
        found, good = int(np.squeeze(result)), np.array(highs) < 0
        hint = f"expected {expected}, found {found}."
        if "interval" in case and found == expected + 1:
            hint = "the mean is below 0 there, but not the whole interval: look at high."
        elif "squared" in case:
            hint = "use the rows whose measure is 'jaccard'."
        elif "gap" in case and found in (good.sum(), np.flatnonzero(good)[-1] + 1):
            hint = "stop at the first horizon that is not better, whatever comes after it."
        elif "gap" not in case:
            hint += " Rows may come in any order: sort them by horizon."
        require(found == expected, f"With {case}: {hint}")


@exercise("5.5")
def check_soft_jaccard_per_frame(soft: Callable):
    """Check exercise 5.5: the mean soft Jaccard distance of frames, (B, T, D, H, W, 1) to (B,)."""
    rng = np.random.default_rng(51)
    # Full and empty frames, so that the two protocols disagree.
    share = np.array([0.02, 0.1, 0.4, 0.9]).reshape(4, 1, 1, 1, 1)
    truth = (rng.random((3, 4, 5, 5, 5, 1)) < share).astype(np.float32)
    probability = rng.uniform(0.05, 0.95, truth.shape).astype(np.float32)
    truth[0, 1] = probability[0, 1] = 0
    values, gradient = differentiate(soft, truth, probability)
    hits, sums = (a.sum(axis=(2, 3, 4, 5)) for a in (truth * probability, truth + probability))
    union = sums - hits
    frames = np.where(union > 0, 1 - hits / np.maximum(union, 1e-9), 0)
    expected = frames.mean(axis=1)
    hint = "You return a distance for each frame: take the mean over the frames."
    array(values, (3,), "one number per sequence", {(3, 4): hint})
    hint = "Two empty frames give 0/0, which is NaN. Their distance is 0."
    require(np.isfinite(values).all(), hint)
    hint = "Two empty frames get the distance 1. They agree: their distance is 0."
    require(not np.isclose(values[0], expected[0] + 1 / 4, atol=1e-3), hint)
    pooled = 1 - hits.sum(axis=1) / union.sum(axis=1)
    twice = 1 - (hits / np.maximum(sums, 1e-9)).mean(axis=1)
    cut = metrics.per_frame(truth[..., 0], probability[..., 0])
    # The first sequence holds the empty frames, so mistakes show in the other two.
    mistakes = {
        "That is the pooled distance. Divide for each frame, then take the mean over time.": pooled,
        "That is the Jaccard index; the distance is 1 minus it.": 1 - expected,
        "Your union counts each hit twice: subtract p · t.": twice,
        "You cut at 0.5. Such a distance has no gradient: put in the probabilities.": cut,
    }
    mistakes = {hint: mistake[1:] for hint, mistake in mistakes.items()}
    compare(values[1:], expected[1:], mistakes, atol=1e-3)
    compare(values, expected, {}, atol=1e-3)
    hint = "Your distance has no gradient. Don't round, compare or leave keras.ops."
    require(gradient is not None, hint)
    require(
        np.isfinite(gradient).all(),
        "The value is right, but the gradient at two empty frames is NaN: a choice after the "
        "division comes too late. Divide by something that is never 0, such as "
        "ops.where(union > 0, union, 1.0).",
    )
