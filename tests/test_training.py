"""Training with Keras: what is kept, how a run stops and goes on, and what is refused."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers import _files, metrics, training, workshop
from helpers.models.weights import CheckpointError
from helpers.panels import progress
from helpers.training import Checkpoint, Plan, Stop

tf, keras = workshop.tensorflow(), workshop.keras()

REPOSITORY = Path(__file__).resolve().parent.parent
PLAN = Plan(steps=20, batch_size=4, learning_rate=0.1, warm_up=4, decay_from=0.5, validate_every=5)
FRAMES = (np.random.default_rng(3).random((24, 2, 4, 4, 4, 1)) < 0.3).astype(np.float32)
CONFIG = {"filters": [2], "kernels": [3]}


def tiny(filters: int = 2, *, built: bool = True) -> keras.Model:
    """A model with all that has to be kept: weights, moving averages, random numbers."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            *[keras.Input((None, 4, 4, 4, 1))] * built,
            keras.layers.Dense(filters),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.config = CONFIG
    return model


def compiled(model: keras.Model | None = None, plan: Plan = PLAN, **options) -> keras.Model:
    """Compile a model without XLA, which would take longer than these few steps."""
    model, options = model or tiny(), {"jit_compile": False, **options}
    measures = [metrics.keras_jaccard("pooled")]
    model.compile(plan.optimizer(), training.voxel_loss(), metrics=measures, **options)
    return model


def batches(start: int) -> tf.data.Dataset:
    """Batch number n holds the same examples whenever it is asked for."""

    def choose(step):
        places = tf.random.stateless_uniform((4,), (5, tf.cast(step, tf.int32)), 0, 24, tf.int32)
        frames = tf.gather(FRAMES, places)
        return frames, frames

    return tf.data.Dataset.counter(start).map(choose)


def validation() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((FRAMES[:8], FRAMES[:8])).batch(4)


def train(
    folder,
    model: keras.Model | None = None,
    *,
    plan: Plan = PLAN,
    monitor: str = "val_jaccard_pooled",
    callbacks=(),
    show: dict | None = None,
    **options,
):
    """Train a new model in the folder, or go on there; return it, the checkpoint, the stop."""
    model = model or compiled()
    checkpoint = Checkpoint(folder, plan, monitor, resume=options.pop("resume", True))
    stop = Stop(folder, options.pop("stop", None))
    callbacks = [*callbacks, stop]
    if show is not None:
        callbacks.append(progress.Progress(checkpoint, stop, **show))
    options = {"batches": batches, "validation": validation(), **options}
    training.train(model, checkpoint=checkpoint, callbacks=callbacks, **options)
    return model, checkpoint, stop


