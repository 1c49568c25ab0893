"""The exercises of notebook 07."""

import itertools

import numpy as np
import pytest

from helpers import exercises, metrics

distance = metrics.jaccard_distance


def verdict(check, answer, hint, capsys):
    solved = check(answer)
    text = capsys.readouterr().out
    assert hint in text
    assert solved == (hint == "solved")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x: distance(x[:, :-2], x[:, 2:]).mean() / 2, "solved"),
        (lambda x: metrics.per_frame(x[:, 2:], x[:, :-2]).mean() / 2, "solved"),
        (lambda x: distance(x[:, :-2], x[:, 2:]).mean(), "the whole way"),
        (lambda x: distance(x[:, :-1], x[:, 1:]).mean(), "That is persistence"),
        (lambda x: distance(x[:, :-1], x[:, 1:]).mean() / 2, "half of persistence"),
        (lambda x: metrics.pooled(x[:, :-2], x[:, 2:]).mean() / 2, "pools"),
        (lambda x: distance(x[:, :-2], x[:, 2:]) / 2, "one number"),
        (lambda x: 0.1, "Expected"),
        (lambda x: None, "returns nothing yet"),
    ],
)
def test_single_frame_floor(answer, hint, capsys):
    verdict(exercises.check_single_frame_floor, answer, hint, capsys)


def each(truth, forecasts):
    return np.stack([distance(truth, forecast) for forecast in forecasts])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda y, p: each(y, p).min(axis=0), "solved"),
        (lambda y, p: np.minimum.reduce(list(each(y, p))), "solved"),
        (lambda y, p: each(y, p).min(axis=1), "best draw of each sample"),
        (lambda y, p: each(y, p).mean(axis=0), "mean over the draws"),
        (lambda y, p: distance(y, p.mean(axis=0)), "mean of the draws"),
        (lambda y, p: each(y, p).max(axis=0), "the worst draw"),
        (lambda y, p: each(y, p).min(), "expected (B,)"),
        (lambda y, p: each(y, p)[0], "For the first sample"),
        (lambda y, p: None, "returns nothing yet"),
    ],
)
def test_best_of(answer, hint, capsys):
    verdict(exercises.check_best_of, answer, hint, capsys)


def pairs(p):
    return [float(distance(a, b)) for a, b in itertools.combinations(p, 2)]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda p: np.mean(pairs(p)), "solved"),
        (lambda p: np.mean([distance(a, b) for a in p for b in p]), "with itself"),
        (lambda p: distance(p[1:], p[:-1]).mean(), "neighbours"),
        (lambda p: 2 * np.sum(pairs(p)), "take the mean"),
        (lambda p: distance(p[1:], p[:-1]), "one number"),
        (lambda p: p.std(), "Expected"),
        (lambda p: 1 / 0, "ZeroDivisionError"),
        (lambda p: None, "returns nothing yet"),
    ],
)
def test_diversity(answer, hint, capsys):
    verdict(exercises.check_diversity, answer, hint, capsys)
