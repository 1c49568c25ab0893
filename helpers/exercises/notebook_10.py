"""The exercise of notebook 10."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import ask, compare, exercise, one_number


@exercise("10.1")
def check_next_arrival(next_arrival: Callable):
    """Check exercise 10.1: when a front reaches the next voxel of a row."""
    rng = np.random.default_rng(101)
    cases = {"At an even pace": np.array([3.0, 7.0, 11.0, 15.0])}
    for count in (2, 5, 9):
        times = 4 + 3.3 * np.arange(count) + rng.uniform(-1, 1, count)
        cases[f"In whole frames, {count} voxels"] = np.round(times)
    for case, times in cases.items():
        found = one_number(ask(next_arrival, times.copy()), "Return one time")
        count = len(times)
        inside, expected = np.polyval(np.polyfit(np.arange(count), times, 1), [count - 1, count])
        last, mean = 2 * times[-1] - times[-2], times[-1] + np.diff(times).mean()
        mistakes = {
            "you use the last two times only, and rounding blurs both. Fit a line to all.": last,
            "the mean pace uses the first and the last time only. Fit a line to all of them.": mean,
            "that is the line at the last voxel; the next one is one place further on.": inside,
        }
        compare(found, expected, mistakes, case=case, atol=1e-6)
