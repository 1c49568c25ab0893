"""The laboratory: what it refuses, what it keeps, how it stops and goes on; and the explorer."""

import dataclasses
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from helpers import metrics, models, playground, records, rollout, training, workshop
from helpers.playground import Laboratory, RunError, RunTable, Session, Settings, parameters
from helpers.sequences import T20_TINC1, T80_TINC4

TINY = {"width": 8, "depth": 0, "history": 1, "batch_size": 2, "steps": 4, "seconds": 600}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Two small splits, packed once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = workshop.REPOSITORY / "data" / "sample"
        yield {
            "training_split": records.open_split(data, "training", 12),
            "validation_split": records.open_split(data, "validation", 5),
        }


@pytest.fixture(scope="module", autouse=True)
def short_rounds():
    """Validate after each step, so that runs of four steps have something to show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playground, "SHORTEST_ROUND", 1)
        yield


@pytest.fixture
def session(tmp_path, splits):
    return Session(tmp_path / "runs", **splits)


@pytest.fixture
def panel(session):
    return Laboratory(session, synchronous=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory, splits):
    """A session with one run that is done; tests only read it."""
    session = Session(tmp_path_factory.mktemp("runs"), **splits)
    session.start(Settings(**TINY))
    return session


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"width": 3}, "width is 3; expected a multiple of 8 from 8 to 256"),
            ({"width": 10**9}, "width is 1e+09; expected a multiple of 8"),
            ({"history": 0}, "history is 0; expected a whole number from 1 to 16"),
            ({"history": 2.5}, "history is 2.5; expected a whole number"),
            ({"learning_rate": 0.0}, "learning_rate is 0; expected a number from 1e-06 to 10"),
            ({"learning_rate": float("nan")}, "learning_rate is nan"),
            ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
            ({"batch_size": True}, "batch_size is True"),
            ({"seconds": float("inf")}, "seconds is inf; expected a number from 5 to 43200"),
            ({"kernel": 4}, "kernel is 4; choose one of 1, 3, 5"),
            ({"model": "GPT"}, "model is 'GPT'; choose one of PatchNet, ConvLSTM, WGAN-GP"),
            (
                {"model": "WGAN-GP", "reconstruction": 0, "adversarial": 0},
                "there is nothing to learn; raise one",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, words):
        with pytest.raises(ValueError) as found:
            Settings(**change)
        assert words in str(found.value)

    def test_all_problems_are_named_at_once(self):
        with pytest.raises(ValueError, match="depth is 99.*batch_size is 0"):
            Settings(depth=99, batch_size=0)

    @pytest.mark.parametrize("model", playground.CHOICES["model"])
    @pytest.mark.parametrize("name", ["history", "width", "depth"])
    def test_a_knob_turns_the_model(self, model, name):
        base = Settings(model=model)
        low, high = playground.LIMITS[name].low, playground.LIMITS[name].high
        sizes = []
        for value in (low, high):
            sizes.append(parameters(dataclasses.replace(base, **{name: int(value)})))
        # The memory of a ConvLSTM reads any number of frames with the same weights.
        assert (
            sizes[0] == sizes[1]
            if (model, name) == ("ConvLSTM", "history")
            else (sizes[0] < sizes[1])
        )

    def test_what_a_model_lacks_is_left_out(self):
        assert "kernel" not in Settings().used()
        assert "penalty" in Settings(model="WGAN-GP").used()
        assert "penalty" not in Settings(model="ConvLSTM").used()


class TestData:
    @pytest.mark.parametrize("history", [1, 5, 16])
    def test_all_are_judged_on_the_same_frames(self, session, history):
        frames = session.frames_of(T80_TINC4)
        windows = playground._judged(frames, history)
        assert windows.shape[:2] == (4 * len(frames), history + 1)
        assert np.array_equal(windows[:, -1], playground._judged(frames, 1)[:, -1])
        assert np.array_equal(windows[-len(frames) :, -1], frames[:, -1])

    @pytest.mark.parametrize("model", playground.CHOICES["model"])
    def test_an_untrained_model_is_persistence(self, session, model):
        settings = Settings(model=model, **{**TINY, "history": 3})
        found = playground._compiled(settings, 10)
        frames = session.frames_of(T80_TINC4)
        data = playground._validation(settings, found.config, frames)
        figures = found.evaluate(data, verbose=0, return_dict=True)
        assert figures["jaccard"] == pytest.approx(session.persistence(T80_TINC4), abs=1e-6)
        windows = playground._judged(frames, 3, 1)
        forecast = playground._forecast(settings, found, windows)
        assert forecast.dtype == np.uint8 and forecast.shape == windows[:, -1].shape
        assert np.array_equal(forecast >= 128, windows[:, -2])


class TestRuns:
    def test_a_run_is_kept_and_can_be_used(self, done):
        record = done.runs.read(1)
        assert record["status"] == "done" and record["step"] == record["steps"] == 4
        assert record["settings"] == Settings(**TINY)
        best = min(row["val_jaccard"] for row in record["rows"])
        assert record["best"]["distance"] == best
        (row,) = done.runs.table().to_dict("records")
        assert row["best"] == best and row["seconds"] > 0 and row["parameters"] > 0
        assert row["persistence"] == pytest.approx(done.persistence(T80_TINC4))
        frames = done.frames_of(T80_TINC4)[:2]
        found = done.forecaster(1)(frames[:, :3])
        assert found.shape == (2, 16, 16, 16)
        assert done.runs.preview(1).shape == (5, 16, 16, 16)
        assert list(done.runs.log(1)["step"]) == [1, 2, 3, 4]

    @pytest.mark.parametrize("model", ["ConvLSTM", "WGAN-GP"])
    def test_the_other_models(self, session, model):
        run = session.start(Settings(model=model, critic_steps=1, **{**TINY, "steps": 2}))
        record = session.runs.read(run)
        assert (record["status"], record["message"]) == ("done", "")
        assert session.forecaster(run)(session.frames_of(T80_TINC4)[:1, :2]).shape[0] == 1

    def test_steps_make_a_run_repeatable(self, done, tmp_path, splits):
        again = Session(tmp_path / "again", **splits)
        again.start(Settings(**TINY))
        one, other = (s.runs.log(1)["val_jaccard"].tolist() for s in (done, again))
        assert one == pytest.approx(other, abs=1e-6)

    def test_the_table_survives_a_restart(self, done):
        # Another process, and nothing of the laboratory but its folder.
        code = (
            "import sys, helpers.playground as p\n"
            "t = p.RunTable(sys.argv[1])\n"
            "print(t.table()[['run', 'status', 'done']].to_csv(index=False))"
        )
        found = subprocess.run(
            [sys.executable, "-c", code, str(done.runs.folder)],
            capture_output=True,
            text=True,
            cwd=workshop.REPOSITORY,
            check=True,
        )
        assert found.stdout.split() == ["run,status,done", "1,done,4"]

    def test_a_run_whose_kernel_died(self, session, splits):
        self.interrupt(session)
        table = session.runs.table()
        assert list(table["status"]) == ["interrupted"] and list(table["done"]) == [2]
        run = Session(session.runs.folder, **splits).resume(1)
        assert session.runs.read(run)["status"] == "done"

    @staticmethod
    def interrupt(session):
        """Leave a run as a killed kernel does."""
        stop_at(session, 2, lambda: session.start(Settings(**TINY)))
        path = session.runs.place(1) / playground.RUN
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "status": "training"}))

    def test_a_run_of_another_kernel_is_left_alone(self, session):
        self.interrupt(session)
        with playground._claimed(session.runs.place(1)):
            assert session.runs.read(1)["status"] == "training"
            with pytest.raises(RunError, match="another kernel"):
                session.resume(1)
        assert not session.running

    def test_sorting(self, session):
        for run, seconds in enumerate((3.0, 1.0, 2.0), 1):
            record = {"settings": dataclasses.asdict(Settings()), "status": "done", "rows": []}
            record |= {"step": 0, "steps": 1, "parameters": 1, "persistence": 0.3, "data": ""}
            assert session.runs.create(record | {"seconds": seconds}) == run
        assert list(session.runs.table("seconds")["run"]) == [2, 3, 1]
        assert list(session.runs.table("seconds", ascending=False)["run"]) == [1, 3, 2]
        with pytest.raises(ValueError, match="no column 'colour'"):
            session.runs.table("colour")

    def test_a_damaged_record_hides_no_other(self, session):
        session.start(Settings(**TINY))
        session.runs.place(2).mkdir()
        (session.runs.place(2) / playground.RUN).write_text('{"run": 2, ')
        assert list(session.runs.table()["status"]) == ["done", "damaged"]
        with pytest.raises(RunError, match="is damaged.*Delete its folder"):
            session.runs.read(2)
        with pytest.raises(RunError, match="There is no run 7 .*it has 1, 2"):
            session.runs.read(7)

    def test_csv(self, done):
        path = done.runs.export()
        found = pd.read_csv(path)
        assert list(found.columns) == playground.COLUMNS
        assert found["best"].item() == pytest.approx(done.runs.table()["best"].item())

    def test_an_empty_table(self, tmp_path):
        table = RunTable(tmp_path / "nothing").table()
        assert table.empty and list(table.columns) == playground.COLUMNS
        assert not (tmp_path / "nothing").exists()

    def test_a_folder_that_cannot_be_written(self, tmp_path, splits):
        (tmp_path / "file").write_text("")
        blocked = Session(tmp_path / "file" / "runs", **splits)
        with pytest.raises(OSError, match="choose another"):
            blocked.start(Settings(**TINY))
        assert not blocked.running


def stop_at(session, step, action):
    """Run an action in which the session's training is asked to stop after so many steps."""
    advance = playground._Watch.on_train_batch_end

    def watched(self, batch, logs=None):
        advance(self, batch, logs)
        if self._step == step:
            session.stop()
            self.stop.on_train_batch_end(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playground._Watch, "on_train_batch_end", watched)
        return action()


