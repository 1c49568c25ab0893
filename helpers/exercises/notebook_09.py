"""The exercises of notebook 09."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import (
    ask,
    compare,
    exercise,
    one_number,
    require,
    try_experiment,
    two,
)


@exercise("9.1")
def check_effect(effect: Callable):
    """Check exercise 9.1: what a knob does and how sure that is, from runs in pairs of one seed."""
    rng = np.random.default_rng(91)
    base = rng.normal(0.30, 0.02, 6)  # what the seed does to both
    turned = base - 0.01 + rng.normal(0, 0.002, 6)
    result = ask(effect, base.copy(), turned.copy())
    hint = "Return two numbers: the mean difference and its standard error."
    mean, error = two(result, float, hint)
    gap, root = turned - base, np.sqrt(len(base))
    turn = {"That is base - turned. Below 0 should mean that turning the knob helped.": -gap.mean()}
    hint = f"The mean difference is {gap.mean():.5f}, not {mean:.5f}."
    compare(mean, gap.mean(), turn, hint)
    expected, spreads = gap.std(ddof=1) / root, [gap.std(ddof=1), gap.std()]
    mistakes = {
        "That is the error of runs that have nothing in common. These come in pairs: take the "
        "difference seed by seed first.": np.sqrt(base.var(ddof=1) + turned.var(ddof=1)) / root,
        "That is the spread of one difference; divide by the root of their number.": spreads,
        "With so few runs it matters: use ddof=1 in the standard deviation.": gap.std() / root,
    }
    compare(error, expected, mistakes, f"The standard error is {expected:.5f}, not {error:.5f}.")


@exercise("9.2")
def check_knob(expected, measured: dict, mean_of: Callable):
    """Check exercise 9.2: a guess, and the mean distance of some seeds at each value of a knob."""
    try_experiment(expected, measured, mean_of)


@exercise("9.3")
def check_luck(luck: Callable):
    """Check exercise 9.3: by how much the best of equal runs beats their mean, by chance."""
    # Means of the largest of n standard normal numbers.
    expected = {2: 0.56419, 1: 0.0, 5: 1.16296, 10: 1.53875, 50: 2.24907}
    spread = 0.02
    for runs, value in expected.items():
        found = one_number(ask(luck, spread, runs)) / spread
        values = f"expected {value * spread:.4f}, found {found * spread:.4f}."
        otherwise = f"For {runs} runs {values}" if runs > 1 else "One run is its own best: 0."
        if runs > 1 and 0.75 < found / value < 1.33:
            otherwise += " Draw more often (10,000 times), and average."
        mistakes = {
            "Return how much *lower* the best is, as a number above 0.": -value,
            "That is what it tends to for very many runs; draw numbers, and take the mean of the "
            "smallest.": np.sqrt(2 * np.log(runs)),
        }
        of_one = runs > 1 and abs(found * spread - value) < 0.04
        require(not of_one, "That is for a spread of 1: multiply by the spread.")
        compare(found, value, mistakes, otherwise, atol=0.04)
