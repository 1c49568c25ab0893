"""Check functions of the exercises: each tries a learner's answer and prints what is off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from helpers import metrics


def report(exercise: str, problems: list[str]) -> bool:
    """Print the verdict on one exercise and return whether it is solved.

    Args:
        exercise: its number, for example `"1.2"`.
        problems: what is off, most important first; empty when all is well. Only the first is
            printed: one hint at a time.
    """
    print(f"Exercise {exercise}: " + (f"not yet. {problems[0]}" if problems else "solved."))
    return not problems


def attempt(function: Callable, *args, **kwargs):
    """Call a learner's function; return (result, None), or (None, a sentence on what happened).

    A result of `None` counts as "nothing returned yet"; an exception is told, not raised.
    """
    name = getattr(function, "__name__", "your answer")
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # whatever a learner's code raises is an answer to explain
        return None, f"{name} raised {type(error).__name__}: {error}"
    if result is None:
        return None, f"{name} returns nothing yet: replace the line marked 'your turn'."
    return result, None


def check_shapes(shapes: Callable[[], tuple]) -> bool:
    """Check exercise 0.1: the shapes of a history of 8 frames and of its forecast, batch 32."""
    result, problem = attempt(shapes)
    if problem:
        return report("0.1", [problem])
    problems = []
    try:
        history, forecast = (tuple(part) for part in result)
    except (TypeError, ValueError):
        return report("0.1", ["Return two tuples, the history's shape and the forecast's."])
    if len(history) != 5:
        problems.append("A history has five axes: (B, T, D, H, W).")
    elif history != (32, 8, 16, 16, 16):
        problems.append(f"Look at each axis of the history again: you have {history}.")
    if len(forecast) != 4:
        problems.append("A forecast is one frame per sequence, so it has no time axis.")
    elif forecast != (32, 16, 16, 16):
        problems.append(f"Look at each axis of the forecast again: you have {forecast}.")
    return report("0.1", problems)


def check_pooled(pooled: Callable) -> bool:
    """Check exercise 3.1: the pooled Jaccard distance per sequence of boolean arrays (N, T, …)."""
    rng = np.random.default_rng(31)
    truth, prediction = rng.random((2, 4, 3, 6, 6, 6)) < 0.2
    truth[3] = prediction[3] = False
    result, problem = attempt(pooled, truth, prediction)
    if problem:
        return report("3.1", [problem])
    expected = metrics.pooled(truth, prediction)
    result = np.asarray(result, dtype=float)
    problems = []
    if result.shape != (4,):
        problems.append(f"The result has shape {result.shape}; one number per sequence is (4,).")
    elif not np.isfinite(result[3]):
        problems.append("A sequence that is empty in both gives 0/0. Its distance is 0.")
    elif np.allclose(result, metrics.per_frame(truth, prediction)):
        problems.append("That is the mean over frames. Add up over all frames first, then divide.")
    elif np.allclose(1 - result[:3], expected[:3]):
        problems.append("That is the Jaccard index; the distance is 1 minus it.")
    elif not np.allclose(result, expected):
        problems.append(f"Expected {expected.round(4)}, found {result.round(4)}.")
    return report("3.1", problems)


def check_copying_ratio(ratio: Callable) -> bool:
    """Check exercise 3.2: distance to the input over distance to the target, both per frame."""
    rng = np.random.default_rng(32)
    inputs, targets, predictions = rng.random((3, 4, 3, 6, 6, 6)) < 0.3
    result, problem = attempt(ratio, inputs, targets, predictions)
    if problem:
        return report("3.2", [problem])
    to_input = metrics.per_frame(inputs, predictions).mean()
    to_target = metrics.per_frame(targets, predictions).mean()
    problems = []
    if np.size(result) != 1:
        problems.append("Return one number: average over frames and sequences before dividing.")
    elif np.isclose(result, to_target / to_input):
        problems.append("Upside down: the distance to the input goes on top.")
    elif not np.isclose(result, to_input / to_target):
        problems.append(f"Expected {to_input / to_target:.4f}, found {float(result):.4f}.")
    return report("3.2", problems)


def check_blurred_extrapolation(forecast: Callable) -> bool:
    """Check exercise 3.3: linear extrapolation of frames blurred in space, sigma 0.7."""
    frames = np.zeros((2, 5, 16, 16, 16))
    for t in range(5):  # a block that moves along D, and one that stands still
        frames[0, t, 2 + t : 6 + t, 5:10, 5:10] = 1
    frames[1, :, 4:9, 4:9, 4:9] = 1
    result, problem = attempt(forecast, frames)
    if problem:
        return report("3.3", [problem])
    result = np.asarray(result)
    blurred = ndimage.gaussian_filter(frames, sigma=(0, 0, 0.7, 0.7, 0.7))
    expected = 2 * blurred[:, 1:-1] - blurred[:, :-2] >= 0.5
    over_time = ndimage.gaussian_filter(frames, sigma=0.7)
    problems = []
    if result.shape != expected.shape:
        problems.append(f"Expected shape {expected.shape}, found {result.shape}.")
    elif result.dtype != bool:
        problems.append("Return a boolean array: compare with 0.5.")
    elif np.array_equal(result, 2 * over_time[:, 1:-1] - over_time[:, :-2] >= 0.5):
        problems.append(
            "You blur over time and over sequences too, so the forecast sees the future. "
            "Blur over the last three axes only: sigma=(0, 0, sigma, sigma, sigma)."
        )
    elif not np.array_equal(result, expected):
        wrong = int((result != expected).sum())
        problems.append(f"{wrong} voxels differ from 2 * current - previous of the blurred frames.")
    return report("3.3", problems)
