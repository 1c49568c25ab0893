"""The exercises of notebook 01."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import array, ask, compare, exercise, one_number, require
from helpers.world import cavities


@exercise("1.1")
def check_cross_section(cross_section: Callable):
    """Check exercise 1.1: the radius of the 3D slice of a 4D ball at each time."""
    times, centre, a = np.arange(128), 60, 20.5
    with np.errstate(invalid="ignore"):
        result = array(ask(cross_section, times, centre, a), (128,), "one radius per time")
    away = np.abs(times - centre)
    squared = np.maximum(a**2 - away**2, 0)
    uncentred = np.sqrt(np.maximum(a**2 - times**2, 0))
    require(
        not np.isnan(result).any(),
        "Where the slice misses the ball you take the root of a negative number, which is NaN. "
        "Cut it off at 0 before the root: np.maximum(…, 0).",
    )
    even = np.maximum(a - away, 0)
    mistakes = {
        "That radius grows evenly. Put w = t - centre into x² + y² + z² + w² ≤ a².": even,
        "That is the radius squared.": squared,
        "The ball's centre is at time `centre`, not at 0.": uncentred,
    }
    compare(result, np.sqrt(squared), mistakes)


@exercise("1.2")
def check_empty_pairs(empty_pairs: Callable):
    """Check exercise 1.2: the share of neighbouring frames (N, T, D, H, W) that are both empty."""
    filled = np.array([[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0]])
    frames = np.zeros((3, 6, 4, 4, 4), np.uint8)
    frames[..., 1, 2, 3] = filled
    empty = filled == 0
    before, after, row = empty[:, :-1], empty[:, 1:], empty.ravel()
    across = (row[1:] & row[:-1]).mean()
    either = (before | after).mean()
    mistakes = {
        "That is the share of empty frames; a pair needs two in a row.": empty.mean(),
        "That is how many; divide by the number of pairs.": (before & after).sum(),
        "T frames make T - 1 pairs, not T.": (before & after).sum() / empty.size,
        "You pair the last frame of one sequence with the first of the next.": across,
        "You count pairs where at least one frame is empty; both must be.": either,
    }
    compare(one_number(ask(empty_pairs, frames)), (before & after).mean(), mistakes)


@exercise("1.3")
def check_max_pool(max_pool: Callable):
    """Check exercise 1.3: one frame (D, H, W) max-pooled in blocks of size³ voxels."""
    frame = (np.random.default_rng(13).random((6, 9, 12)) < 0.05).astype(np.uint8)
    hint = "You keep the position inside a block and pool the blocks: swap the axes."
    meaning = "as a frame (6, 9, 12) has two, three and four blocks of 3"
    result = array(ask(max_pool, frame, 3), (2, 3, 4), meaning, {(3, 3, 3): hint})
    blocks = frame.reshape(2, 3, 3, 3, 4, 3)
    mixed_up = frame.reshape(3, 2, 3, 3, 3, 4).max(axis=(0, 2, 4))
    mistakes = {
        "You take the first voxel of each block; take the largest of all 27.": frame[::3, ::3, ::3],
        "That is the mean of each block; take the maximum.": blocks.mean(axis=(1, 3, 5)),
        "Your blocks are not made of neighbours. In `reshape` the blocks come first, "
        "then the position inside a block: (D // size, size, …).": mixed_up,
    }
    compare(result, blocks.max(axis=(1, 3, 5)), mistakes)


@exercise("1.4")
def check_possible_counts(possible_counts: Callable):
    """Check exercise 1.4: all allowed counts (k, 4) of cavities with the given Betti numbers."""
    allowed = cavities.allowed_counts().astype(int)
    n0, n1, n2, n3 = allowed.T
    every = np.stack([np.ones_like(n0), n2 + n3, n1 + 2 * n3, n0 + n1 + n2 + n3], axis=1)
    for betti in ((1, 3, 4, 9), (1, 0, 0, 1), (1, 12, 2, 16), (1, 9, 9, 9)):
        result = np.asarray(ask(possible_counts, np.array(betti, np.uint8)))
        expected = allowed[(every == betti).all(axis=1)]
        hint = "That is one answer. Several counts can have the same label: return all of them."
        require(result.shape != (4,), hint)
        hint = "That is a mask. Use it to choose rows of `cavities.allowed_counts()`."
        require(result.dtype != bool, hint)
        hint = f"The result has shape {result.shape}; expected (k, 4), one row per answer."
        require(result.ndim == 2 and result.shape[1] == 4, hint)
        hint = f"For betti = {betti} expected {len(expected)} rows, found {len(result)}."
        if len(result) > len(expected):
            hint += " All four numbers of a row must agree: `.all(axis=1)`."
        require({*map(tuple, result.tolist())} == {*map(tuple, expected.tolist())}, hint)
