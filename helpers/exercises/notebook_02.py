"""The exercises of notebook 02."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import Hint, ask, compare, exercise, require, two


@exercise("2.1")
def check_select(select: Callable):
    """Check exercise 2.1: the frames of a format, by frames whose values are their times."""
    frames = np.arange(128, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 4), np.uint8)
    for T, TINC in ((80, 4), (40, 2), (60, 3), (20, 1)):
        result = np.asarray(ask(select, frames, T, TINC))
        first, case = (128 - T) // 2, f"T{T}_TINC{TINC}"
        expected = list(range(first, first + T, TINC))
        shape = f"{case} has shape {result.shape}; expected {(len(expected), 2, 3, 4)}."
        require(result.shape[1:] == (2, 3, 4), shape)
        times = result[:, 0, 0, 0].tolist()
        found, wanted = (f"{each[:3]}…{each[-1:]}" for each in (times, expected))
        hint = f"keeps the times {found}; expected {wanted}."
        if times == list(range(0, T, TINC)):
            hint = "starts at time 0. Take the T time points in the middle."
        elif times == list(range(first, first + T)):
            hint = f"keeps all of the {T} time points; keep every {TINC}th."
        elif len(times) == len(expected) + 1:
            hint = f"keeps {len(times)} frames, one too many: see the slice's end."
        require(times == expected, f"{case} {hint}")


@exercise("2.2")
def check_count_windows(count_windows: Callable):
    """Check exercise 2.2: how many windows and batches many sequences give."""
    for files, steps, history, batch in ((10, 20, 3, 32), (7, 20, 19, 7), (64, 32, 8, 16)):
        result = ask(count_windows, files, steps, history, batch)
        windows, batches = two(result, int, "Return two whole numbers: windows and batches.")
        expected = files * (steps - history)
        mistakes = {
            "the last window needs a frame after it as its target, so there is one window less in "
            "each sequence.": expected + files,
            "a window must not reach from one file into the next.": files * steps - history,
            "these are the windows of one sequence only.": steps - history,
        }
        case = f"{files} files of {steps} frames, history {history}"
        otherwise = f"expected {expected} windows, found {windows}."
        compare(windows, expected, mistakes, otherwise, case)
        require(
            batches == -(-expected // batch),
            f"{expected} windows in batches of {batch}: found {batches} batches. The last one "
            "counts even when it is smaller, and there is none when nothing is left over.",
        )


@exercise("2.3")
def check_packing(pack: Callable, unpack: Callable):
    """Check exercise 2.3: frames to bits and back, also with 27 voxels, which 8 doesn't divide."""
    rng = np.random.default_rng(23)
    for shape in ((4, 4, 4), (3, 3, 3)):
        frames = (rng.random((5, *shape)) < 0.4).astype(np.uint8)
        voxels, case = frames[0].size, f"5 frames of {shape}"
        expected = np.packbits(frames.reshape(5, voxels), axis=-1)
        bits = np.asarray(ask(pack, frames))
        found, wanted = (f"{array.dtype} {array.shape}" for array in (bits, expected))
        row = f"{case}: you pack all frames in one go; give each a row of its own."
        require(bits.dtype != np.uint8 or bits.shape != np.packbits(frames).shape, row)
        require(found == wanted, f"{case}: expected bits {wanted}, found {found}.")
        hint = f"{case}: the bits differ from np.packbits, voxels in C order."
        require(np.array_equal(bits, expected), hint)
        filled_up = (
            f"{case}: the last byte is filled up; unpack as many bits as a frame has voxels."
        )
        try:
            back = np.asarray(ask(unpack, expected, shape))
        except Hint as hint:
            raise Hint(filled_up if "reshape" in str(hint) and voxels % 8 else hint) from None
        require(back.size <= frames.size, filled_up)
        hint = f"{case}: expected the same frames back, shape {frames.shape}."
        require(np.array_equal(back, frames), hint)


@exercise("2.4")
def check_mended_pipeline(mended: Callable):
    """Check exercise 2.4: cache, shuffle, batch, in this order, with a buffer of everything."""
    import tensorflow as tf

    count, batch, read = 26, 4, []

    def examples():
        for number in range(count):
            read.append(number)
            yield number

    source = tf.data.Dataset.from_generator(examples, output_signature=tf.TensorSpec((), tf.int64))
    dataset = ask(mended, source, count, batch)
    try:
        epochs = [[element.tolist() for element in dataset.as_numpy_iterator()] for _ in range(20)]
        flat = [[number for numbers in epoch for number in numbers] for epoch in epochs]
    except Exception as error:  # a learner's pipeline may fail only when it is read
        raise Hint(f"The pipeline can't be read as batches: {type(error).__name__}.") from None
    missing = count - len(flat[0])
    require(missing <= 0, f"{missing} examples are missing: the last batch is dropped.")
    once = sorted(flat[0]) == list(range(count))
    require(once, "An epoch must deliver every example exactly once.")
    batches = -(-count // batch)
    require(len(epochs[0]) == batches, f"Expected {batches} batches, found {len(epochs[0])}.")
    require(
        flat[0] != flat[1],
        "Every epoch comes in the same order. Do you shuffle, and after the cache? The cache "
        "keeps what comes by: after the shuffle it keeps the first epoch's order for ever.",
    )
    first, second = (sorted(sorted(numbers) for numbers in epoch) for epoch in epochs[:2])
    hint = "The same examples share a batch in every epoch: you shuffle batches. Shuffle first."
    require(first != second, hint)
    hint = "The slow examples are read anew in each epoch: put the cache back."
    require(len(read) <= count, hint)
    hint = f"The last examples never come first: of {count}, a buffer of {count} mixes freely."
    require(max(max(epoch[0]) for epoch in epochs) == count - 1, hint)
