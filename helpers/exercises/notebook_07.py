"""The exercises of notebook 07."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from helpers import metrics
from helpers.exercises._shared import array, ask, compare, exercise, one_number


@exercise("7.1")
def check_single_frame_floor(floor: Callable):
    """Check exercise 7.1: what a forecast from a single frame cannot fall below."""
    rng = np.random.default_rng(71)
    for shape in ((3, 4, 6, 6, 6), (2, 7, 6, 6, 6)):
        frames = (gaussian_filter(rng.random(shape), (0, 1, 1, 1, 1)) > 0.5).astype(np.uint8)
        found = one_number(ask(floor, frames.copy()))
        before, after = frames[:, :-2], frames[:, 2:]
        apart = metrics.jaccard_distance(before, after).mean()
        persistence = metrics.jaccard_distance(frames[:, :-1], frames[:, 1:]).mean()
        pooled = metrics.pooled(before, after).mean()
        mistakes = {
            "That is the whole way between the two neighbours; half of it has to be paid.": apart,
            "That is persistence: take the frame before and the frame after, which are two steps "
            "apart.": persistence,
            "That is half of persistence: take frames that are two steps apart.": persistence / 2,
            "That pools the voxels of a sequence; here each frame counts the same.": pooled / 2,
        }
        compare(found, apart / 2, mistakes)


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
