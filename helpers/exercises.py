"""Check functions of the exercises: each tries a learner's answer and prints what is off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import ndimage

from helpers import cavities, metrics
from helpers.rollout import rollout
from helpers.workshop import tensorflow


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


def check_convlstm_parameters(parameters: Callable) -> bool:
    """Check exercise 4.1: parameters of a ConvLSTM layer in 3, 2 and 1 dimensions."""
    for edge, channels, filters, dims in ((5, 1, 32, 3), (3, 8, 16, 2), (3, 2, 4, 1)):
        result, problem = attempt(parameters, edge, channels, filters, dims)
        if problem:
            return report("4.1", [problem])
        entries = edge**dims
        expected = 4 * filters * (entries * (channels + filters) + 1)
        case = f"Edge {edge}, {channels} in, {filters} channels of state, {dims} dimensions"
        if np.size(result) != 1:
            hint = "Return one number."
        elif result == expected:
            continue
        elif result == 4 * filters * (edge**3 * (channels + filters) + 1):
            hint = f"A kernel of edge {edge} has {edge}**dims entries, not always {edge}**3."
        elif result == 4 * filters * (edge * dims * (channels + filters) + 1):
            hint = f"A kernel of edge {edge} has {edge}**dims entries, not {edge} * dims."
        elif 4 * result == expected:
            hint = "There are four of everything: for three gates and the candidate."
        elif 4 * result == 3 * expected:
            hint = "Three gates and the candidate make four."
        elif result == 4 * filters * (entries * channels + 1):
            hint = "The state h is convolved too: add the recurrent kernel."
        elif result == expected - 4 * filters:
            hint = "Each gate and the candidate have a bias for each channel."
        else:
            hint = f"expected {expected:,}, found {result:,}."
        return report("4.1", [f"{case}: {hint[0].lower()}{hint[1:]}"])
    return report("4.1", [])


def check_peephole_step(step: Callable) -> bool:
    """Check exercise 4.2: one step of a ConvLSTM whose gates see the cell state."""
    rng = np.random.default_rng(42)
    shape, filters = (3, 2, 2, 2), 5
    gates = rng.normal(size=(*shape, 4 * filters))
    old = rng.normal(size=(*shape, filters))
    peepholes = rng.normal(size=(3, filters))

    def cell(order="ifgo", p=peepholes, o_sees="new", phi=np.tanh):
        parts = dict(zip(order, np.split(gates, 4, axis=-1)))
        i = _sigmoid(parts["i"] + p[0] * old)
        f = _sigmoid(parts["f"] + p[1] * old)
        new = f * old + i * np.tanh(parts["g"])
        o = _sigmoid(parts["o"] + p[2] * (new if o_sees == "new" else old))
        return o * phi(new), new

    result, problem = attempt(step, gates.copy(), old.copy(), peepholes.copy())
    if problem:
        return report("4.2", [problem])
    try:
        h, c = (np.asarray(part, float) for part in result)
    except (TypeError, ValueError):
        return report("4.2", ["Return two arrays, the new h and the new c."])
    if h.shape != old.shape or c.shape != old.shape:
        hint = f"h has shape {h.shape}, c has {c.shape}; expected {old.shape} for both."
        return report("4.2", [hint])

    def is_like(wanted):
        return np.allclose(h, wanted[0]) and np.allclose(c, wanted[1])

    problems = []
    if is_like(cell()):
        pass
    elif is_like(cell()[::-1]):
        problems.append("You return c and h; first h, then c.")
    elif is_like(cell(p=np.zeros_like(peepholes))):
        problems.append("That is the cell without peepholes: add p * c to the input of each gate.")
    elif is_like(cell(o_sees="old")):
        problems.append("The output gate sees the new cell state; yours sees the old one.")
    elif is_like(cell(phi=lambda new: new)):
        problems.append("h is o times tanh(c); the tanh is missing.")
    elif any(is_like(cell(order)) for order in ("ifog", "igfo", "figo", "fiog", "gifo")):
        problems.append("The four parts of `gates` come in the order i, f, g, o.")
    elif not np.allclose(c, cell()[1]):
        problems.append("The new c is off. It is f * c + i * g, with i and f seeing the old c.")
    else:
        problems.append("c is right, h is not: o = sigmoid(… + p_o * new c), h = o * tanh(new c).")
    return report("4.2", problems)


def check_sees_the_future(sees_the_future: Callable) -> bool:
    """Check exercise 4.3: a test for leaks, on two innocent models and five that leak."""
    rng = np.random.default_rng(43)
    frames = (rng.random((2, 6, 4, 4, 4, 1)) < 0.3).astype(np.float32)
    count = np.arange(1, 7, dtype=np.float32).reshape(1, 6, 1, 1, 1, 1)

    def around(x):
        return np.stack([x[:, max(0, t - 1) : t + 2].mean(axis=1) for t in range(6)], axis=1)

    innocent = {
        "repeats the frame": lambda x: x.copy(),
        "takes the mean of all frames so far": lambda x: np.cumsum(x, axis=1) / count,
    }
    guilty = {
        "takes the mean of the frames t - 1, t and t + 1": (around, ""),
        "looks two frames ahead": (
            lambda x: np.concatenate([x[:, 2:], 0 * x[:, :2]], axis=1),
            " Look at all outputs before the changed frame, not only at the one just before.",
        ),
        "peeps at the last frame": (
            lambda x: x + x[:, -1:],
            " Change every frame in turn, the last one too.",
        ),
        "peeps at frame 1": (
            lambda x: x + x[:, 1:2],
            " Change every frame in turn, the early ones too.",
        ),
        "subtracts a thousandth of the mean over all frames": (
            lambda x: x - x.mean(axis=1, keepdims=True) / 1000,
            " Compare the outputs themselves, not what a threshold makes of them.",
        ),
    }
    suspects = [(name, model, False, "") for name, model in innocent.items()]
    suspects += [(name, model, True, hint) for name, (model, hint) in guilty.items()]
    verdicts = []
    for name, model, leaks, hint in suspects:
        given = frames.copy()
        verdict, problem = attempt(sees_the_future, model, given)
        if problem:
            return report("4.3", [problem])
        if not np.array_equal(given, frames):
            return report("4.3", ["You change the frames that you were given: copy them first."])
        if np.shape(verdict) != () or not isinstance(verdict, (bool, np.bool_)):
            return report("4.3", ["Return True or False for the model as a whole: np.any."])
        verdicts.append((name, bool(verdict), leaks, hint))
    if not any(verdict for _, verdict, _, _ in verdicts):
        return report("4.3", ["You find no leak anywhere; five of the seven models leak."])
    for name, verdict, leaks, hint in verdicts:
        if verdict and not leaks:
            hint = (
                f"The model that {name} is innocent. A changed frame t may move output t and "
                "later ones; compare the outputs before t."
            )
            return report("4.3", [hint])
        if leaks and not verdict:
            return report("4.3", [f"The model that {name} leaks, and you let it pass.{hint}"])
    return report("4.3", [])


def check_cell_steps(cell_steps: Callable) -> bool:
    """Check exercise 4.4: steps of a rollout, state carried and recomputed from a window."""
    for history, horizon, keep in ((5, 5, 10), (3, 1, 10), (5, 20, 10), (12, 4, 10), (5, 5, 5)):
        result, problem = attempt(cell_steps, history, horizon, keep)
        if problem:
            return report("4.4", [problem])
        try:
            carried, recomputed = (int(part) for part in result)
        except (TypeError, ValueError):
            return report("4.4", ["Return two whole numbers: carried and recomputed."])
        lengths = np.arange(history, history + horizon)
        expected = int(np.minimum(lengths, keep).sum())
        case = f"History {history}, horizon {horizon}, keep {keep}"
        if carried == history + horizon:
            hint = "one step too many carried. The last forecast is not read by anyone."
        elif carried != history + horizon - 1:
            hint = f"expected {history + horizon - 1} steps carried, found {carried}."
        elif recomputed == expected:
            continue
        elif recomputed == lengths.sum():
            hint = f"no step reads more than {keep} frames: min(…, keep)."
        elif recomputed == np.minimum(lengths + 1, keep).sum():
            hint = f"the first forecast reads the {history} observed frames, no forecast yet."
        else:
            hint = f"expected {expected} steps recomputed, found {recomputed}."
        return report("4.4", [f"{case}: {hint}"])
    return report("4.4", [])


def check_soft_jaccard_per_frame(soft: Callable) -> bool:
    """Check exercise 5.1: the mean soft Jaccard distance of frames, (B, T, D, H, W, 1) to (B,)."""
    tf = tensorflow()
    rng = np.random.default_rng(51)
    # Full and empty frames, so that the two protocols disagree.
    share = np.array([0.02, 0.1, 0.4, 0.9]).reshape(4, 1, 1, 1, 1)
    truth = (rng.random((3, 4, 5, 5, 5, 1)) < share).astype(np.float32)
    probability = rng.uniform(0.05, 0.95, truth.shape).astype(np.float32)
    truth[0, 1] = probability[0, 1] = 0
    given = tf.constant(probability)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result, problem = attempt(soft, tf.constant(truth), given)
    if problem:
        return report("5.1", [problem])
    if not tf.is_tensor(result):
        return report(
            "5.1", ["Use keras.ops instead of NumPy: the gradient has to pass through your code."]
        )
    hits, sums = (a.sum(axis=(2, 3, 4, 5)) for a in (truth * probability, truth + probability))
    union = sums - hits
    frames = np.where(union > 0, 1 - hits / np.maximum(union, 1e-9), 0)
    expected, values = frames.mean(axis=1), result.numpy()
    wrong = {
        "That is the pooled distance. Divide for each frame, then take the mean over time.": (
            1 - hits.sum(axis=1) / union.sum(axis=1)
        ),
        "That is the Jaccard index; the distance is 1 minus it.": 1 - expected,
        "Your union counts each hit twice: subtract p · t.": (
            1 - (hits / np.maximum(sums, 1e-9)).mean(axis=1)
        ),
        "You cut at 0.5. Such a distance has no gradient: put in the probabilities.": (
            metrics.per_frame(truth[..., 0], probability[..., 0])
        ),
    }
    problems = []
    if values.shape == frames.shape:
        problems.append("You return a distance for each frame: take the mean over the frames.")
    elif values.shape != expected.shape:
        problems.append(f"The result has shape {values.shape}; one number per sequence is (3,).")
    elif not np.isfinite(values).all():
        problems.append("Two empty frames give 0/0, which is NaN. Their distance is 0.")
    elif np.isclose(values[0], expected[0] + 1 / 4, atol=1e-3):
        problems.append("Two empty frames get the distance 1. They agree: their distance is 0.")
    else:
        # The first sequence holds the empty frames, so mistakes show in the other two.
        found = (hint for hint, bad in wrong.items() if np.allclose(values[1:], bad[1:], atol=1e-3))
        problems += found
    if not problems and not np.allclose(values, expected, atol=1e-3):
        problems.append(f"Expected {expected.round(4)}, found {values.round(4)}.")
    gradient = None if problems else tape.gradient(result, given)
    if not problems and gradient is None:
        problems.append("Your distance has no gradient. Don't round, compare or leave keras.ops.")
    elif not problems and not np.isfinite(gradient.numpy()).all():
        problems.append(
            "The value is right, but the gradient at two empty frames is NaN: a choice after the "
            "division comes too late. Divide by something that is never 0, such as "
            "ops.where(union > 0, union, 1.0)."
        )
    return report("5.1", problems)


def check_rate(rate: Callable) -> bool:
    """Check exercise 5.2: the learning rate with warm-up and cosine decay at each step."""
    for steps, peak, warm_up in ((100, 1e-2, 10), (40, 2.0, 1), (30, 0.5, 0)):
        found = []
        for step in range(steps):
            result, problem = attempt(rate, step, steps, peak, warm_up)
            if problem:
                return report("5.2", [problem])
            if np.size(result) != 1:
                return report("5.2", [f"Return one number, not shape {np.shape(result)}."])
            found.append(float(np.squeeze(result)))
        step = np.arange(steps)
        rise = np.minimum((step + 1) / max(warm_up, 1), 1)
        fall = (1 + np.cos(np.pi * step / steps)) / 2
        later = (1 + np.cos(np.pi * np.maximum(step - warm_up, 0) / (steps - warm_up))) / 2
        late_rise = np.minimum(step / max(warm_up, 1), 1)
        case = f"With {steps} steps, a peak of {peak} and warm_up={warm_up}"
        if np.allclose(found, peak * rise * fall):
            continue
        if np.isnan(found).any():
            hint = "some rates are NaN."
        elif np.allclose(found, peak * fall):
            hint = "there is no warm-up."
        elif np.allclose(found, peak * rise):
            hint = "the rate never falls."
        elif np.allclose(found, peak * late_rise * fall):
            hint = "the rate of step 0 is 0, a wasted step: count steps from 1 in the warm-up."
        elif np.allclose(found, peak * rise * later):
            hint = "the cosine begins to fall after the warm-up; let it fall from step 0 on."
        elif min(found) < 0:
            hint = "the rate becomes negative: lift the cosine to 0…1 with (1 + cos) / 2."
        else:
            wrong = int(np.abs(np.array(found) - peak * rise * fall).argmax())
            hint = f"step {wrong} should have {peak * rise[wrong] * fall[wrong]:.5f}, "
            hint += f"found {found[wrong]:.5f}."
        return report("5.2", [f"{case}: {hint}"])
    return report("5.2", [])


class _Averaging:
    """A forecaster for exercise 5.3 that uses all it is given, and most of all the last frame."""

    name = "averaging"

    def __call__(self, history):
        history = np.asarray(history)
        return 0.6 * history[:, -1] + 0.4 * history.mean(axis=1)


def check_honest_forecast(forecast: Callable) -> bool:
    """Check exercise 5.3: a rollout from the observed frames that never sees the others."""
    observed, horizon = 3, 4
    rng = np.random.default_rng(53)
    sequences = (rng.random((2, 9, 4, 4, 4)) < 0.4).astype(np.float32)
    other = sequences.copy()
    other[:, observed:] = 1 - other[:, observed:]
    before = sequences.copy()
    results = []
    for given in (sequences, other):
        result, problem = attempt(forecast, _Averaging(), given, observed, horizon)
        if problem:
            return report("5.3", [problem])
        results.append(np.asarray(result))
    history = before[:, :observed]
    expected = rollout(_Averaging(), history, horizon)
    shape = results[0].shape
    problems = []
    if not np.array_equal(sequences, before):
        problems.append("You write into the sequences that you were given: copy them first.")
    elif shape != expected.shape:
        problems.append(f"The result has shape {shape}; expected (B, horizon, D, H, W).")
    elif not np.allclose(results[0], results[1], atol=1e-5):
        problems.append(
            "When the frames after the observed ones change, your forecast changes: it still sees "
            "the truth. Give the forecaster the observed frames and your own forecasts."
        )
    elif np.allclose(results[0], results[0][:, :1]):
        problems.append("Every step gives the same frame: put each forecast behind the history.")
    elif np.allclose(results[0], rollout(_Averaging(), history, horizon, feedback="binary")):
        problems.append("You round what you feed back. Feed back the probabilities as they are.")
    elif np.allclose(results[0], rollout(_Averaging(), history, horizon, keep=observed), atol=1e-5):
        problems.append("You drop the oldest frame at each step. Keep all of them.")
    elif not np.allclose(results[0], expected, atol=1e-5):
        step = int(np.abs(results[0] - expected).max(axis=(0, 2, 3, 4)).argmax()) + 1
        problems.append(f"It sees no truth, but differs from a rollout, most at horizon {step}.")
    return report("5.3", problems)


def check_skill_horizon(skill_horizon: Callable) -> bool:
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
        columns = ["horizon", "measure", "mean", "low", "high"]
        table = pd.DataFrame(rows, columns=columns)
        if "squared" not in case:
            table = table.iloc[rng.permutation(len(rows))]
        result, problem = attempt(skill_horizon, table.reset_index(drop=True))
        if problem:
            return report("5.4", [problem])
        if np.size(result) != 1 or int(np.squeeze(result)) != np.squeeze(result):
            return report("5.4", ["Return one whole number, how many steps ahead."])
        found = int(np.squeeze(result))
        if found == expected:
            continue
        good = np.array(highs) < 0
        hint = f"expected {expected}, found {found}."
        if "interval" in case and found == expected + 1:
            hint = "the mean is below 0 there, but not the whole interval: look at high."
        elif "squared" in case:
            hint = "use the rows whose measure is 'jaccard'."
        elif "gap" in case and found in (good.sum(), np.flatnonzero(good)[-1] + 1):
            hint = "stop at the first horizon that is not better, whatever comes after it."
        elif "gap" not in case:
            hint += " Rows may come in any order: sort them by horizon."
        return report("5.4", [f"With {case}: {hint}"])
    return report("5.4", [])


def check_sand(sand: Callable) -> bool:
    """Check exercise 6.1: the Wasserstein distance of two heaps on uneven places."""
    rng = np.random.default_rng(61)
    for n in (7, 40):
        places = np.cumsum(rng.uniform(0.2, 3.0, n)) - 4
        p, q = rng.dirichlet(np.ones(n), 2)
        result, problem = attempt(sand, places.copy(), p.copy(), q.copy())
        if problem:
            return report("6.1", [problem])
        if np.size(result) != 1:
            return report("6.1", [f"Return one number, not shape {np.shape(result)}."])
        found, difference, ways = float(np.squeeze(result)), np.cumsum(p - q)[:-1], np.diff(places)
        expected = (np.abs(difference) * ways).sum()
        wrong = {
            "That adds what is carried, but not how far: times the way to the next place.": (
                np.abs(difference).sum()
            ),
            "That is the difference of the means. Sand carried to the left is work, too: take "
            "the absolute value of each difference.": abs((difference * ways).sum()),
            "Take running sums (np.cumsum): what crosses a gap is all that is left of it.": (
                (np.abs(p - q)[:-1] * ways).sum()
            ),
            "The places are not equally far apart; use np.diff(places).": (
                np.abs(difference).sum() * ways.mean()
            ),
        }
        if np.isclose(found, expected):
            continue
        hints = [hint for hint, value in wrong.items() if np.isclose(found, value)]
        hints += [f"With {n} places expected {expected:.4f}, found {found:.4f}."]
        return report("6.1", hints)
    return report("6.1", [])


def check_mixing_share(mixing_share: Callable) -> bool:
    """Check exercise 6.2: where to mix each pair of a batch, uniform in 0…1."""
    batch = np.zeros((2000, 2, 3, 4), np.float32)
    draws = []
    for _ in range(2):
        result, problem = attempt(mixing_share, batch)
        if problem:
            return report("6.2", [problem])
        draws.append(np.asarray(result))
    share, problems = draws[0], []
    if share.shape == batch.shape:
        problems.append("A share for each voxel leaves the line: one number for each pair.")
    elif share.shape in ((), (1, 1, 1, 1)):
        problems.append("That is one place for all pairs of the batch: draw one for each pair.")
    elif share.shape != (2000, 1, 1, 1):
        problems.append(
            f"The shape is {share.shape}; to be multiplied with a batch (B, D, H, W) it has to be "
            "(B, 1, 1, 1)."
        )
    elif (share < 0).any() or (share > 1).any():
        outside = ((share < 0) | (share > 1)).mean()
        problems.append(f"{outside:.0%} of the places lie outside 0…1, not between the two.")
    elif np.ptp(share) == 0:
        problems.append("All places are the same: draw them at random.")
    elif np.array_equal(*draws):
        problems.append("You draw the same places each time; take the generator's next numbers.")
    else:
        # Kolmogorov and Smirnov: the largest gap between the running shares; 0.05 is far off.
        ordered = np.sort(share.ravel())
        if np.abs(ordered - (np.arange(2000) + 0.5) / 2000).max() > 0.05:
            problems.append("The places lie in 0…1, but some parts of the line are preferred.")
    return report("6.2", problems)


def check_lengths(lengths: Callable) -> bool:
    """Check exercise 6.3: the length of each slope (B, D, H, W), its gradient finite at 0."""
    tf = tensorflow()
    slopes = np.random.default_rng(63).normal(size=(4, 3, 4, 5)).astype(np.float32)
    given = tf.constant(slopes)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result, problem = attempt(lengths, given)
    if problem:
        return report("6.3", [problem])
    if not tf.is_tensor(result):
        return report(
            "6.3", ["Use keras.ops instead of NumPy: the gradient has to pass through your code."]
        )
    squares = (slopes.astype(float) ** 2).sum(axis=(1, 2, 3))
    found = result.numpy()
    problems = []
    if found.size == 1:
        problems.append("One length for the whole batch: sum over the axes 1, 2 and 3 only.")
    elif found.shape != (4,):
        problems.append(f"The result has shape {found.shape}; one length per sample is (4,).")
    elif np.allclose(found, squares, rtol=1e-3):
        problems.append("Those are the squares; the root is missing.")
    elif np.allclose(found, np.sqrt(squares / slopes[0].size), rtol=1e-3):
        problems.append("You take the mean of the squares; a length has their sum.")
    elif not np.allclose(found, np.sqrt(squares), rtol=1e-3):
        problems.append(f"Expected {np.sqrt(squares).round(3)}, found {found.round(3)}.")
    if problems:
        return report("6.3", problems)
    expected = slopes / np.sqrt(squares)[:, None, None, None]
    gradient = tape.gradient(result, given)
    if gradient is None or not np.allclose(gradient, expected, atol=1e-3):
        return report("6.3", ["The lengths are right, their gradient is not: no stop_gradient."])
    flat = tf.constant(np.where(np.arange(4).reshape(4, 1, 1, 1) == 1, 0, slopes))

    def at_zero(flat):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            result = lengths(flat)
        return result, tape.gradient(result, flat)

    # Compiled as well: uncompiled, TensorFlow forgives a choice after the root.
    found = [tf.function(at_zero, jit_compile=jit)(flat) for jit in (False, True)]
    if not all(np.isfinite(gradient).all() for _, gradient in found):
        problems.append(
            "The gradient is NaN where a slope is 0 (with XLA at the latest). Let the root see a "
            "number that is never 0; a choice after the root comes too late."
        )
    elif abs(length := float(found[0][0][1])) > 0.01:
        problems.append(f"A slope of 0 has length 0, not {length:.3f}.")
    return report("6.3", problems)


def check_looks_at_others(looks_at_others: Callable) -> bool:
    """Check exercise 6.4: a test for critics that do not judge each sample by itself."""
    batch = np.random.default_rng(64).normal(size=(5, 2, 3, 4)).astype(np.float32)

    def of_each(x):
        return x.reshape(len(x), -1)

    def spread(x):
        return np.sqrt(of_each(x).var(axis=1, keepdims=True) + 1e-3)

    innocent = {
        "adds the voxels": lambda x: of_each(x).sum(axis=1),
        "normalises each sample": lambda x: (of_each(x) / spread(x)).max(axis=1),
    }
    guilty = {
        "normalises the batch": lambda x: (of_each(x) / (of_each(x).std(axis=0) + 1e-3)).sum(
            axis=1
        ),
        "compares each sample with the one before": lambda x: (
            of_each(x).sum(axis=1) - np.roll(of_each(x).sum(axis=1), 1)
        ),
        "adds the spread of the batch to each score": lambda x: (
            of_each(x).sum(axis=1) + x.std(axis=0).mean()
        ),
        "looks at the last sample only, besides its own": lambda x: (
            of_each(x).sum(axis=1) + 0.1 * of_each(x)[-1].sum()
        ),
    }
    verdicts = []
    suspects = [(*each, False) for each in innocent.items()]
    for name, critic, looks in suspects + [(*each, True) for each in guilty.items()]:
        given = batch.copy()
        result, problem = attempt(looks_at_others, critic, given)
        if problem:
            return report("6.4", [problem])
        if not np.array_equal(given, batch):
            return report("6.4", ["You change the batch that you were given: copy it first."])
        if np.shape(result) != () or not isinstance(result, (bool, np.bool_)):
            return report("6.4", ["Return True or False for the critic as a whole."])
        verdicts.append((name, bool(result), looks))
    if not any(found for _, found, _ in verdicts):
        return report("6.4", ["You suspect nobody; four of the six look at other samples."])
    for name, found, looks in verdicts:
        if found and not looks:
            hint = f"The critic that {name} is innocent: the score of a sample may not change."
            return report("6.4", [hint + " Compare with a tolerance."])
        if looks and not found:
            hint = f"The critic that {name} looks at others, and you let it pass."
            hint += " Compare the score of each sample, alone and together."
            return report("6.4", [hint])
    return report("6.4", [])


def check_single_frame_floor(floor: Callable) -> bool:
    """Check exercise 7.1: what a forecast from a single frame cannot fall below."""
    rng = np.random.default_rng(71)
    for shape in ((3, 4, 6, 6, 6), (2, 7, 6, 6, 6)):
        smooth = ndimage.gaussian_filter(rng.random(shape), (0, 1, 1, 1, 1))
        frames = (smooth > 0.5).astype(np.uint8)
        result, problem = attempt(floor, frames.copy())
        if problem:
            return report("7.1", [problem])
        if np.size(result) != 1:
            return report("7.1", [f"Return one number, not shape {np.shape(result)}."])
        found = float(np.squeeze(result))
        apart = metrics.jaccard_distance(frames[:, :-2], frames[:, 2:]).mean()
        wrong = {
            "That is the whole way between the two neighbours; half of it has to be paid.": apart,
            "That is persistence: take the frame before and the frame after, which are two steps "
            "apart.": metrics.jaccard_distance(frames[:, :-1], frames[:, 1:]).mean(),
            "That is half of persistence: take frames that are two steps apart.": (
                metrics.jaccard_distance(frames[:, :-1], frames[:, 1:]).mean() / 2
            ),
            "That pools the voxels of a sequence; here each frame counts the same.": (
                metrics.pooled(frames[:, :-2], frames[:, 2:]).mean() / 2
            ),
        }
        if np.isclose(found, apart / 2):
            continue
        hints = [hint for hint, value in wrong.items() if np.isclose(found, value)]
        hints += [f"Expected {apart / 2:.4f}, found {found:.4f}."]
        return report("7.1", hints)
    return report("7.1", [])


def check_best_of(best_of: Callable) -> bool:
    """Check exercise 7.2: of several forecasts of a frame, the distance of the best one."""
    rng = np.random.default_rng(72)
    truth = (rng.random((5, 4, 4, 4)) < 0.3).astype(np.uint8)
    forecasts = np.clip(0.6 * truth + 0.7 * rng.random((3, 5, 4, 4, 4)), 0, 1).astype(np.float32)
    result, problem = attempt(best_of, truth.copy(), forecasts.copy())
    if problem:
        return report("7.2", [problem])
    result = np.asarray(result, np.float64)
    each = metrics.jaccard_distance(np.broadcast_to(truth, forecasts.shape), forecasts)  # (K, B)
    problems = []
    if result.shape == (3,):
        problems.append("That is the best sample of each draw: take the best draw of each sample.")
    elif result.shape != (5,):
        problems.append(f"The shape is {result.shape}; expected (B,), one number for each sample.")
    elif np.allclose(result, each.mean(axis=0)):
        problems.append("That is the mean over the draws: what one draw gives, on average.")
    elif np.allclose(result, metrics.jaccard_distance(truth, forecasts.mean(axis=0))):
        problems.append("That judges the mean of the draws, one forecast. Judge each, then choose.")
    elif np.allclose(result, each.max(axis=0)):
        problems.append("That is the worst draw; a small distance is a good one.")
    elif not np.allclose(result, each.min(axis=0)):
        problems.append(
            f"For the first sample expected {each[:, 0].min():.3f}, found {result[0]:.3f}."
        )
    return report("7.2", problems)


def check_diversity(diversity: Callable) -> bool:
    """Check exercise 7.3: how different the forecasts of different histories are."""
    rng = np.random.default_rng(73)
    count = 5
    forecasts = (rng.random((count, 4, 4, 4)) < rng.uniform(0.2, 0.8, (count, 1, 1, 1))).astype(
        np.float32
    )
    pairs = metrics.jaccard_distance(
        np.repeat(forecasts, count, axis=0), np.tile(forecasts, (count, 1, 1, 1))
    ).reshape(count, count)
    expected = pairs.sum() / (count * (count - 1))
    for given, value in ((forecasts, expected), (np.repeat(forecasts[:1], 3, axis=0), 0.0)):
        result, problem = attempt(diversity, given.copy())
        if problem:
            return report("7.3", [problem])
        if np.size(result) != 1:
            return report("7.3", [f"Return one number, not shape {np.shape(result)}."])
        found = float(np.squeeze(result))
        if np.isclose(found, value):
            continue
        wrong = {
            "Leave out the pairs of a forecast with itself: they are 0 whatever happens.": (
                pairs.mean()
            ),
            "That looks at neighbours in the batch only: take all pairs.": (
                np.diagonal(pairs, 1).mean()
            ),
            "That is the sum; take the mean over the pairs.": pairs.sum(),
        }
        hints = [hint for hint, number in wrong.items() if np.isclose(found, number)]
        return report("7.3", [*hints, f"Expected {value:.4f}, found {found:.4f}."])
    return report("7.3", [])


def check_paired_interval(paired_interval: Callable) -> bool:
    """Check exercise 8.1: the 95 % bootstrap interval of a mean difference, sample by sample.

    `paired_interval(prediction, persistence, resamples)` gets two arrays (N,).
    """
    rng = np.random.default_rng(81)
    count = 150
    hard = rng.uniform(0.2, 0.8, count)  # samples differ much, what is gained little
    gain = rng.normal(0.04, 0.05, count)
    result, problem = attempt(paired_interval, hard - gain, hard.copy(), 1000)
    if problem:
        return report("8.1", [problem])
    try:
        low, high = (float(end) for end in result)
    except (TypeError, ValueError):
        return report("8.1", ["Return two numbers, the lower and the upper end."])
    error = gain.std() / np.sqrt(count)
    width, middle = high - low, (low + high) / 2
    problems = []
    if width < 0:
        problems.append("The lower end is above the upper one.")
    elif np.isclose(width, 0, atol=error / 20):
        problems.append("Every resample has the same mean: draw N samples *with* replacement.")
    elif np.isclose(middle, gain.mean(), atol=2 * error):
        problems.append(
            "That is persistence - prediction. Below 0 shall mean: the model is better."
        )
    elif width > 3 * 3.92 * error and abs(low - np.quantile(-gain, 0.025)) < 3 * error:
        problems.append("That is the spread of single samples. The interval is of their *mean*.")
    elif width > 3 * 3.92 * error:
        problems.append(
            "The interval is far too wide. Draw the same samples for prediction and persistence: "
            "most of what differs between samples then cancels."
        )
    elif not np.isclose(middle, -gain.mean(), atol=error):
        problems.append(f"The middle should be near {-gain.mean():.4f}, found {middle:.4f}.")
    elif not 0.8 < width / (3.92 * error) < 1.2:
        problems.append(
            f"The width should be near {3.92 * error:.4f}, found {width:.4f}: take the 2.5 % and "
            "the 97.5 % quantile of the means."
        )
    return report("8.1", problems)


def check_hausdorff(hausdorff: Callable) -> bool:
    """Check exercise 8.2: the 95 % Hausdorff distance of two surfaces, given as points.

    `hausdorff(one, other)` gets arrays (n, 3) and (m, 3) in voxels and returns one number.
    """
    rng = np.random.default_rng(82)
    one = rng.uniform(0, 10, (60, 3))
    part = one[:40] + (0.0, 0.0, 0.5)  # all of it is near the first, but not the reverse
    part[0] += 30.0  # one stray point, within the 5 % that are forgiven
    for first, second in ((one, part), (part, one)):
        result, problem = attempt(hausdorff, first.copy(), second.copy())
        if problem:
            return report("8.2", [problem])
        if np.size(result) != 1:
            return report("8.2", [f"Return one number, not shape {np.shape(result)}."])
        found = float(np.squeeze(result))
        apart = np.sqrt(((first[:, None] - second) ** 2).sum(axis=-1))
        there, back = apart.min(axis=1), apart.min(axis=0)
        ends = [
            max(np.percentile(side, 95, method=method) for side in (there, back))
            for method in ("lower", "higher")
        ]
        if ends[0] - 1e-6 <= found <= ends[1] + 1e-6:
            continue
        methods = ("lower", "linear", "higher")
        single = [np.percentile(side, 95, method=m) for side in (there, back) for m in methods]
        if np.isclose(found, max(there.max(), back.max())):
            hint = (
                "that is the largest distance. One stray voxel decides it: take the 95 % instead."
            )
        elif np.isclose(found, single, atol=1e-6).any():
            hint = (
                "you look one way only. What the forecast lacks shows from the truth: go both ways."
            )
        elif np.isclose(found, np.percentile(np.concatenate([there, back]), 95), atol=0.05):
            hint = "take the 95 % of each direction by itself, then the larger one."
        elif np.isclose(found, apart.max()):
            hint = "for each point, take the *nearest* point of the other surface first."
        elif np.isclose(found, [there.mean(), back.mean(), (there.mean() + back.mean()) / 2]).any():
            hint = "that is a mean distance, not the 95 %."
        else:
            hint = f"expected {ends[0]:.3f} to {ends[1]:.3f}, found {found:.3f}."
        return report("8.2", [hint[0].upper() + hint[1:]])
    return report("8.2", [])


def check_vanished(vanished: Callable) -> bool:
    """Check exercise 8.3: the share of samples whose forecast has vanished, at each horizon.

    `vanished(truth, prediction)` gets two arrays (N, H, D, H, W), probabilities in the second.
    """
    rng = np.random.default_rng(83)
    truth = (rng.random((8, 5, 4, 4, 4)) < 0.3).astype(np.uint8)
    prediction = rng.uniform(0, 0.95, truth.shape).astype(np.float32)
    prediction[..., 0, 0, 0] = 0.9
    for horizon in range(5):
        prediction[:horizon, horizon] *= 0.5  # grey everywhere, filled nowhere
    truth[0, 2:] = truth[6, 3] = 0
    expected = np.array([0, 1, 1, 2, 3]) / 8
    result, problem = attempt(vanished, truth.copy(), prediction.copy())
    if problem:
        return report("8.3", [problem])
    result = np.asarray(result, dtype=float)
    empty = ~(prediction >= 0.5).any(axis=(2, 3, 4))
    full = truth.any(axis=(2, 3, 4))
    problems = []
    if result.shape == (8, 5):
        problems.append("That is an answer for each sample: take the mean over the samples.")
    elif result.shape != (5,):
        problems.append(f"The result has shape {result.shape}; one share per horizon is (5,).")
    elif np.allclose(result, expected):
        return report("8.3", [])
    elif np.allclose(result, expected * 8):
        problems.append("You count the samples: divide by their number.")
    elif np.allclose(result, empty.mean(axis=0)):
        problems.append(
            "Where the truth is empty as well, an empty forecast is right: leave it out."
        )
    elif np.allclose(result, 0):
        problems.append("Grey voxels are not filled: cut at 0.5 before you ask whether any is.")
    elif np.allclose(result, (empty & full).sum(axis=0) / full.sum(axis=0)):
        problems.append("Divide by all samples, also those whose truth is empty.")
    else:
        problems.append(f"Expected {expected.round(3)}, found {result.round(3)}.")
    return report("8.3", problems)


def check_effect(effect: Callable) -> bool:
    """Check exercise 9.1: what a knob does, from runs in pairs of one seed each.

    `effect(base, turned)` gets two arrays (S,), the distances with each seed, and returns the mean
    of turned - base and its standard error.
    """
    rng = np.random.default_rng(91)
    seed = rng.normal(0.30, 0.02, 6)  # what the seed does to both
    base, turned = seed, seed - 0.01 + rng.normal(0, 0.002, 6)
    gap = turned - base
    result, problem = attempt(effect, base.copy(), turned.copy())
    if problem:
        return report("9.1", [problem])
    try:
        mean, error = (float(number) for number in result)
    except (TypeError, ValueError):
        return report("9.1", ["Return two numbers: the mean difference and its standard error."])
    expected = gap.std(ddof=1) / np.sqrt(len(gap))
    apart = np.sqrt((base.var(ddof=1) + turned.var(ddof=1)) / len(gap))
    problems = []
    if np.isclose(mean, -gap.mean()):
        problems.append("That is base - turned. Below 0 shall mean: the turned knob is better.")
    elif not np.isclose(mean, gap.mean()):
        problems.append(f"The mean difference is {gap.mean():.5f}, not {mean:.5f}.")
    elif np.isclose(error, apart):
        problems.append(
            "That is the error of runs that have nothing in common. These come in pairs: take the "
            "difference seed by seed first."
        )
    elif np.isclose(error, gap.std(ddof=1)) or np.isclose(error, gap.std()):
        problems.append("That is the spread of one difference; divide by the root of their number.")
    elif np.isclose(error, gap.std() / np.sqrt(len(gap))):
        problems.append("With so few runs it matters: use ddof=1 in the standard deviation.")
    elif not np.isclose(error, expected):
        problems.append(f"The standard error is {expected:.5f}, not {error:.5f}.")
    return report("9.1", problems)


def check_best_within(best_within: Callable) -> bool:
    """Check exercise 9.2: the best distance that a run had reached after so many seconds.

    `best_within(log, seconds)` gets a table with the columns `step`, `seconds` and `val_jaccard`,
    one row per round, and returns a number; NaN where no round had ended.
    """
    log = pd.DataFrame(
        {
            "step": [10, 20, 30, 40, 50],
            "seconds": [4.0, 6.0, 8.0, 10.0, 12.0],
            "val_jaccard": [0.35, 0.31, 0.33, 0.30, 0.29],
        }
    )
    for seconds, expected in ((8.0, 0.31), (100.0, 0.29), (4.5, 0.35), (10.0, 0.30), (1.0, np.nan)):
        result, problem = attempt(best_within, log.copy(), seconds)
        if problem and seconds == 1.0 and "raised" in problem:
            problem = f"Before a round has ended there is no distance: return NaN. {problem}"
        if problem:
            return report("9.2", [problem])
        if np.size(result) != 1:
            return report("9.2", [f"Return one number, not shape {np.shape(result)}."])
        found = float(np.squeeze(result))
        if np.isclose(found, expected, equal_nan=True):
            continue
        before = log[log.seconds <= seconds]["val_jaccard"]
        if len(before) and np.isclose(found, before.iloc[-1]):
            hint = "That is the last round; the laboratory keeps the weights of the best one."
        elif np.isclose(found, log["val_jaccard"].min()):
            hint = "That is the best of the whole run: look only at what had ended by then."
        elif len(before) and np.isclose(found, log[log.seconds < seconds]["val_jaccard"].min()):
            hint = "A round that ends exactly then counts, too."
        else:
            hint = f"After {seconds:g} s expected {expected}, found {found:g}."
        return report("9.2", [hint])
    return report("9.2", [])


def check_luck(luck: Callable) -> bool:
    """Check exercise 9.3: by how much the best of several equal runs beats their mean, by chance.

    `luck(spread, runs)` returns a number above 0, for distances that are normal with the standard
    deviation `spread`.
    """
    # Means of the largest of n standard normal numbers.
    expected = {2: 0.56419, 1: 0.0, 5: 1.16296, 10: 1.53875, 50: 2.24907}
    spread = 0.02
    for runs, value in expected.items():
        result, problem = attempt(luck, spread, runs)
        if problem:
            return report("9.3", [problem])
        if np.size(result) != 1:
            return report("9.3", [f"Return one number, not shape {np.shape(result)}."])
        found = float(np.squeeze(result)) / spread
        if abs(found - value) < 0.04:
            continue
        if abs(found + value) < 0.04:
            hint = "Return how much *lower* the best is, as a number above 0."
        elif runs > 1 and abs(found * spread - value) < 0.04:
            hint = "That is for a spread of 1: multiply by the spread."
        elif runs == 1:
            hint = "One run is its own best: 0."
        elif np.isclose(found, np.sqrt(2 * np.log(runs)), atol=0.01):
            hint = (
                "That is what it tends to for very many runs; draw numbers, and take the mean of "
                "the smallest."
            )
        elif 0.75 < found / value < 1.33:
            hint = (
                f"For {runs} runs expected {value * spread:.4f}, found {found * spread:.4f}. Draw "
                "more often (10,000 times), and average."
            )
        else:
            hint = f"For {runs} runs expected {value * spread:.4f}, found {found * spread:.4f}."
        return report("9.3", [hint])
    return report("9.3", [])


def check_next_arrival(next_arrival: Callable) -> bool:
    """Check exercise 10.1: when a front reaches the next voxel, from when it reached those before.

    `next_arrival(times)` gets the times (n,) at which n voxels in a row were filled.
    """
    rng = np.random.default_rng(101)
    cases = [("at an even pace", np.array([3.0, 7.0, 11.0, 15.0]), 19.0)]
    for count in (2, 5, 9):
        times = np.round(4 + 3.3 * np.arange(count) + rng.uniform(-1, 1, count))
        fitted = np.polyval(np.polyfit(np.arange(count), times, 1), count)
        cases.append((f"in whole frames, {count} voxels", times, fitted))
    for case, times, expected in cases:
        result, problem = attempt(next_arrival, times.copy())
        if problem:
            return report("10.1", [problem])
        if np.size(result) != 1:
            return report("10.1", [f"Return one time, not shape {np.shape(result)}."])
        found = float(np.squeeze(result))
        if np.isclose(found, expected, atol=1e-6):
            continue
        hint = f"expected {expected:.3f}, found {found:.3f}."
        inside = np.polyval(np.polyfit(np.arange(len(times)), times, 1), len(times) - 1)
        if np.isclose(found, 2 * times[-1] - times[-2]):
            hint = "you use the last two times only, and rounding blurs both. Fit a line to all."
        elif np.isclose(found, times[-1] + np.diff(times).mean()):
            hint = "the mean pace uses the first and the last time only. Fit a line to all of them."
        elif np.isclose(found, inside):
            hint = "that is the line at the last voxel; the next one is one place further on."
        return report("10.1", [f"{case.capitalize()}: {hint}"])
    return report("10.1", [])


def check_worth_taking(worth_taking: Callable) -> bool:
    """Check exercise 10.2: whether one more voxel raises the Jaccard index one can expect.

    `worth_taking(probability, index)`: with an index of hits / union so far.
    """
    # The first two tell the two usual mistakes apart.
    cases = [(0.45, 0.3), (0.6, 0.95)]
    for index in (0.0, 0.25, 0.5, 0.8, 1.0):
        cases += [(index / (1 + index) + step, index) for step in (-0.02, 0.02)]
    for probability, index in cases:
        if not 0 <= probability <= 1:
            continue
        result, problem = attempt(worth_taking, probability, index)
        if problem:
            return report("10.2", [problem])
        found, expected = bool(result), probability > index / (1 + index)
        if found == expected:
            continue
        hint = f"at p = {probability:.3f} and an index of {index} it should be {expected}."
        if found == (probability > 0.5):
            hint += " One half is right only where the index is 1."
        elif found == (probability > index):
            hint += " A voxel that is filled anyway is in the union already: what does it add?"
        return report("10.2", [hint])
    return report("10.2", [])


def check_averaged_forecast(averaged: Callable) -> bool:
    """Check exercise 10.3: a forecast averaged over the eight mirrorings.

    `averaged(forecaster, history)`: history (B, T, D, H, W) to (B, D, H, W).
    """
    rng = np.random.default_rng(103)
    history = rng.random((2, 3, 4, 4, 4)).astype(np.float32)
    weight = rng.random((4, 4, 4)).astype(np.float32)
    asked = []

    def lopsided(frames):
        asked.append(np.asarray(frames))
        return np.asarray(frames)[:, -1] * weight

    result, problem = attempt(averaged, lopsided, history.copy())
    if problem:
        return report("10.3", [problem])
    result = np.asarray(result)
    axes = [[a for a, flip in zip((-3, -2, -1), flips) if flip] for flips in np.ndindex(2, 2, 2)]
    each = [history[:, -1] * np.flip(weight, a) for a in axes]
    unturned = [np.flip(history[:, -1], a) * weight for a in axes]
    problems = []
    if result.shape != (2, 4, 4, 4):
        problems.append(f"The result has shape {result.shape}; expected (B, D, H, W).")
    elif np.allclose(result, np.mean(each, axis=0), atol=1e-5):
        return report("10.3", [])
    elif np.allclose(result, np.mean(unturned, axis=0), atol=1e-5):
        problems.append("Mirror each forecast back before you average.")
    elif np.allclose(result, np.sum(each, axis=0), atol=1e-5):
        problems.append("That is the sum of eight forecasts: divide by their number.")
    elif np.allclose(result, np.mean([each[n] for n in (0, 1, 2, 4)], axis=0), atol=1e-5):
        problems.append("Three mirrors can be combined: 2 · 2 · 2 = 8 ways, none included.")
    elif any(frames.shape != history.shape for frames in asked):
        problems.append("The forecaster must get histories of the same shape (B, T, D, H, W).")
    elif len(asked) != 8:
        problems.append(f"The forecaster was asked {len(asked)} times; expected 8.")
    else:
        problems.append(
            "Flip the axes D, H and W only: -3, -2, -1 of the history and the forecast."
        )
    return report("10.3", problems)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def check_past_numbers(past_numbers: Callable) -> bool:
    """Check exercise 11.1: the pasts of all voxels as numbers.

    `past_numbers(frames)` gets frames (n, D, H, W), 0 or 1, oldest first.
    """
    rng = np.random.default_rng(111)
    for count in (3, 1, 4, 19):
        frames = rng.integers(2, size=(count, 2, 3, 2))
        digits = ["".join(map(str, states)) for states in frames.reshape(count, -1).T]

        def wrong(read, digits=digits, shape=frames.shape[1:]):
            return np.array([read(each) for each in digits], dtype=float).reshape(shape)

        expected = wrong(lambda each: int("1" + each, 2))
        result, problem = attempt(past_numbers, frames.copy())
        if problem:
            return report("11.1", [problem])
        result = np.asarray(result)
        if result.shape != expected.shape:
            shapes = f"shape {expected.shape}, not {result.shape}"
            return report("11.1", [f"Return one number for each voxel: {shapes}."])
        if np.array_equal(result, expected):
            continue
        place = tuple(np.argwhere(result != expected)[0])
        states, found = frames[(slice(None), *place)].tolist(), result[place]
        hint = f"{states}: expected {expected[place]:.0f}, found {found}."
        if np.array_equal(result, wrong(lambda each: int(each, 2))):
            hint = "the 1 in front is missing; without it [0, 1] and [1] are the same number."
        elif np.array_equal(result, wrong(lambda each: int("1" + each[::-1], 2))):
            hint = "the latest frame is the last binary digit, not the first."
        elif np.array_equal(result, wrong(lambda each: 2 * int(each, 2) + 1)):
            hint = "the extra 1 goes in front of the oldest frame, not behind the latest one."
        elif np.array_equal(result, wrong(lambda each: int("1" + each))):
            hint = "these are binary digits, not decimal ones: each counts twice the next one."
        return report("11.1", [hint])
    return report("11.1", [])


def check_in_pose(in_pose: Callable) -> bool:
    """Check exercise 11.2: a neighbourhood in its canonical pose.

    `in_pose(cube, slope)`: cube (k, k, k) and its slope (3,), no two parts of the same size.
    """
    rng = np.random.default_rng(112)
    slopes = [(3.0, 2.0, 1.0), (3.0, -2.0, 1.0), (1.0, 2.0, 3.0), (2.0, 3.0, 1.0)]
    for slope in [*slopes, (-0.5, 0.1, -4.0), (1.0, -3.0, -2.0)]:
        cube, slope = rng.random((5, 5, 5)), np.array(slope)
        result, problem = attempt(in_pose, cube.copy(), slope.copy())
        if problem:
            return report("11.2", [problem])
        result = np.asarray(result)
        if result.shape != cube.shape:
            return report("11.2", [f"The result has shape {result.shape}; expected {cube.shape}."])
        mirrored = np.flip(cube, np.flatnonzero(slope < 0))
        order = np.argsort(-np.abs(slope))
        if np.array_equal(result, np.transpose(mirrored, order)):
            continue
        hint = "that is not its canonical pose."
        if np.array_equal(result, mirrored):
            hint = "mirrored, but its axes are not in order yet."
        elif np.array_equal(result, np.transpose(cube, order)):
            hint = "its axes are in order, but it is not mirrored where the slope is negative."
        elif np.array_equal(result, np.transpose(mirrored, order[::-1])):
            hint = "the axis with the largest |slope| comes first, not last."
        elif np.array_equal(result, np.transpose(mirrored, np.argsort(-slope))):
            hint = "order the axes by the size of the slope, whatever its sign."
        elif np.array_equal(result, np.transpose(mirrored, np.argsort(order))):
            hint = "np.transpose wants to know which old axis comes to each new place."
        elif np.array_equal(result, np.flip(np.transpose(cube, order), np.flatnonzero(slope < 0))):
            hint = "mirror before you change the order: afterwards the axes have other numbers."
        return report("11.2", [f"Slope {slope.tolist()}: {hint}"])
    return report("11.2", [])


def check_how_many(how_many: Callable) -> bool:
    """Check exercise 11.3: how many voxels are worth calling filled.

    `how_many(probability)`: probabilities (M,) in any order, of which at least one is above 1/2.
    """
    rng = np.random.default_rng(113)
    drawn = [rng.permutation(rng.random(30) ** power) for power in (0.5, 1, 2, 4)]
    for p in [np.array([0.9, 0.9, 0.4, 0.4, 0.4, 0.4, 0.1]), np.array([0.6, 0.2]), *drawn]:
        result, problem = attempt(how_many, p.copy())
        if problem:
            return report("11.3", [problem])
        result = np.asarray(result)
        if result.shape != ():
            return report("11.3", [f"Return one number; the result has shape {result.shape}."])
        expected, as_it_comes = _most_to_expect(np.sort(p)[::-1]), _most_to_expect(p)
        if result == expected:
            continue
        hint = f"expected {expected}, found {result}."
        if result == as_it_comes:
            hint = "sort the probabilities, the largest first."
        elif result == (p > 0.5).sum():
            hint = "that is the number of those above 1/2; where does I / U have its top?"
        elif result == expected - 1:
            hint = "the place of the top counts from 0: one more voxel is taken."
        elif result == _most_to_expect(np.sort(p)):
            hint = "the largest probability comes first."
        return report("11.3", [f"{p.round(2).tolist()}: {hint}"])
    return report("11.3", [])


def _most_to_expect(p: np.ndarray) -> int:
    """Return how many of the first voxels have the largest ratio of expectations."""
    hits = p.cumsum()
    return int(np.argmax(hits / (np.arange(1, len(p) + 1) + hits[-1] - hits))) + 1
