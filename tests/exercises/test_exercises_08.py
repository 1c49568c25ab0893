"""The exercises of notebook 08, and what it teaches against the helpers."""

import numpy as np
import pandas as pd
import pytest
from answers import says
from notebook_code import definition
from scipy.spatial.distance import cdist

from helpers import evaluation, exercises


def paired(prediction, persistence, resamples, order=1, ends=(0.025, 0.975), size=None):
    rng = np.random.default_rng(1)
    gap = order * (prediction - persistence)
    drawn = rng.integers(len(gap), size=(resamples, size or len(gap)))
    return np.quantile(gap[drawn].mean(axis=1), ends)


def apart(prediction, persistence, resamples):
    rng = np.random.default_rng(1)
    one, other = rng.integers(len(prediction), size=(2, resamples, len(prediction)))
    means = prediction[one].mean(axis=1) - persistence[other].mean(axis=1)
    return np.quantile(means, (0.025, 0.975))


test_paired_interval = says(
    exercises.check_paired_interval,
    (paired, "solved"),
    (lambda p, n, r: tuple(map(float, paired(p, n, r))), "solved"),
    (lambda p, n, r: paired(p, n, r)[::-1], "above the upper"),
    (lambda p, n, r: [(p - n).mean()] * 2, "with* replacement"),
    (lambda p, n, r: paired(p, n, r, order=-1), "model is better"),
    (lambda p, n, r: np.quantile(p - n, (0.025, 0.975)), "spread of single samples"),
    (apart, "same samples for prediction and persistence"),
    (lambda p, n, r: paired(p, n, r, ends=(0.25, 0.75)), "the 97.5 % quantile"),
    (lambda p, n, r: paired(p + 0.1, n, r), "middle should be near"),
)


def both_ways(one, other):
    distances = cdist(one, other)
    return distances.min(axis=1), distances.min(axis=0)


test_hausdorff = says(
    exercises.check_hausdorff,
    (lambda a, b: max(np.percentile(side, 95) for side in both_ways(a, b)), "solved"),
    (
        lambda a, b: max(np.quantile(s, 0.95, method="inverted_cdf") for s in both_ways(a, b)),
        "solved",
    ),
    (lambda a, b: np.max([side.max() for side in both_ways(a, b)]), "One stray voxel"),
    (lambda a, b: np.percentile(both_ways(a, b)[0], 95), "both ways"),
    (lambda a, b: np.percentile(both_ways(a, b)[1], 95), "both ways"),
    (lambda a, b: np.percentile(np.concatenate(both_ways(a, b)), 95), "by itself"),
    (lambda a, b: cdist(a, b).max(), "nearest"),
    (lambda a, b: both_ways(a, b)[0].mean(), "a mean distance"),
    (lambda a, b: 77.0, "Expected"),
)


def gone(truth, prediction, threshold=0.5, also_empty=False):
    empty = ~(prediction >= threshold).any(axis=(2, 3, 4))
    return empty if also_empty else empty & truth.any(axis=(2, 3, 4))


test_vanished = says(
    exercises.check_vanished,
    (lambda t, p: gone(t, p).mean(axis=0), "solved"),
    (lambda t, p: gone(t, p), "for each sample"),
    (lambda t, p: gone(t, p).mean(), "one share per horizon"),
    (lambda t, p: gone(t, p).sum(axis=0), "divide by their number"),
    (lambda t, p: gone(t, p, also_empty=True).mean(axis=0), "leave it out"),
    (lambda t, p: gone(t, p, threshold=1e-9).mean(axis=0), "Grey voxels"),
    (
        lambda t, p: gone(t, p).sum(axis=0) / t.any(axis=(2, 3, 4)).sum(axis=0),
        "Divide by all samples",
    ),
    (lambda t, p: gone(t, p).mean(axis=0) + 0.1, "At ["),
)


@pytest.mark.parametrize("seed", range(4))
def test_the_skill_horizon_taught_is_the_helpers(seed):
    known = {"np": np}
    known["unbroken"] = definition("08", "unbroken", **known)
    taught = definition("08", "skill_horizon", **known)
    trend = np.array([-0.1, -0.06, -0.03, -0.01, 0.02])
    gap = trend + np.random.default_rng(seed).normal(0, 0.05, (30, 5))
    columns = {
        f"{what}_{kind}": 0.5
        for kind in ("jaccard", "mse")
        for what in ("prediction", "persistence", "input", "moving_null", "moving_input")
    }
    table = pd.DataFrame(
        {
            "model": "made",
            "format": "any",
            "protocol": "rollout",
            "cut": "half",
            "history": 5,
            "horizon": np.tile(np.arange(1, 6), 30),
            "sample": np.repeat(np.arange(30), 5),
            **columns,
            "prediction_jaccard": 0.5 + gap.ravel(),
        }
    )
    (found,) = evaluation.skill_horizon(table).itertuples()
    steps, low, high = taught(gap)
    assert steps == found.steps
    assert abs(low - found.low) <= 1 and abs(high - found.high) <= 1
