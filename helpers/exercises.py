"""Check functions of the exercises: each tries a learner's answer and prints what is off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from helpers import cavities, metrics


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


def check_possible_counts(possible_counts: Callable) -> bool:
    """Check exercise 1.1: all allowed counts (k, 4) of cavities with the given Betti numbers."""
    allowed = cavities.allowed_counts().astype(int)
    n0, n1, n2, n3 = allowed.T
    every = np.stack([np.ones_like(n0), n2 + n3, n1 + 2 * n3, n0 + n1 + n2 + n3], axis=1)
    for betti in ((1, 3, 4, 9), (1, 0, 0, 1), (1, 12, 2, 16), (1, 9, 9, 9)):
        result, problem = attempt(possible_counts, np.array(betti, np.uint8))
        if problem:
            return report("1.1", [problem])
        expected = allowed[(every == betti).all(axis=1)]
        result = np.asarray(result)
        if result.shape == (4,):
            hint = "That is one answer. Several counts can have the same label: return all of them."
        elif result.dtype == bool:
            hint = "That is a mask. Use it to choose rows of `cavities.allowed_counts()`."
        elif result.ndim != 2 or result.shape[1] != 4:
            hint = f"The result has shape {result.shape}; expected (k, 4), one row per answer."
        elif {*map(tuple, result.tolist())} != {*map(tuple, expected.tolist())}:
            extra = len(result) > len(expected)
            hint = f"For betti = {betti} expected {len(expected)} rows, found {len(result)}." + (
                " All four numbers of a row must agree: `.all(axis=1)`." if extra else ""
            )
        else:
            continue
        return report("1.1", [hint])
    return report("1.1", [])


def check_cross_section(cross_section: Callable) -> bool:
    """Check exercise 1.2: the radius of the 3D slice of a 4D ball at each time."""
    times, centre, a = np.arange(128), 60, 20.5
    with np.errstate(invalid="ignore"):
        result, problem = attempt(cross_section, times, centre, a)
    if problem:
        return report("1.2", [problem])
    result = np.asarray(result, dtype=float)
    away = np.abs(times - centre)
    expected = np.sqrt(np.maximum(a**2 - away**2, 0))
    problems = []
    if result.shape != times.shape:
        problems.append(f"The result has shape {result.shape}; one radius per time is (128,).")
    elif np.isnan(result).any():
        problems.append(
            "Where the slice misses the ball you take the root of a negative number, which is NaN. "
            "Cut it off at 0 before the root: np.maximum(…, 0)."
        )
    elif np.allclose(result, np.maximum(a - away, 0)):
        problems.append("That radius grows evenly. Put w = t - centre into x² + y² + z² + w² ≤ a².")
    elif np.allclose(result, np.maximum(a**2 - away**2, 0)):
        problems.append("That is the radius squared.")
    elif np.allclose(result, np.sqrt(np.maximum(a**2 - times**2, 0))):
        problems.append("The ball's centre is at time `centre`, not at 0.")
    elif not np.allclose(result, expected):
        wrong = int(np.abs(result - expected).argmax())
        problems.append(
            f"At t = {wrong}, with centre {centre} and a = {a}, expected {expected[wrong]:.2f}, "
            f"found {result[wrong]:.2f}."
        )
    return report("1.2", problems)


def check_max_pool(max_pool: Callable) -> bool:
    """Check exercise 1.3: one frame (D, H, W) max-pooled in blocks of size³ voxels."""
    frame = (np.random.default_rng(13).random((6, 9, 12)) < 0.05).astype(np.uint8)
    result, problem = attempt(max_pool, frame, 3)
    if problem:
        return report("1.3", [problem])
    result = np.asarray(result)
    blocks = frame.reshape(2, 3, 3, 3, 4, 3)
    problems = []
    if result.shape == (3, 3, 3):
        problems.append("You keep the position inside a block and pool the blocks: swap the axes.")
    elif result.shape != (2, 3, 4):
        problems.append(f"A frame (6, 9, 12) in blocks of 3 gives (2, 3, 4), not {result.shape}.")
    elif np.array_equal(result, frame[::3, ::3, ::3]):
        problems.append("You take the first voxel of each block; take the largest of all 27.")
    elif np.allclose(result, blocks.mean(axis=(1, 3, 5))):
        problems.append("That is the mean of each block; take the maximum.")
    elif np.array_equal(result, frame.reshape(3, 2, 3, 3, 3, 4).max(axis=(0, 2, 4))):
        problems.append(
            "Your blocks are not made of neighbours. In `reshape` the blocks come first, "
            "then the position inside a block: (D // size, size, …)."
        )
    elif not np.array_equal(result, blocks.max(axis=(1, 3, 5))):
        problems.append(f"{int((result != blocks.max(axis=(1, 3, 5))).sum())} of 24 blocks differ.")
    return report("1.3", problems)


def check_empty_pairs(empty_pairs: Callable) -> bool:
    """Check exercise 1.4: the share of neighbouring frames (N, T, D, H, W) that are both empty."""
    filled = np.array([[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0]])
    frames = np.zeros((3, 6, 4, 4, 4), np.uint8)
    frames[..., 1, 2, 3] = filled
    result, problem = attempt(empty_pairs, frames)
    if problem:
        return report("1.4", [problem])
    empty = filled == 0
    both = empty[:, 1:] & empty[:, :-1]
    row = empty.ravel()
    problems = []
    if np.size(result) != 1:
        problems.append(f"Return one number, not an array of shape {np.shape(result)}.")
    elif np.isclose(result, empty.mean()):
        problems.append("That is the share of empty frames; a pair needs two in a row.")
    elif np.isclose(result, both.sum()):
        problems.append("That is how many; divide by the number of pairs.")
    elif np.isclose(result, both.sum() / empty.size):
        problems.append("T frames make T - 1 pairs, not T.")
    elif np.isclose(result, (row[1:] & row[:-1]).mean()):
        problems.append("You pair the last frame of one sequence with the first of the next.")
    elif np.isclose(result, 1 - (~empty[:, 1:] & ~empty[:, :-1]).mean()):
        problems.append("You count pairs where at least one frame is empty; both must be.")
    elif not np.isclose(result, both.mean()):
        problems.append(f"Expected {both.mean():.4f}, found {float(np.squeeze(result)):.4f}.")
    return report("1.4", problems)


def check_select(select: Callable) -> bool:
    """Check exercise 2.1: the frames of a format, by frames whose values are their times."""
    frames = np.arange(128, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 4), np.uint8)
    problems = []
    for T, TINC in ((80, 4), (40, 2), (60, 3), (20, 1)):
        result, problem = attempt(select, frames, T, TINC)
        if problem:
            return report("2.1", [problem])
        first, case = (128 - T) // 2, f"T{T}_TINC{TINC}"
        expected = list(range(first, first + T, TINC))
        result = np.asarray(result)
        times = result[:, 0, 0, 0].tolist() if result.ndim == 4 else None
        if times is None or result.shape[1:] != frames.shape[1:]:
            problems.append(
                f"{case} has shape {result.shape}; expected {(len(expected), *frames.shape[1:])}."
            )
        elif times == expected:
            continue
        elif times == list(range(0, T, TINC)):
            problems.append(f"{case} starts at time 0. Take the T time points in the middle.")
        elif times == list(range(first, first + T)):
            problems.append(f"{case} keeps all of the {T} time points; keep every {TINC}th.")
        elif len(times) == len(expected) + 1:
            problems.append(f"{case} keeps {len(times)} frames, one too many: see the slice's end.")
        else:
            problems.append(
                f"{case} keeps the times {times[:3]}…{times[-1:]}; "
                f"expected {expected[:3]}…{expected[-1:]}."
            )
    return report("2.1", problems)


def check_count_windows(count_windows: Callable) -> bool:
    """Check exercise 2.2: how many windows and batches many sequences give."""
    problems = []
    for files, steps, history, batch in ((10, 20, 3, 32), (7, 20, 19, 7), (64, 32, 8, 16)):
        result, problem = attempt(count_windows, files, steps, history, batch)
        if problem:
            return report("2.2", [problem])
        try:
            windows, batches = (int(number) for number in result)
        except (TypeError, ValueError):
            return report("2.2", ["Return two whole numbers: windows and batches."])
        case = f"{files} files of {steps} frames, history {history}"
        expected = files * (steps - history)
        if windows == files * (steps - history + 1):
            problems.append(
                f"{case}: the last window needs a frame after it as its target, so there is one "
                "window less in each sequence."
            )
        elif windows == files * steps - history:
            problems.append(f"{case}: a window must not reach from one file into the next.")
        elif windows == steps - history:
            problems.append(f"{case}: these are the windows of one sequence only.")
        elif windows != expected:
            problems.append(f"{case}: expected {expected} windows, found {windows}.")
        elif batches != -(-expected // batch):
            problems.append(
                f"{expected} windows in batches of {batch}: found {batches} batches. The last one "
                "counts even when it is smaller, and there is none when nothing is left over."
            )
    return report("2.2", problems)


def check_packing(pack: Callable, unpack: Callable) -> bool:
    """Check exercise 2.3: frames to bits and back, also with 27 voxels, which 8 doesn't divide."""
    rng = np.random.default_rng(23)
    problems = []
    for shape in ((4, 4, 4), (3, 3, 3)):
        frames = (rng.random((5, *shape)) < 0.4).astype(np.uint8)
        voxels = frames[0].size
        bits, problem = attempt(pack, frames)
        if problem:
            return report("2.3", [problem])
        expected = np.packbits(frames.reshape(5, voxels), axis=-1)
        bits = np.asarray(bits)
        case = f"5 frames of {shape}"
        if bits.dtype == np.uint8 and bits.shape == np.packbits(frames).shape:
            problems.append(f"{case}: you pack all frames in one go; give each a row of its own.")
        elif bits.dtype != np.uint8 or bits.shape != expected.shape:
            problems.append(
                f"{case}: expected bits uint8 {expected.shape}, found {bits.dtype} {bits.shape}."
            )
        elif not np.array_equal(bits, expected):
            problems.append(f"{case}: the bits differ from np.packbits, voxels in C order.")
        if problems:
            break
        filled_up = (
            f"{case}: the last byte of a frame is filled up; unpack only as many bits as a frame "
            "has voxels."
        )
        back, problem = attempt(unpack, expected, shape)
        if problem:
            return report("2.3", [filled_up if "reshape" in problem and voxels % 8 else problem])
        back = np.asarray(back)
        if back.size > frames.size:
            problems.append(filled_up)
        elif back.shape != frames.shape or not np.array_equal(back, frames):
            problems.append(f"{case}: expected the same frames back, shape {frames.shape}.")
        if problems:
            break
    return report("2.3", problems)


