"""Runs: how they are judged, what is kept of them, how they stop and go on, what goes wrong."""

import gc
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from short_runs import TINY, stop_at, written
from tensorflow.python.framework.func_graph import FuncGraph

from helpers import _files, metrics, workshop
from helpers.panels import runs, settings
from helpers.panels.runs import RunError, RunTable, Session
from helpers.panels.settings import MODELS, Settings
from helpers.sequences import T80_TINC4


@pytest.fixture(scope="module")
def done(tmp_path_factory, splits):
    """A session with one run that is done; tests only read it."""
    session = Session(tmp_path_factory.mktemp("runs"), **splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ROUND", (1, 250))
        session.start(Settings(**TINY))
    return session


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_judged_on_the_same_frames(session, model):
    steps = {"steps": 1, "learning_rate": 1e-6, "history": 3, "adversarial": 0}
    run = session.start(Settings(model=model, **{**TINY, **steps}))
    found = session.runs.read(run)
    assert (found["status"], session.message) == ("done", "")
    frames = T80_TINC4.select(session.frames)
    expected = metrics.jaccard_distance(frames[:, -4:], frames[:, -5:-1]).mean()
    # After a step that is hardly one, a model still is persistence.
    assert found["best"] == pytest.approx(expected, abs=1e-6)
    assert found["persistence"] == pytest.approx(expected)
    forecast = session.runs.forecast(run)
    assert np.array_equal(forecast >= 128, frames[:, -2])
    # Its forecaster reads as many frames, and says the same.
    again = session.forecaster(run)(frames[:, -4:-1])
    assert np.abs(again - forecast / 255).max() < 0.003


def test_a_run_is_kept(done):
    found = done.runs.read(1)
    assert found["status"] == "done" and found["step"] == found["steps"] == 4
    assert found["settings"] == Settings(**TINY)
    assert list(found["log"]["step"]) == [1, 2, 3, 4]
    (row,) = done.runs.table().to_dict("records")
    assert row["best"] == min(found["log"]["val_jaccard"])
    assert row["seconds"] > 0 and row["parameters"] > 0 and row["kernel"] == 3


def test_the_table_survives_a_restart(done):
    # Another process, and nothing of the laboratory but its folder.
    code = (
        "import sys; from helpers.panels.runs import RunTable\n"
        "print(RunTable(sys.argv[1]).table()[['run', 'status', 'step']].to_csv(index=False))"
    )
    command = [sys.executable, "-c", code, str(done.runs.folder)]
    told = subprocess.run(
        command, capture_output=True, text=True, cwd=workshop.REPOSITORY, check=True
    )
    assert told.stdout.split() == ["run,status,step", "1,done,4"]


def test_sorting(tmp_path):
    table = RunTable(tmp_path)
    assert table.table().empty
    for steps in (3, 1, 2):
        written(table, steps=steps)
    assert list(table.table("steps")["run"]) == [2, 3, 1]
    assert list(table.table("steps", ascending=False)["run"]) == [1, 3, 2]


class TestDamage:
    FIELDS = ("format_version", "ended", "settings", "steps", "parameters", "persistence", "data")

    @pytest.fixture
    def two(self, tmp_path):
        table = RunTable(tmp_path)
        written(table), written(table)
        return table

    @pytest.mark.parametrize("name", (*FIELDS, "began_with"))
    def test_a_missing_or_wrong_field_hides_no_other_run(self, two, name):
        path = two.place(2) / runs.RUN
        whole = json.loads(path.read_text())
        for value in (None, "?", [1], {}, -1, 10**400, True):
            fine = {"began_with": None, "data": "?", "format_version": 10**400}
            if name not in fine or fine[name] != value:
                path.write_text(json.dumps({**whole, name: value}))
                assert list(two.table("best")["status"]) == ["interrupted", "damaged"], value
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(RunError, match="is damaged.*Delete its folder"):
            two.read(2)
        assert list(two.table()["status"]) == ["interrupted", "damaged"]

    def test_a_missing_setting_is_no_default(self, two):
        path = two.place(2) / runs.RUN
        whole = json.loads(path.read_text())
        del whole["settings"]["width"]
        path.write_text(json.dumps(whole))
        assert list(two.table()["status"]) == ["interrupted", "damaged"]

    @pytest.mark.parametrize("length", [0, 1, -30])
    def test_a_damaged_checkpoint(self, two, length):
        path = two.place(2) / "checkpoint.npz"
        path.write_bytes(path.read_bytes()[:length])
        assert list(two.table()["status"]) == ["interrupted", "damaged"]

    def test_a_log_that_was_changed_is_for_people_only(self, done, tmp_path):
        shutil.copytree(done.runs.folder, tmp_path / "runs")
        (tmp_path / "runs" / "0001" / "log.csv").write_text("step\n1\n")
        pd.testing.assert_frame_equal(RunTable(tmp_path / "runs").table(), done.runs.table())

    def test_another_version_is_called_that(self, two):
        two.change(1, format_version=1)
        assert list(two.table()["status"]) == ["of another version", "interrupted"]
        with pytest.raises(RunError, match="another version of the course.*left as it is"):
            two.read(1)

    def test_there_is_no_such_run(self, two):
        with pytest.raises(RunError, match="There is no run 7 .*it has 1, 2"):
            two.read(7)


class TestStops:
    def test_stop_takes_effect_within_a_step(self, session):
        steps = {**TINY, "steps": 400}
        run = stop_at(session, 57, lambda: session.start(Settings(**steps)))
        found = session.runs.read(run)
        # The round that had begun is given up.
        assert (found["status"], found["step"], session.step) == ("stopped", 50, 57)

    def test_a_run_goes_on_as_if_nothing_had_been(self, done, session, splits, monkeypatch):
        run = stop_at(session, 2, lambda: session.start(Settings(**TINY)))
        found = session.runs.read(run)
        assert (found["status"], found["step"]) == ("stopped", 2)
        session.runs.change(run, ended="")
        assert session.runs.read(run)["status"] == "interrupted"  # as its kernel had died
        path = session.runs.place(run) / runs.FORECAST
        path.write_bytes(path.read_bytes()[:-7])  # only a picture
        later = Session(session.runs.folder, **splits)
        assert later.runs.forecast(run) is None
        steps = []
        restore = runs.training.Checkpoint.restore
        monkeypatch.setattr(
            runs.training.Checkpoint,
            "restore",
            lambda self, model: steps.append(restore(self, model)) or steps[-1],
        )
        assert later.resume(run) == run
        assert steps == [2]  # it did not begin anew, which would end the same
        found = later.runs.read(run)
        assert (found["status"], found["step"]) == ("done", 4)
        whole = done.runs.read(1)["log"]["val_jaccard"]
        assert found["log"]["val_jaccard"].tolist() == pytest.approx(whole.tolist())

    def test_what_is_done_is_followed_by_a_new_run(self, session):
        first = session.start(Settings(**TINY))
        second = session.resume(first)
        assert session.runs.table()["began_with"].tolist() == [pd.NA, first]
        assert session.runs.read(second)["status"] == "done"

    def test_as_many_steps_as_fit_into_the_budget(self, session, monkeypatch):
        monkeypatch.setattr(runs, "MOST_STEPS", 12)
        run = session.start(Settings(**{**TINY, "steps": 0}))
        found = session.runs.read(run)
        # In ten minutes far more would fit: 12 is the most that is allowed here.
        assert (found["status"], found["steps"], found["step"]) == ("done", 12, 12)

    def test_stopped_before_the_steps_are_known(self, session, monkeypatch):
        compiled = Settings.compiled

        def stopping(*options):
            session.stop()
            return compiled(*options)

        monkeypatch.setattr(Settings, "compiled", stopping)
        run = session.start(Settings(**{**TINY, "steps": 0, "seconds": 5}))
        found = session.runs.read(run)
        assert (found["status"], found["steps"], found["step"]) == ("stopped", 0, 0)
        with pytest.raises(FileNotFoundError, match="no round was validated"):
            session.forecaster(run)
        monkeypatch.setattr(Settings, "compiled", compiled)
        assert session.resume(run) == run
        # A budget too short for more than the least.
        assert session.runs.read(run)["steps"] >= settings.TIMED

    def test_the_budget(self, session, monkeypatch):
        # Time runs a hundred times as fast once the training has begun.
        real, begun = time.monotonic, time.monotonic()
        monkeypatch.setattr(runs.time, "monotonic", lambda: begun + 100 * (real() - begun))
        monkeypatch.setattr(settings, "ROUND", (1, 5))
        run = session.start(Settings(**{**TINY, "steps": 5000, "seconds": 900}))
        found = session.runs.read(run)
        assert found["status"] == "budget used" and 0 < found["step"] < 5000


class TestTrouble:
    def test_a_run_of_another_kernel_is_left_alone(self, session):
        written(session.runs, data=session.data)
        with _files.lock(session.runs.place(1) / runs.LOCK, "", wait=False):
            assert session.runs.read(1)["status"] == "training"
            with pytest.raises(RunError, match="another kernel"):
                session.resume(1)
        assert session.runs.read(1)["status"] == "interrupted" and not session.running

    def test_other_data(self, session):
        run = written(session.runs, ended="stopped")
        with pytest.raises(RunError, match=r"trained on other data \(some\)"):
            session.resume(run)
        assert not session.running

    def test_a_folder_that_cannot_be_written(self, tmp_path, splits):
        (tmp_path / "file").write_text("")
        blocked = Session(tmp_path / "file" / "runs", **splits)
        with pytest.raises(OSError, match="choose another folder"):
            blocked.start(Settings(**TINY))
        assert not blocked.running

    def test_nothing_of_a_run_stays_in_memory(self, session):
        graphs = []
        for _ in range(3):
            session.start(Settings(**TINY))
            gc.collect()
            graphs.append(sum(isinstance(each, FuncGraph) for each in gc.get_objects()))
        assert graphs[1] == graphs[2]  # the first one makes some that stay

    def test_a_forecast_that_is_not_finite(self, session, monkeypatch):
        monkeypatch.setattr(runs._Watch, "_forecast", lambda self, frames: frames[:, -1] * np.nan)
        run = session.start(Settings(**TINY))
        assert session.runs.read(run)["status"] == "diverged" and "not finite" in session.message
        with pytest.raises(RunError, match="lower learning rate"):
            session.resume(run)
