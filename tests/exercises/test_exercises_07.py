"""The exercises of notebook 07."""

import itertools

import numpy as np
from answers import says

from helpers import exercises, metrics

distance = metrics.jaccard_distance


OFF = {0.01: [0.9, 0.8, 0.7], 0.1: [0.3, 0.1, 0.2]}


def first(value, seed):
    assert seed == 1
    return OFF[value][0]


test_critic_weight = says(
    exercises.check_critic_weight,
    ((None, {}, first), "Say first"),
    ((0.1, {0.1: OFF[0.1]}, first), "at least two"),
    ((1.0, OFF, first), "have not trained it"),
    ((0.1, {**OFF, 0.1: [0.2, 0.1, 0.2]}, first), "same seed it is 0.2000"),
    ((0.1, {**OFF, 0.1: [0.25, 0.1, 0.2]}, first), "solved"),
    ((0.01, OFF, first), "solved"),
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
