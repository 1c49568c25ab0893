"""The exercises of notebook 07."""

import itertools

import numpy as np
from answers import says

from helpers import exercises, metrics

distance = metrics.jaccard_distance


test_single_frame_floor = says(
    exercises.check_single_frame_floor,
    (lambda x: distance(x[:, :-2], x[:, 2:]).mean() / 2, "solved"),
    (lambda x: metrics.per_frame(x[:, 2:], x[:, :-2]).mean() / 2, "solved"),
    (lambda x: distance(x[:, :-2], x[:, 2:]).mean(), "the whole way"),
    (lambda x: distance(x[:, :-1], x[:, 1:]).mean(), "That is persistence"),
    (lambda x: distance(x[:, :-1], x[:, 1:]).mean() / 2, "half of persistence"),
    (lambda x: metrics.pooled(x[:, :-2], x[:, 2:]).mean() / 2, "pools"),
    (lambda x: 0.1, "Expected"),
)


def each(truth, forecasts):
    return np.stack([distance(truth, forecast) for forecast in forecasts])


test_best_of = says(
    exercises.check_best_of,
    (lambda y, p: each(y, p).min(axis=0), "solved"),
    (lambda y, p: np.minimum.reduce(list(each(y, p))), "solved"),
    (lambda y, p: each(y, p).min(axis=1), "best draw of each sample"),
    (lambda y, p: each(y, p).mean(axis=0), "mean over the draws"),
    (lambda y, p: distance(y, p.mean(axis=0)), "mean of the draws"),
    (lambda y, p: each(y, p).max(axis=0), "the worst draw"),
    (lambda y, p: each(y, p).min(), "one number for each sample"),
    (lambda y, p: each(y, p)[0], "At ["),
)


def pairs(p):
    return [float(distance(a, b)) for a, b in itertools.combinations(p, 2)]


test_diversity = says(
    exercises.check_diversity,
    (lambda p: np.mean(pairs(p)), "solved"),
    (lambda p: np.mean([distance(a, b) for a in p for b in p]), "with itself"),
    (lambda p: distance(p[1:], p[:-1]).mean(), "neighbours"),
    (lambda p: 2 * np.sum(pairs(p)), "take the mean"),
    (lambda p: p.std(), "Expected"),
)
