"""The exercises of notebook 09, and what it teaches against the helpers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from answers import says
from notebook_code import definition

from helpers import exercises, workshop
from helpers.panels import runs
from helpers.panels.settings import Settings


def paired(base, turned):
    gap = turned - base
    return gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))


test_effect = says(
    exercises.check_effect,
    (paired, "solved"),
    (lambda b, t: (t - b).mean(), "Return two numbers"),
    (lambda b, t: paired(t, b), "That is base - turned"),
    (lambda b, t: (0.0, paired(b, t)[1]), "The mean difference is"),
    (
        lambda b, t: (
            paired(b, t)[0],
            np.sqrt((b.var(ddof=1) + t.var(ddof=1)) / len(b)),
        ),
        "come in pairs",
    ),
    (lambda b, t: ((t - b).mean(), (t - b).std()), "root of their number"),
    (lambda b, t: ((t - b).mean(), (t - b).std() / np.sqrt(len(b))), "ddof=1"),
    (lambda b, t: ((t - b).mean(), 1.0), "The standard error is"),
)


MEANS = {8: 0.33, 32: 0.30}
test_knob = says(
    exercises.check_knob,
    ((8, MEANS | {8: 0.2}, MEANS.get), "again from the same seed it is 0.3300"),
    ((8, MEANS, MEANS.get), "solved"),  # a wrong guess is a guess
)


def drawn(spread, runs, times=20_000):
    draws = np.random.default_rng(0).normal(0, spread, (times, runs))
    return -draws.min(axis=1).mean()


test_luck = says(
    exercises.check_luck,
    (drawn, "solved"),
    (lambda s, n: -drawn(s, n), "above 0"),
    (lambda s, n: drawn(1, n), "multiply by the spread"),
    (lambda s, n: s * np.sqrt(2 * np.log(n)), "very many runs"),
    (lambda s, n: drawn(s, max(n, 2)), "its own best"),
    (lambda s, n: s, "expected 0.0113"),
    (lambda s, n: drawn(s, n) * 1.2, "Draw more often"),
)


def test_the_shipped_runs_are_those_of_the_notebook():
    table = pd.read_csv(workshop.REPOSITORY / "data" / "results" / "laboratory.csv")
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(table["knob"]) <= names
    assert table["seed"].nunique() == 3
    assert not table.duplicated(["model", "knob", "value", "seed"]).any()
    assert table["persistence"].nunique() == 1


def test_the_spread_taught_is_that_of_the_panel():
    rows = pd.DataFrame({"width": [8, 8, 32, 32], "best": [0.3, 0.4, 0.2, 0.2]})
    taught = definition("09", "spread", pd=pd)(rows, "width")
    pd.testing.assert_frame_equal(taught, runs.spread(rows, "width"))
    assert taught.loc[8].tolist() == pytest.approx([0.35, 0.1 / 2**0.5, 2])