def wait_for(condition, seconds=60):
    """Wait until something is true that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class TestStops:
    def test_stop_takes_effect_within_a_step(self, session):
        steps = []
        session.listeners.append(lambda state: steps.append(state.step))
        run = stop_at(session, 57, lambda: session.start(Settings(**{**TINY, "steps": 400})))
        record = session.runs.read(run)
        # The round that had begun is given up.
        assert (record["status"], record["step"]) == ("stopped", 50)
        assert max(steps) <= 57

    def test_a_stopped_run_goes_on_as_if_nothing_had_been(self, tmp_path, splits, monkeypatch):
        monkeypatch.setattr(playground, "SHORTEST_ROUND", 2)
        done = Session(tmp_path / "whole", **splits)
        done.start(Settings(**TINY))
        session = Session(tmp_path / "runs", **splits)
        run = stop_at(session, 3, lambda: session.start(Settings(**TINY)))
        assert session.runs.read(run)["status"] == "stopped"
        later = Session(tmp_path / "runs", **splits)
        steps = []
        later.listeners.append(lambda state: steps.append(state.step))
        assert later.resume(run) == run
        assert min(steps) == 2  # it did not begin anew, which would end the same
        record = later.runs.read(run)
        assert (record["status"], record["step"]) == ("done", 4)
        whole = done.runs.log(1)["val_jaccard"]
        assert later.runs.log(run)["val_jaccard"].tolist() == pytest.approx(whole.tolist())
        with pytest.raises(RunError, match="has done all its 4 steps"):
            later.resume(run)

    def test_as_many_steps_as_fit_into_the_budget(self, session, monkeypatch):
        seen = []
        session.listeners.append(lambda state: seen.append((state.steps, state.step)))
        monkeypatch.setitem(playground.LIMITS, "steps", playground.Limits(0, 12, 1))
        run = session.start(Settings(**{**TINY, "steps": 0}))
        record = session.runs.read(run)
        # In ten minutes far more would fit: 12 is the most that these limits allow.
        assert (record["status"], record["steps"], record["step"]) == ("done", 12, 12)
        assert seen[0] == (0, 0) and seen[-1] == (12, 12)

    def test_a_budget_too_short_for_more_than_the_least(self, session):
        run = session.start(Settings(**{**TINY, "steps": 0, "seconds": 5}))
        assert session.runs.read(run)["steps"] >= playground.TIMED

    def test_stopped_before_the_steps_are_known(self, session, monkeypatch):
        compiled = playground._compiled

        def stopping(*options):
            session.stop()
            return compiled(*options)

        monkeypatch.setattr(playground, "_compiled", stopping)
        run = session.start(Settings(**{**TINY, "steps": 0, "seconds": 5}))
        record = session.runs.read(run)
        assert (record["status"], record["steps"], record["step"]) == ("stopped", 0, 0)
        with pytest.raises(RunError, match="no weights yet"):
            session.model(run)
        monkeypatch.undo()
        monkeypatch.setitem(playground.LIMITS, "steps", playground.Limits(0, 12, 1))
        assert session.resume(run) == run and session.runs.read(run)["steps"] > 0

    def test_the_budget(self, session, monkeypatch):
        # Time runs a hundred times as fast once the training has begun.
        real, begun = time.monotonic, time.monotonic()
        monkeypatch.setattr(
            playground.time, "monotonic", lambda: begun + 100 * (real() - begun), raising=True
        )
        monkeypatch.setattr(playground, "LONGEST_ROUND", 5)
        settings = Settings(**{**TINY, "steps": 5000, "seconds": 900})
        run = session.start(settings)
        record = session.runs.read(run)
        assert record["status"] == "budget used" and 0 < record["step"] < 5000

    def test_other_data(self, session, splits):
        run = stop_at(session, 2, lambda: session.start(Settings(**TINY)))
        other = Session(
            session.runs.folder, **{**splits, "training_split": splits["validation_split"]}
        )
        with pytest.raises(RunError, match="trained on other data"):
            other.resume(run)
        assert not other.running

    def test_weights_to_begin_with(self, session):
        first = session.start(Settings(**TINY))
        second = session.start(Settings(**TINY), begin_with=first)
        assert session.runs.table()["from"].tolist() == [pd.NA, first]
        assert session.runs.read(second)["status"] == "done"
        with pytest.raises(RunError, match="another width"):
            session.start(Settings(**{**TINY, "width": 16}), begin_with=first)
        assert not session.running


class TestTrouble:
    def test_a_loss_that_is_not_finite(self, session, monkeypatch):
        fit = training.train

        def poisoned(model, *args, **kwargs):
            model.trainable_variables[0].assign(np.nan * model.trainable_variables[0])
            return fit(model, *args, **kwargs)

        monkeypatch.setattr(training, "train", poisoned)
        run = session.start(Settings(**TINY))
        record = session.runs.read(run)
        # The weights are bad before the first checkpoint.
        assert record["status"] == "diverged" and "not finite" in record["message"]
        with pytest.raises(RunError, match="lower learning rate"):
            session.resume(run)
        monkeypatch.undo()
        assert session.runs.read(session.start(Settings(**TINY)))["status"] == "done"

    def test_an_error_leaves_the_laboratory_usable(self, panel, monkeypatch):
        panel.set(**TINY)
        monkeypatch.setattr(
            playground, "_compiled", lambda *_: (_ for _ in ()).throw(MemoryError("<no memory>"))
        )
        run = panel.start()
        assert panel.session.runs.read(run)["status"] == "failed"
        assert "MemoryError: &lt;no memory&gt;" in panel._message.value
        assert "alert" in panel._message.value
        monkeypatch.undo()
        run = panel.start()
        assert panel.session.runs.read(run)["status"] == "done"
        assert "MemoryError" not in panel._message.value

    def test_a_panel_that_cannot_draw_loses_no_training(self, session):
        session.listeners.append(lambda state: 1 / 0)
        run = session.start(Settings(**TINY))
        assert session.runs.read(run)["status"] == "done"


class TestPanel:
    def test_synchronous(self, panel):
        panel.set(**TINY)
        assert panel.start() == 1
        assert not panel.session.running
        assert "done" in panel._status.value and "step 4 of 4" in panel._status.value
        assert (panel._bar.value, panel._bar.max) == (4, 4)
        for image in (panel._curves, panel._shades, panel._errors, panel._comparison):
            assert image.png.startswith(b"\x89PNG")
            assert image.layout.display is None
        assert panel._chosen.value == (1,)
        assert "<td>done</td>" in panel._table.value
        before = panel._shades.png
        panel._sample.value = 2
        assert panel._shades.png != before
        # Curves of the run before are not shown beside the name of the next.
        shown = []
        panel.session.listeners.append(lambda state: shown.append(panel._curves.layout.display))
        panel.start()
        assert shown[0] == "none" and shown[-1] is None

    def test_in_the_background(self, session, capfd):
        panel = Laboratory(session)
        panel.set(**{**TINY, "steps": 2000})
        main = threading.get_ident()
        threads = set()
        session.listeners.append(lambda state: threads.add(threading.get_ident()))
        assert panel.start() == 1
        wait_for(lambda: session.state.step > 2)
        # A second start is refused, politely, and changes nothing.
        assert panel.start() is None
        assert "Run 1 is being trained. Stop it first" in panel._message.value
        assert len(session.runs) == 1
        panel.stop()
        assert panel.wait(60)
        wait_for(lambda: "stopped" in panel._status.value)
        assert session.runs.read(1)["status"] == "stopped"
        assert main not in threads
        panel.set(steps=4)
        assert panel.start() == 2 and panel.wait(60)
        wait_for(lambda: panel._chosen.value == (2,))
        assert capfd.readouterr() == ("", "")

    def test_continue(self, panel):
        panel.set(**TINY)
        stop_at(panel.session, 2, panel.start)
        assert "stopped" in panel._status.value
        assert panel.resume() == 1
        assert panel.session.runs.read(1)["step"] == 4
        # What is done is followed by a new run that begins with its weights.
        assert panel.resume() == 2
        assert panel.session.runs.table()["from"].tolist() == [pd.NA, 1]
        panel._chosen.value = (1, 2)
        assert panel.resume() is None
        assert "2 runs are chosen; choose one" in panel._message.value

    def test_after_a_restart(self, panel, splits):
        panel.set(**TINY, learning_rate=0.005)
        panel.start()
        again = Laboratory(Session(panel.session.runs.folder, **splits), synchronous=True)
        assert "<td>done</td>" in again._table.value
        assert [run for _, run in again._chosen.options] == [1]
        again.copy(1)
        assert again.settings == Settings(**TINY, learning_rate=0.005)

    def test_knobs_that_a_model_lacks(self, panel):
        for model in playground.CHOICES["model"]:
            panel.set(model=model)
            off = {name for name, control in panel._controls.items() if control.disabled}
            assert off == set(playground.UNUSED[model])
            for reason in playground.UNUSED[model].values():
                assert reason in panel._about.value

    def test_little_free_memory_is_told(self, panel, monkeypatch):
        assert "of memory are free" not in panel._about.value
        monkeypatch.setattr(playground.workshop, "memory", lambda: (3 * 2**30, 2**29))
        panel.set(width=16)
        assert "Only 0.5 GB of memory are free" in panel._about.value

    def test_absurd_numbers(self, panel):
        panel.set(width=7, learning_rate=1e9)
        assert "width is 7; expected a multiple of 8" in panel._about.value
        assert "learning_rate is 1e+09" in panel._about.value
        assert panel._buttons["start"].disabled
        assert panel.start() is None and not panel.session.running
        assert "width is 7" in panel._message.value
        panel.set(width=8, learning_rate=0.01)
        assert not panel._buttons["start"].disabled
        with pytest.raises(ValueError, match="no setting 'wdith'"):
            panel.set(wdith=8)
        with pytest.raises(ValueError, match="kernel cannot be 4"):
            panel.set(kernel=4)

    def test_comparison_and_csv(self, panel):
        panel.set(**TINY)
        panel.start()
        panel.set(format="T20_TINC1")
        panel.start()
        panel.compare(1, 2)
        assert "its own" in panel._message.value
        before = panel._comparison.png
        panel._over.value = "seconds"
        assert panel._comparison.png != before
        path = panel.export()
        assert len(pd.read_csv(path)) == 2
        assert 'download="runs.csv"' in panel._link.value
        panel._sort.value, panel._descending.value = "run", True
        rows = panel._table.value.split("<tbody>")[1]
        assert rows.index("T20_TINC1") < rows.index("T80_TINC4")

    def test_every_widget_has_a_label(self, panel):
        import ipywidgets

        def walk(widget):
            yield widget
            for child in getattr(widget, "children", ()):
                yield from walk(child)

        for each in walk(panel):
            if isinstance(each, playground._Drawing):
                assert each.children[0].value  # its caption; a tooltip would break the view
                assert each.children[1].tooltip is None
            elif not isinstance(each, (ipywidgets.Box, ipywidgets.HTML, ipywidgets.Image)):
                assert each.tooltip and each.description, each


class TestExplorer:
    @pytest.fixture
    def frames(self, splits):
        return T20_TINC1.select(splits["validation_split"].frames(slice(3)))

    def test_the_distances_are_those_of_rollout(self, frames):
        weights = workshop.REPOSITORY / "data" / "weights"
        compared = {
            "PatchNet": models.load(weights / "patchnet.npz", T20_TINC1),
            "ConvLSTM": models.load(weights / "convlstm_T20_TINC1.npz", T20_TINC1),
        }
        panel = playground.explorer(compared, frames, T20_TINC1)
        for sample, start in ((0, 5), (2, 12)):
            panel.controls["sample"].value = sample
            panel.controls["start"].value = start
            for name, model in (*compared.items(), ("persistence", rollout.Persistence())):
                ahead = rollout.rollout(model, frames[sample : sample + 1, :start], 20 - start)[0]
                expected = metrics.jaccard_distance(frames[sample, start:], ahead)
                assert panel.distances[name] == pytest.approx(expected)

    def test_sliding_is_quick(self, frames):
        calls = []

        class Counted(rollout.Persistence):
            def begin(self, history):
                calls.append(history.shape)
                return super().begin(history)

        panel = playground.explorer({"one": Counted()}, frames, T20_TINC1)
        for horizon in (4, 9, 2):
            before = panel._errors.png
            panel.controls["horizon"].value = horizon
            assert panel._errors.png != before
        assert len(calls) == 1
        panel.controls["start"].value = 19
        assert panel.controls["horizon"].max == panel.controls["horizon"].value == 1
        panel.controls["start"].value = 5
        assert len(calls) == 2

    def test_a_model_that_raises_is_told(self, frames):
        def broken(history):
            raise ValueError("<boom>")

        broken.name = "broken"
        compared = {"good": rollout.Persistence(), "broken": broken}
        panel = playground.explorer(compared, frames, T20_TINC1)
        assert "ValueError: &lt;boom&gt;" in panel._text.value
        panel.controls["other"].value = "good"
        assert panel._text.value == "" and "good" in panel.distances

    def test_what_cannot_be(self, frames):
        with pytest.raises(ValueError, match="at least one"):
            playground.explorer({}, frames, T20_TINC1)
        with pytest.raises(ValueError, match="pass frame_format.select"):
            playground.explorer({"p": rollout.Persistence()}, np.zeros((1, 21, 4, 4, 4)), T20_TINC1)
