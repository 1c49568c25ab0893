"""How good anyone could be: the sequences, one cut for all, and the table that is shipped."""

import numpy as np
import pandas as pd
import pytest

from data.make import cuts, floor
from helpers import metrics, published
from helpers.sequences import T80_TINC4, THESIS_FORMATS
from helpers.world.ideal import Ideal


@pytest.fixture(scope="module")
def sequences():
    return floor.single_balls(12, step=4)


def test_sequences_hold_one_ball_that_is_there_in_the_last_frame_seen(sequences):
    assert sequences.shape == (12, 11, 16, 16, 16) and sequences.dtype == np.uint8
    there = sequences.any(axis=(2, 3, 4))
    assert there[:, -2].all()
    # Some began while they were watched, and a life is one unbroken stretch.
    assert not there[:, 0].all()
    assert (np.abs(np.diff(np.pad(there, ((0, 0), (1, 1))).astype(int))).sum(axis=1) == 2).all()
    assert np.array_equal(floor.single_balls(3, step=4), sequences[:3])
    assert not np.array_equal(floor.single_balls(3, step=4, seed=2), sequences[:3])
    Ideal(4)(sequences[:, :-1])  # refuses what is not one ball


def test_all_are_judged_by_one_cut_on_the_same_frames(monkeypatch, sequences):
    monkeypatch.setattr(floor, "THESIS_FORMATS", (T80_TINC4,))
    monkeypatch.setattr(floor, "SEEN", (2, 10))
    monkeypatch.setattr(floor, "single_balls", lambda count, step: sequences[:count])
    ideal = Ideal(4)

    def faint(history):
        return 0.5 * ideal(history)

    faint.name = "SurfaceNet"
    asked = []
    monkeypatch.setattr(cuts, "load", lambda *given: asked.append(given) or faint)
    found = floor.measure(["surfacenet"], count=12)
    assert asked == [("surfacenet", T80_TINC4)]
    assert list(found["model"]) == ["ideal", "SurfaceNet", "persistence"] * 2
    found = found.set_index(["model", "history"])
    # Half the probability is a forecast of nothing at 0.5; the cut makes something of it.
    assert found.loc[("SurfaceNet", 10), "mean"] < 0.3
    truth, last = sequences[:, -1], sequences[:, -2]
    persistence = metrics.jaccard_distance(truth, last)
    assert found.loc[("persistence", 2), "mean"] == pytest.approx(persistence.mean())
    p = ideal(sequences[:, :-1])
    ideal = metrics.jaccard_distance(truth, metrics.cut(p, "expected"))
    assert set(np.unique(p >= 0.5)) == {False, True}
    assert found.loc[("ideal", 10), "mean"] == pytest.approx(ideal.mean())
    above = found.loc[("persistence", 10)]
    assert above["above"] == pytest.approx((persistence - ideal).mean())
    assert above["above_low"] < above["above"] < above["above_high"]
    assert (found.loc["ideal", list(floor.ABOVE)] == 0).all(axis=None)


def test_the_shipped_table_has_the_ideal_below_all_others():
    found = pd.read_csv(floor.RESULT)
    assert set(found["format"]) == {each.name for each in THESIS_FORMATS}
    assert set(found["history"]) == set(floor.SEEN) and found["n"].min() >= 250
    assert found.groupby(["format", "history"])["model"].agg(set).map(len).nunique() == 1
    others = found[found["model"] != "ideal"]
    assert (others["above"] > 0).all()
    assert (found["low"] <= found["mean"]).all() and (found["mean"] <= found["high"]).all()
    # Whatever was seen before, persistence repeats the same frame.
    assert others.query("model == 'persistence'").groupby("format")["mean"].nunique().eq(1).all()
    # Frames more teach the ideal more.
    ideal = found[found["model"] == "ideal"].pivot(index="history", columns="format", values="mean")
    assert (ideal.diff().dropna() <= 0).all(axis=None)
    assert floor.RESULT.parent == published.COURSE_RESULTS


def test_plain_probabilities_of_shipped_weights_are_loaded_by_name():
    assert cuts.load("convlstm", T80_TINC4).name
    assert cuts.load("surfacenet", T80_TINC4).name == "SurfaceNet"
    with pytest.raises(FileNotFoundError):
        cuts.load("nobody", T80_TINC4)
