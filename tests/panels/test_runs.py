"""Runs: how they are judged, what is kept of them, how they stop and go on, what goes wrong."""

import dataclasses
import json

import numpy as np
import pytest
from short_runs import TINY, stop_at, written

from helpers import _files, metrics, rollout
from helpers.panels import runs
from helpers.panels.runs import MONITOR, ROLLOUT, RunError, Session, spread
from helpers.panels.settings import MODELS, Settings
from helpers.sequences import T80_TINC4

BAD = "damaged or of another version"
EIGHT = Settings(**TINY | {"steps": 8})  # validated after each second step


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A session with one run that is done; tests only read it."""
    session = Session(tmp_path_factory.mktemp("runs"))
    session.start(EIGHT)
    return session


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_judged_on_the_same_frames(session, model):
    steps = {"steps": 1, "learning_rate": 1e-6, "history": 3, "adversarial": 0, "critic_steps": 1}
    run = session.start(Settings(**TINY | steps | {"model": model}))
    found = session.read(run)
    assert (found.status, session.message) == ("done", "")
    frames = T80_TINC4.select(session.frames)
    expected = metrics.jaccard_distance(frames[:, -4:], frames[:, -5:-1]).mean()
    ahead = rollout.rollout(rollout.Persistence(), frames[:, :-4], 4)
    fed_back = metrics.jaccard_distance(frames[:, -4:], ahead).mean()
    assert fed_back > expected
    # After a step that is hardly one, a model still is persistence.
    assert found.log[MONITOR].tolist() == pytest.approx([expected], abs=1e-6)
    assert found.log[ROLLOUT].tolist() == pytest.approx([fed_back], abs=1e-6)
    assert found.persistence == pytest.approx({MONITOR: expected, ROLLOUT: fed_back})
    assert np.array_equal(session.forecast >= 0.5, frames[:, -2])
    # Its forecaster says the same of the frames before.
    again = session.forecaster(run)(frames[:, :-1])
    np.testing.assert_allclose(again, session.forecast, atol=1e-5)


def test_a_run_is_kept(done):
    found = done.read(1)
    assert (found.status, found.settings) == ("done", EIGHT)
    assert list(found.log["step"]) == [2, 4, 6, 8]
    (row,) = done.table().to_dict("records")
    assert row["best"] == min(found.log[MONITOR])
    assert row["rollout"] == found.log[ROLLOUT][found.log[MONITOR].idxmin()]
    assert row["seconds"] > 0 and row["parameters"] > 0 and row["kernel"] == 3


def test_seeds_and_their_spread(session):
    assert session.table().empty
    for number, seed, width in ((1, 3, 8), (2, 1, 16), (3, 2, 8)):
        written(session.folder, number, Settings(**TINY | {"seed": seed, "width": width}))
    found = spread(session.table(), "width").to_dict("index")
    assert found[8] == pytest.approx({"mean": 0.22, "spread": 0.02 / 2**0.5, "seeds": 2})
    # The first seed after those with all else the same.
    assert session.another_seed(Settings(**TINY, seed=3)).seed == 4
    other = Settings(**TINY | {"steps": 9})
    assert session.another_seed(other) == dataclasses.replace(other, seed=1)


def changed(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": 2}))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-30])


def of_an_earlier_version(path):
    path.write_text(json.dumps({"ended": "done", "settings": {"seconds": 60.0}}))


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (changed, runs.RUN),
        (cut_short, runs.RUN),
        (cut_short, "checkpoint.npz"),
        (of_an_earlier_version, runs.RUN),
    ],
)
def test_damage_hides_no_other_run(session, damage, file):
    written(session.folder), written(session.folder, 2)
    damage(session.folder / "0002" / file)
    assert list(session.table()["status"]) == ["stopped", BAD]
    with pytest.raises(RunError, match="is damaged, or was made by another version of the course"):
        session.read(2)
    with pytest.raises(RunError, match="There is no run 0007"):
        session.read(7)


def test_a_run_stops_within_a_step_and_goes_on_as_if_nothing_had_been(done, session):
    run = stop_at(session, 1, lambda: session.start(EIGHT))
    with pytest.raises(FileNotFoundError, match="no round was validated"):
        session.forecaster(run)
    assert (session.read(run).status, session.table()["step"][0]) == ("stopped", 0)
    stop_at(session, 3, lambda: session.resume(run))
    # The round that had begun is given up.
    found = session.read(run)
    assert (found.status, session.table()["step"][0]) == ("stopped", 2)
    found.write()
    assert session.read(run).status == "interrupted"  # as if its kernel had died
    later = Session(session.folder)
    assert later.resume(run) == run
    found = later.read(run)
    assert (found.status, len(found.log)) == ("done", 4)
    assert found.log[MONITOR].tolist() == pytest.approx(done.read(1).log[MONITOR].tolist())
    assert found.log["seconds"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("ended", "words"),
    [("done", "all its steps"), ("diverged", "lower learning rate"), ("stopped", "other data")],
)
def test_what_cannot_go_on(session, ended, words):
    written(session.folder, ended=ended)
    with pytest.raises(RunError, match=words):
        session.resume(1)
    assert not session.running


def test_a_run_of_another_kernel_is_left_alone(session):
    written(session.folder, data=session.data, ended="")
    with _files.lock(session.read(1).place / runs.LOCK, "", wait=False):
        assert session.read(1).status == "training"
        with pytest.raises(RunError, match="another kernel"):
            session.resume(1)
    assert session.read(1).status == "interrupted" and not session.running


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Session(tmp_path / "file" / "runs")
    with pytest.raises(OSError, match="choose another folder"):
        blocked.start(Settings(**TINY))
    assert not blocked.running


def test_a_forecast_that_is_not_finite(session, monkeypatch):
    found = np.full((4, 16, 16, 16), np.nan, np.float32)
    monkeypatch.setattr(MODELS["CNN"].kind, "forecaster", lambda *_: lambda history: found)
    run = session.start(Settings(**TINY))
    assert session.read(run).status == "diverged" and "NaN" in session.message
