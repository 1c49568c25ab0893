"""The exercises of notebook 07."""

from collections.abc import Callable

import numpy as np

from helpers import metrics
from helpers.exercises._shared import array, ask, compare, exercise, one_number, try_seeds


@exercise("7.1")
def check_critic_weight(expected: float, measured: dict, volume_off: Callable):
    """Check exercise 7.1: a guess, and how far off the volume is with several λ and seeds."""
    # A game of two networks carries small differences farther than the training of one.
    try_seeds(expected, measured, volume_off, tolerance=0.02)


@exercise("7.2")
def check_best_of(best_of: Callable):
    """Check exercise 7.2: of several forecasts of a frame, the distance of the best one."""
    rng = np.random.default_rng(72)
    truth = (rng.random((5, 4, 4, 4)) < 0.3).astype(np.uint8)
    forecasts = np.clip(0.6 * truth + 0.7 * rng.random((3, 5, 4, 4, 4)), 0, 1).astype(np.float32)
    result = ask(best_of, truth.copy(), forecasts.copy())
    hint = "That is the best sample of each draw: take the best draw of each sample."
    result = array(result, (5,), "one number for each sample", {(3,): hint})
    of_mean = metrics.jaccard_distance(truth, forecasts.mean(axis=0))
    each = metrics.jaccard_distance(np.broadcast_to(truth, forecasts.shape), forecasts)  # (K, B)
    mistakes = {
        "That is the mean over the draws: what one draw gives, on average.": each.mean(axis=0),
        "That judges the mean of the draws, one forecast. Judge each, then choose.": of_mean,
        "That is the worst draw; a small distance is a good one.": each.max(axis=0),
    }
    compare(result, each.min(axis=0), mistakes)


@exercise("7.3")
def check_diversity(diversity: Callable):
    """Check exercise 7.3: how different the forecasts of different histories are."""
    rng = np.random.default_rng(73)
    count = 5
    filled = rng.random((count, 4, 4, 4)) < rng.uniform(0.2, 0.8, (count, 1, 1, 1))
    forecasts = filled.astype(np.float32)
    pairs = np.array([[metrics.jaccard_distance(a, b) for b in forecasts] for a in forecasts])
    mistakes = {
        "Leave out the pairs of a forecast with itself: they are 0 whatever happens.": pairs.mean(),
        "That looks at neighbours in the batch only: take all pairs.": np.diagonal(pairs, 1).mean(),
        "That is the sum; take the mean over the pairs.": pairs.sum(),
    }
    expected = pairs.sum() / (count * (count - 1))
    compare(one_number(ask(diversity, forecasts.copy())), expected, mistakes)
    compare(one_number(ask(diversity, np.repeat(forecasts[:1], 3, axis=0))), 0.0, mistakes)
