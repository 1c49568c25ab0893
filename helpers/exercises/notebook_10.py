"""The exercises of notebook 10."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import array, ask, compare, exercise, one_number, require


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


@exercise("10.2")
def check_worth_taking(worth_taking: Callable):
    """Check exercise 10.2: whether one more voxel raises the Jaccard index one can expect."""
    # The first two tell the two usual mistakes apart.
    cases = [(0.45, 0.3), (0.6, 0.95)]
    for index in (0.0, 0.25, 0.5, 0.8, 1.0):
        cases += [(index / (1 + index) + step, index) for step in (-0.02, 0.02)]
    for probability, index in cases:
        if probability < 0:
            continue
        found = bool(ask(worth_taking, probability, index))
        expected = probability > index / (1 + index)
        hint = f"at p = {probability:.3f} and an index of {index} it should be {expected}."
        if found == (probability > 0.5):
            hint += " One half is right only where the index is 1."
        elif found == (probability > index):
            hint += " A voxel that is filled anyway is in the union already: what does it add?"
        require(found == expected, hint)


@exercise("10.3")
def check_averaged_forecast(averaged: Callable):
    """Check exercise 10.3: a forecast averaged over the eight mirrorings."""
    rng = np.random.default_rng(103)
    history = rng.random((2, 3, 4, 4, 4)).astype(np.float32)
    weight = rng.random((4, 4, 4)).astype(np.float32)
    asked = []

    def lopsided(frames):
        asked.append(np.asarray(frames))
        return np.asarray(frames)[:, -1] * weight

    result = array(ask(averaged, lopsided, history.copy()), (2, 4, 4, 4), "(B, D, H, W)")
    axes = [[a for a, flip in zip((-3, -2, -1), flips) if flip] for flips in np.ndindex(2, 2, 2)]
    each = np.array([history[:, -1] * np.flip(weight, a) for a in axes])
    unturned = np.array([np.flip(history[:, -1], a) * weight for a in axes])
    otherwise = "Flip the axes D, H and W only: -3, -2, -1 of the history and the forecast."
    if any(frames.shape != history.shape for frames in asked):
        otherwise = "The forecaster must get histories of the same shape (B, T, D, H, W)."
    elif len(asked) != 8:
        otherwise = f"The forecaster was asked {len(asked)} times; expected 8."
    four = each[[0, 1, 2, 4]].mean(axis=0)
    mistakes = {
        "Mirror each forecast back before you average.": unturned.mean(axis=0),
        "That is the sum of eight forecasts: divide by their number.": each.sum(axis=0),
        "Three mirrors can be combined: 2 · 2 · 2 = 8 ways, none included.": four,
    }
    compare(result, each.mean(axis=0), mistakes, otherwise, atol=1e-5)