def check_mended_pipeline(mended: Callable) -> bool:
    """Check exercise 2.4: cache, shuffle, batch, in this order, with a buffer of everything."""
    import tensorflow as tf

    count, batch, read = 26, 4, []

    def examples():
        for number in range(count):
            read.append(number)
            yield number

    source = tf.data.Dataset.from_generator(examples, output_signature=tf.TensorSpec((), tf.int64))
    dataset, problem = attempt(mended, source, count, batch)
    if problem:
        return report("2.4", [problem])
    try:
        epochs = [[element.tolist() for element in dataset.as_numpy_iterator()] for _ in range(20)]
        flat = [[number for numbers in epoch for number in numbers] for epoch in epochs]
    except Exception as error:  # a learner's pipeline may fail only when it is read
        return report("2.4", [f"The pipeline can't be read as batches: {type(error).__name__}."])
    groups = [sorted(sorted(numbers) for numbers in epoch) for epoch in epochs]
    problems = []
    if len(flat[0]) < count:
        problems.append(f"{count - len(flat[0])} examples are missing: the last batch is dropped.")
    elif sorted(flat[0]) != list(range(count)):
        problems.append("An epoch must deliver every example exactly once.")
    elif len(epochs[0]) != -(-count // batch):
        problems.append(f"Expected {-(-count // batch)} batches, found {len(epochs[0])}.")
    elif flat[0] == flat[1]:
        problems.append(
            "Every epoch comes in the same order. Do you shuffle, and after the cache? The cache "
            "keeps what comes by: after the shuffle it keeps the first epoch's order for ever."
        )
    elif groups[0] == groups[1]:
        problems.append(
            "The same examples share a batch in every epoch: you shuffle batches. Shuffle first."
        )
    elif len(read) > count:
        problems.append("The slow examples are read anew in each epoch: put the cache back.")
    elif max(max(epoch[0]) for epoch in epochs) < count - 1:
        problems.append(
            f"The last examples never come in the first batch: with {count} examples, a buffer of "
            f"{count} mixes freely."
        )
    return report("2.4", problems)


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
