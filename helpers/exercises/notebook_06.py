"""The exercises of notebook 06."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import (
    array,
    ask,
    compare,
    differentiate,
    exercise,
    one_number,
    require,
    try_suspects,
)
from helpers.workshop import tensorflow


@exercise("6.1")
def check_mixing_share(mixing_share: Callable):
    """Check exercise 6.1: where to mix each pair of a batch, uniform in 0…1."""
    batch = np.zeros((2000, 2, 3, 4, 2), np.float32)
    share, again = ask(mixing_share, batch), ask(mixing_share, batch)
    hint = "A share for each voxel leaves the line: one number for each pair."
    one = "That is one place for all pairs of the batch: draw one for each pair."
    mistakes = {batch.shape: hint, (): one, (1, 1, 1, 1, 1): one}
    meaning = "(B, 1, 1, 1, 1), to be multiplied with a batch (B, D, H, W, C)"
    share = array(share, (2000, 1, 1, 1, 1), meaning, mistakes)
    outside = 1 - ((share >= 0) & (share <= 1)).mean()
    require(outside == 0, f"{outside:.0%} of the places lie outside 0…1, not between the two.")
    require(np.ptp(share) > 0, "All places are the same: draw them at random.")
    hint = "You draw the same places each time; take the generator's next numbers."
    require(not np.array_equal(share, again), hint)
    # Kolmogorov and Smirnov: the largest gap between the running shares; 0.05 is far off.
    gap = np.abs(np.sort(share.ravel()) - (np.arange(2000) + 0.5) / 2000).max()
    require(gap <= 0.05, "The places lie in 0…1, but some parts of the line are preferred.")


@exercise("6.2")
def check_lengths(lengths: Callable):
    """Check exercise 6.2: the length of each slope (B, D, H, W, C), its gradient finite at 0."""
    slopes = np.random.default_rng(63).normal(size=(4, 3, 4, 5, 2)).astype(np.float32)
    found, gradient = differentiate(lengths, slopes)
    hint = "One length for the whole batch: sum over the axes 1 to 4 only."
    array(found, (4,), "one length per sample", {(): hint, (1,): hint})
    squares = (slopes.astype(float) ** 2).sum(axis=(1, 2, 3, 4))
    mean = np.sqrt(squares / slopes[0].size)
    mistakes = {
        "Those are the squares; the root is missing.": squares,
        "You take the mean of the squares; a length has their sum.": mean,
    }
    compare(found, np.sqrt(squares), mistakes, atol=1e-3)
    expected = slopes / np.sqrt(squares)[:, None, None, None, None]
    hint = "The lengths are right, their gradient is not: no stop_gradient."
    require(gradient is not None and np.allclose(gradient, expected, atol=1e-3), hint)
    slopes[1] = 0
    tf = tensorflow()

    def at_zero(flat):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            result = lengths(flat)
        return result, tape.gradient(result, flat)

    # Compiled as well: uncompiled, TensorFlow forgives a choice after the root.
    for jit in (False, True):
        result, gradient = ask(tf.function(at_zero, jit_compile=jit), tf.constant(slopes))
        require(
            np.isfinite(gradient).all(),
            "The gradient is NaN where a slope is 0 (with XLA at the latest). Let the root see a "
            "number that is never 0; a choice after the root comes too late.",
        )
    length = float(result[1])
    require(abs(length) <= 0.01, f"A slope of 0 has length 0, not {length:.3f}.")


@exercise("6.3")
def check_sand(sand: Callable):
    """Check exercise 6.3: the Wasserstein distance of two heaps on uneven places."""
    rng = np.random.default_rng(61)
    for n in (7, 40):
        places = np.cumsum(rng.uniform(0.2, 3.0, n)) - 4
        p, q = rng.dirichlet(np.ones(n), 2)
        found = one_number(ask(sand, places.copy(), p.copy(), q.copy()))
        difference, ways = np.cumsum(p - q)[:-1], np.diff(places)
        expected, carried = (np.abs(difference) * ways).sum(), np.abs(difference).sum()
        single = (np.abs(p - q)[:-1] * ways).sum()
        mistakes = {
            "That adds what is carried, but not how far: times the way to the next place.": carried,
            "That is the difference of the means. Sand carried to the left is work, too: take "
            "the absolute value of each difference.": abs((difference * ways).sum()),
            "Take running sums (np.cumsum): what crosses a gap is all that is left of it.": single,
            "The places are not equally far apart; use np.diff(places).": carried * ways.mean(),
        }
        compare(found, expected, mistakes)


@exercise("6.4")
def check_looks_at_others(looks_at_others: Callable):
    """Check exercise 6.4: a test for critics that do not judge each sample by itself."""
    batch = np.random.default_rng(64).normal(size=(5, 2, 3, 4)).astype(np.float32)

    def each(x):
        return x.reshape(len(x), -1)

    def total(x):
        return each(x).sum(axis=1)

    def spread(x):
        return np.sqrt(each(x).var(axis=1, keepdims=True) + 1e-3)

    guilty = {
        "normalises the batch": lambda x: total(x / (x.std(axis=0) + 1e-3)),
        "compares each sample with the one before": lambda x: total(x) - np.roll(total(x), 1),
        "adds the spread of the batch to each score": lambda x: total(x) + x.std(axis=0).mean(),
        "looks at the last sample only, besides its own": lambda x: total(x) + 0.1 * total(x)[-1],
    }
    compare_each = "Compare the score of each sample, alone and together."
    suspects = {
        "adds the voxels": (total, None),
        "normalises each sample": (lambda x: (each(x) / spread(x)).max(axis=1), None),
        **{name: (critic, compare_each) for name, critic in guilty.items()},
    }
    words = {
        "who": "critic",
        "what": "batch",
        "does": "looks at others",
        "nobody": "You suspect nobody; four of the six look at other samples.",
        "innocent": ": the score of a sample may not change. Compare with a tolerance.",
    }
    try_suspects(looks_at_others, batch, suspects, words)