def state(model: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


def check_same(one: keras.Model, other: keras.Model) -> None:
    for n, (left, right) in enumerate(zip(state(one), state(other), strict=True)):
        np.testing.assert_array_equal(left, right, f"variable {n}")


def check_rows(one, other) -> None:
    """A run that was stopped has the rows of one that was not, but for the time."""
    assert [row["step"] for row in one.rows] == [row["step"] for row in other.rows]
    for left, right in zip(one.rows, other.rows):
        assert left.keys() == right.keys()
        for name in left.keys() - {"seconds"}:
            assert left[name] == right[name]


class At(keras.callbacks.Callback):
    """Do something after so many steps of this call of fit."""

    def __init__(self, step: int, action):
        super().__init__()
        self.left, self.action = step, action

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action()


def already() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs: (model, checkpoint, stop, folder)."""
    folder = tmp_path_factory.mktemp("whole")
    return *train(folder), folder


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own, which can import this file as `t`."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return subprocess.run(
        [sys.executable, "-c", "import sys, helpers, test_training as t\n" + code, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


class TestPlan:
    def test_the_rate_rises_stays_and_falls_to_0(self):
        schedule = Plan(steps=10, learning_rate=2.0, warm_up=2, decay_from=0.5).schedule()
        rates = [float(schedule(step)) for step in range(11)]
        falling = [1 + np.cos(np.pi * k / 5) for k in range(6)]
        np.testing.assert_allclose(rates, [1, 2, 2, 2, 2, *falling], atol=1e-6)
        for decay, last in (("linear", 0.25), ("none", 1.0), ("cosine", 0.14645)):
            schedule = Plan(steps=4, learning_rate=1.0, decay=decay).schedule()
            assert float(schedule(3)) == pytest.approx(last, abs=1e-4)

    def test_the_optimizer_spares_biases(self):
        optimizer = Plan(steps=4, weight_decay=0.5, clip_norm=2.0).optimizer()
        model = tiny()
        optimizer.build(model.trainable_variables)
        before = [variable.numpy() for variable in model.trainable_variables]
        optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
        shrunk = [
            variable.name
            for variable, old in zip(model.trainable_variables, before)
            if not np.array_equal(variable.numpy(), old)
        ]
        assert shrunk == ["kernel", "kernel"]
        assert optimizer.global_clipnorm == 2.0

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"steps": 2.5}, TypeError, "steps is 2.5; expected a whole number"),
            ({"warm_up": 11}, ValueError, "warm_up is 11 of 10 steps"),
            ({"decay": "step"}, ValueError, "choose one of cosine, linear, none"),
            ({"learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
        ],
    )
    def test_bad_values(self, change, error, message):
        with pytest.raises(error, match=message):
            Plan(**{"steps": 10, **change})


class TestLoss:
    def test_is_cross_entropy_and_soft_jaccard(self, rng):
        truth = (rng.random((3, 2, 4, 4, 4, 1)) < 0.2).astype(np.float32)
        guess = rng.uniform(0.01, 0.99, truth.shape).astype(np.float32)
        axes = (1, 2, 3, 4, 5)
        entropy = -np.mean(np.where(truth == 1, np.log(guess), np.log(1 - guess)), axis=axes)
        both = (truth * guess).sum(axis=axes)
        distance = 1 - both / ((truth + guess).sum(axis=axes) - both)
        found = training.voxel_loss(0.3)(truth, guess)
        assert float(found) == pytest.approx(np.mean(entropy + 0.3 * distance), rel=1e-5)
        assert float(training.voxel_loss(0)(truth, guess)) == pytest.approx(
            np.mean(entropy), rel=1e-5
        )

    @pytest.mark.parametrize("truth", [0.0, 1.0])
    @pytest.mark.parametrize("guess", [0.0, 1.0])
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_is_finite_at_the_ends_and_so_is_its_gradient(self, truth, guess, dtype):
        guess = tf.fill((2, 4, 4, 4, 1), tf.cast(guess, dtype))
        with tf.GradientTape() as tape:
            tape.watch(guess)
            loss = training.voxel_loss()(tf.fill(guess.shape, truth), guess)
        assert loss.dtype == tf.float32
        assert np.isfinite(float(loss))
        assert np.isfinite(tape.gradient(loss, guess).numpy()).all()
        if truth == float(guess[0, 0, 0, 0, 0]):
            assert float(loss) == pytest.approx(0, abs=1e-6)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="jaccard_weight is -1"):
            training.voxel_loss(-1)
        with pytest.raises(ValueError, match="must agree in shape"):
            training.voxel_loss()(np.zeros((2, 4, 4, 4, 1)), np.zeros((2, 4, 4, 4)))


class TestCheckpoint:
    def test_what_it_keeps(self, whole):
        _model, kept, _stop, folder = whole
        assert (kept.step, kept.epoch, kept.plan.epochs) == (20, 4, 4)
        assert [row["step"] for row in kept.rows] == [5, 10, 15, 20]
        assert kept.best == min(kept.rows, key=lambda row: row["val_jaccard_pooled"])
        assert 0 < kept.rows[0]["seconds"] < kept.rows[-1]["seconds"]
        assert list(kept.table()["step"]) == [5, 10, 15, 20]
        names = [".owner", "best.npz", "checkpoint.npz"]
        assert sorted(path.name for path in folder.iterdir()) == names
        assert training.read_log(folder).to_dict("records") == kept.rows

    def test_the_figures_are_those_of_the_final_and_of_the_best_weights(self, whole):
        model, kept, _, folder = whole
        assert kept.best != kept.rows[-1], "the test needs a run whose last round is worse"
        for row in (kept.rows[-1], kept.best):
            found = model.evaluate(validation(), verbose=0, return_dict=True)
            assert found["jaccard_pooled"] == row["val_jaccard_pooled"]
            assert found["loss"] == row["val_loss"]
            model = compiled()
            assert training.load_best(folder, model) == kept.best

    def test_the_last_weights_are_those_of_the_last_full_round(self, whole, tmp_path):
        model, kept, _, folder = whole
        loaded = compiled()
        assert training.load_last(folder, loaded) == kept.rows[-1]
        for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        event = threading.Event()
        train(tmp_path, stop=event, callbacks=[At(8, event.set)])
        assert training.load_last(tmp_path, loaded)["step"] == 5

    def test_is_the_plain_fit_of_keras(self, whole, tmp_path):
        model = compiled()
        model.fit(batches(0), steps_per_epoch=20, shuffle=False, verbose=0)
        check_same(model, whole[0])

    @pytest.mark.parametrize("step", [5, 8])
    def test_stopped_and_resumed_is_as_if_never_stopped(self, whole, tmp_path, step):
        event = threading.Event()
        _, half, stop = train(tmp_path, stop=event, callbacks=[At(step, event.set)])
        # The round that had begun is given up.
        assert (half.step, half.epoch, stop.reason) == (5, 1, "event")
        model, kept, stop = train(tmp_path)
        assert stop.reason == ""
        check_same(model, whole[0])
        check_rows(kept, whole[1])

    def test_a_finished_run_is_only_read_and_says_so(self, whole, capsys):
        model, kept, *_ = train(whole[3])
        check_same(model, whole[0])
        assert kept.rows == whole[1].rows
        said = capsys.readouterr().out
        assert "has done all its 20 steps" in said and "resume=False" in said

    def test_a_last_round_may_be_shorter(self, whole, tmp_path):
        plan = dataclasses.replace(PLAN, validate_every=8)
        event = threading.Event()
        train(tmp_path, plan=plan, stop=event, callbacks=[At(17, event.set)])
        model, kept, _ = train(tmp_path, plan=plan)
        assert [row["step"] for row in kept.rows] == [8, 16, 20]
        check_same(model, whole[0])
        assert kept.rows[-1]["val_loss"] == whole[1].rows[-1]["val_loss"]
        assert (Plan(steps=20).epoch, Plan(steps=20).epochs) == (20, 1)

    def test_without_validation(self, tmp_path):
        model, kept, _ = train(tmp_path, validation=None)
        assert kept.best is None
        assert "loss" in kept.rows[0]
        assert not (tmp_path / "best.npz").exists()
        with pytest.raises(FileNotFoundError, match="no round was validated"):
            training.load_best(tmp_path, model)

    def test_a_new_start_gives_up_the_old_run(self, whole, tmp_path):
        shutil.copytree(whole[3], tmp_path, dirs_exist_ok=True)
        _, kept, stop = train(tmp_path, resume=False, stop=already())
        assert (kept.step, kept.rows, stop.reason) == (0, [], "event")
        assert [path.name for path in tmp_path.iterdir()] == [".owner"]
        model, *_ = train(tmp_path)
        check_same(model, whole[0])

    def test_a_model_with_its_own_step_and_two_optimizers(self, tmp_path):
        def build():
            keras.utils.set_random_seed(2)
            model = Rivals()
            model.compile()
            return model

        event = threading.Event()
        options = {"validation": None}
        straight, kept, _ = train(tmp_path / "a", build(), **options)
        train(tmp_path / "b", build(), stop=event, callbacks=[At(7, event.set)], **options)
        resumed, again, _ = train(tmp_path / "b", build(), **options)
        for one, other in zip(straight.variables, resumed.variables, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert int(resumed.second.iterations.numpy()) == 20
        check_rows(kept, again)

    @pytest.mark.slow
    def test_one_process_at_a_time(self, tmp_path):
        told = []
        other = At(2, lambda: told.append(python("t.train(sys.argv[1])", str(tmp_path)).stderr))
        train(tmp_path, callbacks=[other])
        assert "InUse" in told[0] and "another process works here" in told[0]
        with _files.lock(tmp_path / training.OWNER, "", wait=False):
            pass  # it has been given back


class Rivals(keras.Model):
    """Two parts with an optimizer each, and random numbers of its own, as in a GAN."""

    def __init__(self):
        super().__init__()
        self.one, self.two = keras.layers.Dense(1), keras.layers.Dense(1)
        self.random = keras.random.SeedGenerator(4)

        self.one.build((None, 1))
        self.two.build((None, 1))
        self.built = True

    def compile(self):
        super().compile(optimizer=None, run_eagerly=True)
        self.first, self.second = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.1)
        self.first.build(self.one.trainable_variables)
        self.second.build(self.two.trainable_variables)

    def call(self, inputs):
        return self.one(inputs) - self.two(inputs)

    def train_step(self, data):
        noise = keras.random.normal(tf.shape(data[0]), seed=self.random)
        with tf.GradientTape(persistent=True) as tape:
            gap = keras.ops.mean(keras.ops.square(self(data[0] + noise) - data[1]))
        for part, optimizer in ((self.one, self.first), (self.two, self.second)):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(gap, weights), weights)
        return {"gap": gap}


class TestStop:
    def test_a_stop_file_is_honoured_once(self, tmp_path):
        _, kept, stop = train(tmp_path, callbacks=[At(8, (tmp_path / "stop").touch)])
        assert (kept.step, stop.reason) == (5, "file")
        assert not (tmp_path / "stop").exists()
        _, kept, stop = train(tmp_path)
        assert (kept.step, stop.reason) == (20, "")

    def test_an_interrupt_stops_it(self, whole, tmp_path):
        seen = []
        press = At(6, lambda: os.kill(os.getpid(), signal.SIGINT))
        count = At(8, lambda: seen.append("a step after the next one"))
        _, kept, stop = train(tmp_path, callbacks=[press, count])
        assert (kept.step, stop.reason, seen) == (5, "interrupt", [])
        check_same(train(tmp_path)[0], whole[0])
        kept, press = Checkpoint(tmp_path / "b", PLAN), At(1, press.action)
        with pytest.raises(KeyboardInterrupt):  # there is nothing to take it for a request
            training.train(compiled(), batches, kept, callbacks=[press])

    def test_a_round_that_is_given_up_is_not_validated(self, tmp_path):
        class Count(keras.callbacks.Callback):
            batches = 0

            def on_test_batch_end(self, batch, logs=None):
                self.batches += 1

        event, count = threading.Event(), Count()
        train(tmp_path, stop=event, callbacks=[At(8, event.set), count])
        # Two batches of the first round; Keras stops after one of the second.
        assert count.batches == 3

    def test_in_a_thread(self, whole, tmp_path, capfd):
        results = []
        worker = threading.Thread(target=lambda: results.append(train(tmp_path, show={})))
        worker.start()
        worker.join()
        assert capfd.readouterr() == ("", "")
        check_same(results[0][0], whole[0])

    def test_without_a_checkpoint(self):
        event = threading.Event()
        event.set()
        model = compiled()
        model.fit(batches(0), steps_per_epoch=9, callbacks=[Stop(event=event)], verbose=0)
        assert int(model.optimizer.iterations) == 1


class TestDivergence:
    def test_a_loss_that_is_not_finite(self, tmp_path):
        def spoilt(start):
            bad = tf.data.Dataset.counter(start).map(lambda n: tf.where(n == 7, np.nan, 1.0))
            return tf.data.Dataset.zip(batches(start), bad).map(
                lambda pair, factor: (pair[0] * tf.cast(factor, tf.float32), pair[1])
            )

        with pytest.raises(FloatingPointError, match="is not finite at step 8"):
            train(tmp_path, batches=spoilt)
        model, kept = compiled(), Checkpoint(tmp_path, PLAN)
        assert (kept.restore(model), kept.epoch) == (5, 1)
        assert all(np.isfinite(array).all() for array in state(model))

    def test_weights_that_are_not_finite_never_reach_a_checkpoint(self, tmp_path):
        model = compiled()
        average = model.layers[1].moving_mean
        spoil = At(10, lambda: average.assign(np.full(average.shape, np.inf)))
        with pytest.raises(FloatingPointError, match="model/.* not finite at step 10"):
            train(tmp_path, model, callbacks=[spoil], validation=None)
        assert Checkpoint(tmp_path, PLAN).restore(compiled()) == 5


class TestRefusals:
    """Bad input is an error that says what to do, and leaves the folder as it was."""

    def test_another_plan_or_configuration(self, whole):
        folder = whole[3]
        before = (folder / "checkpoint.npz").read_bytes()
        plan = dataclasses.replace(PLAN, learning_rate=0.5)
        expected = r"plan.learning_rate is 0.1 in the checkpoint, 0.5 here.*resume=False"
        with pytest.raises(CheckpointError, match=expected):
            train(folder, plan=plan)
        expected = r"configuration.filters is \[2\] in the checkpoint, \[3\] here"
        model = compiled()
        model.config = {**CONFIG, "filters": [3]}
        with pytest.raises(CheckpointError, match=expected):
            train(folder, model)
        with pytest.raises(CheckpointError, match="monitor is 'val_jaccard_pooled'"):
            train(folder, monitor="val_loss")
        assert (folder / "checkpoint.npz").read_bytes() == before

    def test_another_model_under_the_same_configuration(self, whole):
        model = compiled(tiny(filters=3))
        with pytest.raises(CheckpointError, match=r"model/0000 has shape .* in the file"):
            train(whole[3], model)
        assert not int(model.optimizer.iterations.numpy()), "half a checkpoint was taken"

    def test_a_damaged_checkpoint(self, whole, tmp_path):
        content = (whole[3] / "checkpoint.npz").read_bytes()
        (tmp_path / "checkpoint.npz").write_bytes(content[: int(len(content) * 0.95)])
        with pytest.raises(CheckpointError, match="truncated or damaged.*resume=False"):
            train(tmp_path)

    def test_a_checkpoint_of_another_version(self, whole, tmp_path):
        about, arrays = training.read_run(whole[3] / "checkpoint.npz")
        about["format_version"] = 1
        for name in ("checkpoint.npz", "best.npz"):
            training.write_run(tmp_path / name, arrays, about)
        with pytest.raises(CheckpointError, match="by another version.*version 1.*resume=False"):
            train(tmp_path)
        with pytest.raises(CheckpointError, match="by another version"):
            training.load_best(tmp_path, compiled())

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="cannot be written.*choose another folder"):
            train(tmp_path / "file" / "run")

    def test_a_full_disk_keeps_the_checkpoint_before(self, whole, tmp_path, monkeypatch):
        save, saved = np.savez, []

        def full(file, **arrays):
            saved.append(file)
            if len(saved) > 4:
                file.write(b"half")
                raise OSError(28, "No space left on device")
            save(file, **arrays)

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="disk is full.*complete is lost; free some space"):
            train(tmp_path)
        monkeypatch.undo()
        assert not list(tmp_path.glob(".*.tmp"))
        check_same(train(tmp_path)[0], whole[0])

    def test_an_optimizer_that_has_been_used(self, whole, tmp_path):
        with pytest.raises(ValueError, match="already made 20 steps.*build and compile"):
            train(tmp_path, whole[0])
        shutil.copytree(whole[3], tmp_path, dirs_exist_ok=True)
        with pytest.raises(ValueError, match="already made 20 steps"):
            train(tmp_path, whole[0], resume=False)
        assert (tmp_path / "checkpoint.npz").exists()

    @pytest.mark.filterwarnings("ignore:.*ran out of data")
    def test_batches_that_end(self, tmp_path):
        with pytest.raises(ValueError, match="ended at step 7, within a round.*of step 5"):
            train(tmp_path, batches=lambda step: batches(step).take(7))

    def test_a_validation_of_no_use(self, tmp_path):
        with pytest.raises(ValueError, match="gives .*val_jaccard_pooled.*choose one"):
            train(tmp_path, monitor="val_jaccard")
        unknown = validation().filter(lambda *pair: True)
        for bad in (validation().repeat(), validation().take(0), unknown):
            with pytest.raises(ValueError, match="validation must have a known number of batches"):
                train(tmp_path, validation=bad)

    def test_a_fit_that_does_not_go_on_where_the_run_is(self, tmp_path):
        model, kept = compiled(), Checkpoint(tmp_path, PLAN)
        options = {"callbacks": [kept], "verbose": 0, "epochs": 4, "steps_per_epoch": 5}
        for restored, wrong in ((0, {}), (1, {"initial_epoch": 1}), (1, {"steps_per_epoch": 4})):
            if restored:
                kept.restore(model)
            with pytest.raises(
                ValueError, match=r"Before each fit call start = checkpoint.restore"
            ):
                model.fit(batches(0), **{**options, **wrong})

    def test_a_model_that_is_not_ready(self, tmp_path):
        with pytest.raises(ValueError, match="not compiled: call model.compile"):
            train(tmp_path, tiny())
        with pytest.raises(ValueError, match="call it on one batch to build it"):
            train(tmp_path, compiled(tiny(built=False)))
        assert not list(tmp_path.iterdir())


class TestProgress:
    def test_outside_a_notebook_each_round_is_a_line(self, tmp_path, capfd):
        train(tmp_path, show={"persistence": 0.25})
        out, err = capfd.readouterr()
        assert [line.split(" · ")[0] for line in out.splitlines()] == [
            f"step {n} of 20" for n in (5, 10, 15, 20)
        ]
        assert "val_jaccard_pooled" in out and "persistence 0.2500" in out
        assert err == ""

    def test_widgets(self, tmp_path, monkeypatch, capfd):
        monkeypatch.setattr(progress, "_in_notebook", lambda: True)
        made = []
        monkeypatch.setattr(progress.Display, "show", lambda self: made.append(self))
        show = {"persistence": 0.25}
        press = At(12, lambda: made[-1].button.click())
        _, kept, stop = train(tmp_path, show=show, callbacks=[press])
        assert (kept.step, stop.reason) == (10, "button")
        assert "step 10 of 20 · stopped (button) · best" in made[-1].line.value
        assert (made[-1].bar.value, made[-1].bar.max) == (10, 20)
        assert "data:image/png" in made[-1].picture.value
        assert made[-1].button.disabled
        train(tmp_path, show=show)
        assert "step 20 of 20 · done" in made[-1].line.value
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    def test_in_a_kernel(self, tmp_path):
        nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
        code = (
            f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / 'tests')!r}]\n"
            "import test_training as t\n"
            f"_, kept, _ = t.train({str(tmp_path)!r}, show={{'persistence': 0.2}})\n"
            "kept.step"
        )
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbclient.NotebookClient(notebook, timeout=300, store_widget_state=False).execute()
        shown, result = notebook.cells[0].outputs
        assert shown.output_type == "display_data"
        assert "application/vnd.jupyter.widget-view+json" in shown.data
        assert shown.data["text/plain"] == "Progress of the training (live only)"
        assert result.data["text/plain"] == "20"


class TestPrecisionAndDevices:
    def test_with_a_gpu_the_policy_holds_inside_the_scope_only(self, tmp_path):
        found = workshop.Hardware("mixed_float16", xla=True)
        before = keras.config.dtype_policy().name
        with found.scope():
            model = compiled(jit_compile=found.xla)
        assert keras.config.dtype_policy().name == before
        assert model.compute_dtype == "float16"
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert model.jit_compile

    def test_mixed_precision_is_resumed_exactly(self, tmp_path):
        found = workshop.Hardware("mixed_float16", xla=False)

        def build():
            keras.utils.set_random_seed(7)
            # No convolution: in float16 it takes a CPU many times as long.
            layers = [keras.layers.Dropout(0.3), keras.layers.Dense(1, activation="sigmoid")]
            model = keras.Sequential([keras.Input((None, 4, 4, 4, 1)), *layers])
            return compiled(model)

        with found.scope():
            straight, half, resumed = build(), build(), build()
        train(tmp_path / "a", straight)
        event = threading.Event()
        train(tmp_path / "b", half, stop=event, callbacks=[At(6, event.set)])
        train(tmp_path / "b", resumed)
        check_same(straight, resumed)

    @pytest.mark.slow
    def test_two_devices_give_the_loss_of_one(self):
        code = """
import json, sys, tempfile
tf = t.tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()
t.keras.utils.set_random_seed(1)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def model():
    # Without layers that see the batch as a whole, or draw at random for each device.
    t.keras.utils.set_random_seed(3)
    full = t.tiny()
    model = t.keras.Sequential([full.inputs[0], full.layers[0], full.layers[-1]])
    return t.compiled(model)

folder = tempfile.mkdtemp()
_, one, _ = t.train(folder + "/one", model())
with strategy.scope():
    two = model()
even = lambda step: t.batches(step).unbatch().batch(4, drop_remainder=True)
check = t.validation().unbatch().batch(4, drop_remainder=True)
check = check.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in check)))
event = t.threading.Event()
t.train(folder + "/two", two, batches=even, validation=check, stop=event,
        callbacks=[t.At(7, event.set)])
with strategy.scope():
    two = model()
_, two, _ = t.train(folder + "/two", two, batches=even, validation=check)
print(json.dumps([strategy.num_replicas_in_sync, one.rows, two.rows]))
"""
        ended = python(code)
        assert ended.returncode == 0, ended.stderr
        replicas, one, two = json.loads(ended.stdout.splitlines()[-1])
        assert replicas == 2
        assert len(one) == 4
        for left, right in zip(one, two, strict=True):
            left.pop("seconds"), right.pop("seconds")
            assert left == pytest.approx(right, rel=1e-4)
