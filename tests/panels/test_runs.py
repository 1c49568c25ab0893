"""Runs: how they are judged, what is kept of them, how they stop and go on, what goes wrong."""

import dataclasses
import gc
import json
import subprocess
import sys

import numpy as np
import pytest
from short_runs import TINY, stop_at, written
from tensorflow.python.framework.func_graph import FuncGraph

from helpers import _files, metrics, rollout, workshop
from helpers.panels import runs, settings
from helpers.panels.runs import MONITOR, ROLLOUT, RunError, Session, spread
from helpers.panels.settings import MODELS, Settings
from helpers.sequences import T80_TINC4

BAD = "damaged or of another version"


@pytest.fixture(scope="module")
def done(tmp_path_factory, splits):
    """A session with one run that is done; tests only read it."""
    session = Session(tmp_path_factory.mktemp("runs"), **splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ROUND", (1, 100))
        session.start(Settings(**TINY))
    return session


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_judged_on_the_same_frames(session, model):
    steps = {"steps": 1, "learning_rate": 1e-6, "history": 3, "adversarial": 0, "depth": 1}
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
    forecast = session.forecast(run)
    assert np.array_equal(forecast >= 128, frames[:, -2])
    # Its forecaster says the same of the frames before.
    again = session.forecaster(run)(frames[:, :-1])
    assert np.abs(again - forecast / 255).max() < 0.003


def test_a_run_is_kept(done):
    found = done.read(1)
    assert (found.status, found.settings) == ("done", Settings(**TINY))
    assert list(found.log["step"]) == [1, 2, 3, 4]
    (row,) = done.table().to_dict("records")
    assert row["best"] == min(found.log[MONITOR])
    assert row["rollout"] == found.log[ROLLOUT][found.log[MONITOR].idxmin()]
    assert row["seconds"] > 0 and row["parameters"] > 0 and row["kernel"] == 3


def test_the_table_survives_a_restart(done):
    # Another process, and nothing of the laboratory but its folder.
    code = (
        "import sys; from pathlib import Path; from helpers.panels.runs import Run\n"
        "run = Run.read(Path(sys.argv[1])); print(run.number, run.status, len(run.log))"
    )
    command = [sys.executable, "-c", code, str(done.read(1).place)]
    told = subprocess.run(
        command, capture_output=True, text=True, cwd=workshop.REPOSITORY, check=True
    )
    assert told.stdout.split() == ["1", "done", "4"]


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


class TestDamage:
    @pytest.fixture
    def two(self, session):
        written(session.folder), written(session.folder, 2)
        return session

    @pytest.mark.parametrize("change", [{"parameters": 2}, {"settings": {}}, {"more": 1}])
    def test_what_was_changed_hides_no_other_run(self, two, change):
        path = two.folder / "0002" / runs.RUN
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert list(two.table()["status"]) == ["stopped", BAD]
        with pytest.raises(RunError, match="is damaged"):
            two.read(2)

    @pytest.mark.parametrize("name", [runs.RUN, "checkpoint.npz"])
    def test_a_file_cut_short(self, two, name):
        path = two.folder / "0002" / name
        path.write_bytes(path.read_bytes()[:-30])
        assert list(two.table()["status"]) == ["stopped", BAD]

    def test_a_run_of_an_earlier_version(self, two):
        older = {"format_version": 3, "ended": "done", "settings": {"seconds": 60.0}}
        (two.folder / "0001" / runs.RUN).write_text(json.dumps(older))
        assert list(two.table()["status"]) == [BAD, "stopped"]
        with pytest.raises(RunError, match="another version of the course.*left as it is"):
            two.read(1)

    def test_there_is_no_such_run(self, two):
        with pytest.raises(RunError, match="There is no run 0007"):
            two.read(7)


class TestStops:
    def test_stop_takes_effect_within_a_step(self, session):
        run = stop_at(session, 70, lambda: session.start(Settings(**TINY | {"steps": 400})))
        # The round that had begun is given up.
        assert (session.read(run).status, session.table()["step"][0]) == ("stopped", 67)

    def test_a_run_goes_on_as_if_nothing_had_been(self, done, session, splits):
        run = stop_at(session, 2, lambda: session.start(Settings(**TINY)))
        found = session.read(run)
        assert (found.status, len(found.log)) == ("stopped", 2)
        found.write()
        assert session.read(run).status == "interrupted"  # as if its kernel had died
        later = Session(session.folder, **splits)
        assert later.resume(run) == run
        found = later.read(run)
        assert (found.status, len(found.log)) == ("done", 4)
        whole = done.read(1).log
        assert found.log[MONITOR].tolist() == pytest.approx(whole[MONITOR].tolist())
        assert found.log["seconds"].is_monotonic_increasing

    def test_stopped_before_its_first_round(self, session):
        run = stop_at(session, 1, lambda: session.start(Settings(**TINY | {"steps": 400})))
        with pytest.raises(FileNotFoundError, match="no round was validated"):
            session.forecaster(run)
        assert (session.read(run).status, session.table()["step"][0]) == ("stopped", 0)


class TestTrouble:
    @pytest.mark.parametrize(
        ("ended", "words"),
        [("done", "all its steps"), ("diverged", "lower learning rate"), ("stopped", "other data")],
    )
    def test_what_cannot_go_on(self, session, ended, words):
        written(session.folder, ended=ended)
        with pytest.raises(RunError, match=words):
            session.resume(1)
        assert not session.running

    def test_a_run_of_another_kernel_is_left_alone(self, session):
        written(session.folder, data=session.data, ended="")
        with _files.lock(session.read(1).place / runs.LOCK, "", wait=False):
            assert session.read(1).status == "training"
            with pytest.raises(RunError, match="another kernel"):
                session.resume(1)
        assert session.read(1).status == "interrupted" and not session.running

    def test_a_folder_that_cannot_be_written(self, tmp_path, splits):
        (tmp_path / "file").write_text("")
        blocked = Session(tmp_path / "file" / "runs", **splits)
        with pytest.raises(OSError, match="choose another folder"):
            blocked.start(Settings(**TINY))
        assert not blocked.running

    def test_nothing_of_a_run_stays_in_memory(self, session):
        graphs = []
        for _ in range(3):
            session.start(Settings(**TINY | {"depth": 1}))
            gc.collect()
            graphs.append(sum(isinstance(each, FuncGraph) for each in gc.get_objects()))
        assert graphs[1] == graphs[2]  # the first one makes some that stay

    def test_a_forecast_that_is_not_finite(self, session, monkeypatch):
        found = np.full((5, 4, 16, 16, 16), np.nan, np.float32)
        real = runs.rollout.next_frames
        null = runs.rollout.Persistence
        monkeypatch.setattr(
            runs.rollout,
            "next_frames",
            lambda model, *a, **o: real(
                model if isinstance(model, null) else lambda frames: found[:, 0], *a, **o
            ),
        )
        run = session.start(Settings(**TINY))
        assert session.read(run).status == "diverged" and "NaN" in session.message
