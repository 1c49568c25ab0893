"""The exercises of notebook 08, and what it teaches against the helpers."""

import numpy as np
import pandas as pd
import pytest
from answers import says
from notebook_code import definition

from helpers import evaluation, exercises


def horizons(model, persistence, per_sample=False, gaps=False):
    better, trusted = model.mean(axis=0) < persistence.mean(axis=0), model.mean(axis=0) < 0.5
    if per_sample:
        trusted = (model < 0.5).all(axis=0)
    both = (
        (better.sum(), trusted.sum()) if gaps else [np.cumprod(a).sum() for a in (better, trusted)]
    )
    return tuple(both)


test_horizons = says(
    exercises.check_horizons,
    (horizons, "solved"),
    (lambda m, p: horizons(m, p)[::-1], "comes first"),
    (lambda m, p: horizons(m, p, per_sample=True), "mean over the samples first"),
    (lambda m, p: horizons(m, p, gaps=True), "Stop at the first step"),
    (lambda m, p: (0, 0), "better at every step: expected 5 and 5"),
    (lambda m, p: 5, "two whole numbers"),
)


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
