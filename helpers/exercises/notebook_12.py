"""The exercises of notebook 12."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers import metrics
from helpers.exercises._shared import (
    Hint,
    ask,
    compare,
    exercise,
    one_number,
    require,
    try_experiment,
    two,
)
from helpers.sources import own


@exercise("12.1")
def check_largest_step(largest_step: Callable):
    """Check exercise 12.1: the largest step at which persistence is near enough."""
    frames = np.zeros((2, 12, 4, 4, 20), np.uint8)
    for time in range(12):
        frames[0, time, ..., time : time + 6] = 1  # one voxel farther at each time point
        frames[1, time, ..., time // 2 : time // 2 + 6] = 1  # at every other one
    for most in (0.25, 0.45, 0.6):
        expected, of_first = _largest(frames, most), _largest(frames[:1], most)
        mistakes = {
            "That is the first step at which it is wrong by more.": expected + 1,
            "Take the mean over all sequences, not the first one alone.": of_first,
        }
        found = one_number(ask(largest_step, frames.copy(), most))
        compare(found, expected, mistakes, case=f"with most = {most}")


def _largest(frames: np.ndarray, most: float) -> int:
    """Return the largest step at which persistence is wrong by at most so much; 0 if none is."""
    steps = range(1, frames.shape[1])
    apart = (metrics.jaccard_distance(frames[:, n:], frames[:, :-n]).mean() for n in steps)
    return max((n for n, distance in zip(steps, apart) if distance <= most), default=0)


@exercise("12.2")
def check_fine_tuning(expected: float, measured: dict, distance_with: Callable):
    """Check exercise 12.2: a guess, and the distances that several learning rates lead to."""
    try_experiment(expected, measured, distance_with)


@exercise("12.3")
def check_own_sequences(bring: Callable):
    """Check exercise 12.3: sequences of one's own, and whether there is something to forecast."""
    hint = "Return two things: an array (N, T, D, H, W), and the threshold or None."
    sequences, threshold = two(ask(bring), lambda part: part, hint)
    with tempfile.TemporaryDirectory() as place:
        try:
            report = own.from_arrays(sequences, Path(place) / "own", at=threshold)
        except (TypeError, ValueError) as error:
            raise Hint(str(error)) from None
    print(report)
    first, longest = report.persistence[1], report.persistence[max(report.persistence)]
    require(
        longest > 0.02,
        f"Frames {max(report.persistence)} time points apart differ by {longest:.4f} only: nearly "
        "nothing moves. Keep fewer time points, or make it faster.",
    )
    require(
        first < 0.9,
        f"Frames next to each other are {first:.2f} apart: hardly a voxel stays where it was. Keep "
        "more time points, or make it slower.",
    )
