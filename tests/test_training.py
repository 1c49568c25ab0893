"""The fit loop: what it keeps, how it stops and goes on, and what it refuses."""

import csv
import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from helpers import metrics, training
from helpers.training import CheckpointError, Plan, fit, tf

import keras  # isort: skip  (after TensorFlow, which helpers.training imports quietly)

REPOSITORY = Path(__file__).resolve().parent.parent
PLAN = Plan(steps=20, batch_size=4, learning_rate=0.1, warm_up=4, decay_from=0.5, validate_every=5)
FRAMES = (np.random.default_rng(3).random((24, 2, 4, 4, 4, 1)) < 0.3).astype(np.float32)
CONFIG = {"filters": [2], "kernels": [3]}


def tiny(filters: int = 2, *, built: bool = True) -> keras.Model:
    """A model with all that has to be kept: weights, moving averages, random numbers."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            *[keras.Input((None, 4, 4, 4, 1))] * built,
            keras.layers.TimeDistributed(keras.layers.Conv3D(filters, 3, padding="same")),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def compiled(model: keras.Model | None = None, plan: Plan = PLAN, **options) -> keras.Model:
    model = model or tiny()
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


def train(folder, model: keras.Model | None = None, **options):
    """Train a new model in the folder, or go on there."""
    model = model or compiled()
    options = {"validation": validation(), "config": CONFIG, **options}
    return model, fit(model, options.pop("batches", batches), PLAN, folder, **options)


def state(model: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


def check_same(one: keras.Model, other: keras.Model) -> None:
    for n, (left, right) in enumerate(zip(state(one), state(other), strict=True)):
        np.testing.assert_array_equal(left, right, f"variable {n}")


def check_rows(one, other) -> None:
    """Training figures of a round that was stopped are joined from two means."""
    assert [row["step"] for row in one.rows] == [row["step"] for row in other.rows]
    for left, right in zip(one.rows, other.rows):
        assert left.keys() == right.keys()
        for name in left.keys() - {"seconds"}:
            exact = name.startswith("val_")
            assert left[name] == (right[name] if exact else pytest.approx(right[name], rel=1e-5))


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
    """A run that nothing disturbs: (model, history, folder)."""
    folder = tmp_path_factory.mktemp("whole")
    return *train(folder), folder


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own, which can import this file as `t`."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return subprocess.run(
        [sys.executable, "-c", "import helpers, test_training as t\n" + code, *arguments],
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

    @pytest.mark.parametrize(
        ("decay", "last"), [("linear", 0.25), ("none", 1.0), ("cosine", 0.14645)]
    )
    def test_kinds_of_decay(self, decay, last):
        schedule = Plan(steps=4, learning_rate=1.0, decay=decay).schedule()
        assert float(schedule(3)) == pytest.approx(last, abs=1e-4)
        copy = type(schedule).from_config(schedule.get_config())
        assert float(copy(3)) == float(schedule(3))

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
            ({"steps": 0}, ValueError, "steps is 0; expected at least 1"),
            ({"steps": 2.5}, TypeError, "steps is 2.5; expected a whole number"),
            ({"batch_size": 0}, ValueError, "batch_size is 0"),
            ({"validate_every": 0}, ValueError, "validate_every is 0"),
            ({"seed": -1}, ValueError, "seed is -1"),
            ({"warm_up": 11}, ValueError, "warm_up is 11 of 10 steps"),
            ({"decay": "step"}, ValueError, "choose one of cosine, linear, none"),
            ({"decay_from": 1}, ValueError, "expected 0 to below 1"),
            ({"learning_rate": 0}, ValueError, "learning_rate is 0; expected above 0"),
            ({"learning_rate": "fast"}, TypeError, "expected a number above 0"),
            ({"learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
            ({"weight_decay": -1}, ValueError, "weight_decay is -1"),
            ({"clip_norm": 0}, ValueError, "above 0, or None"),
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

    def test_survives_saving(self):
        loss = training.voxel_loss(0.2)
        copy = keras.losses.deserialize(keras.losses.serialize(loss))
        assert copy.jaccard_weight == 0.2

    def test_bad_input(self):
        with pytest.raises(ValueError, match="jaccard_weight is -1"):
            training.voxel_loss(-1)
        with pytest.raises(ValueError, match="they must agree"):
            training.voxel_loss()(np.zeros((2, 4, 4, 4, 1)), np.zeros((2, 4, 4, 4)))


class TestFit:
    def test_what_it_returns_and_writes(self, whole):
        _model, history, folder = whole
        assert (history.step, history.steps, history.stopped) == (20, 20, "")
        assert [row["step"] for row in history.rows] == [5, 10, 15, 20]
        best = min(history.rows, key=lambda row: row["val_jaccard_pooled"])
        assert history.best == best
        assert history.seconds == history.rows[-1]["seconds"] > 0
        assert list(history.table()["step"]) == [5, 10, 15, 20]
        names = ["best.npz", "checkpoint.npz", "log.csv"]
        assert sorted(path.name for path in folder.iterdir()) == names
        with (folder / "log.csv").open() as file:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        assert rows == list(history.rows)

    def test_the_figures_are_those_of_the_final_model(self, whole):
        model, history, _ = whole
        found = model.evaluate(validation(), verbose=0, return_dict=True)
        assert found["jaccard_pooled"] == history.rows[-1]["val_jaccard_pooled"]
        assert found["loss"] == history.rows[-1]["val_loss"]

    def test_the_best_weights_are_those_of_the_best_round(self, whole):
        _, history, folder = whole
        model = compiled()
        assert training.load_best(folder, model) == history.best
        found = model.evaluate(validation(), verbose=0, return_dict=True)
        assert found["jaccard_pooled"] == history.best["val_jaccard_pooled"]
        assert history.best != history.rows[-1], "the test needs a run whose last round is worse"

    def test_the_last_weights_are_those_of_the_checkpoint(self, whole, tmp_path):
        _, history, folder = whole
        assert training.load_last(folder, compiled()) == history.rows[-1]
        event = threading.Event()
        model, _ = train(tmp_path, stop=event, callbacks=[At(8, event.set)])
        loaded = compiled()
        found = training.load_last(tmp_path, loaded)
        # Not validated: there is nothing to say of them but when they were.
        assert found.keys() == {"step", "seconds"} and found["step"] == 8
        for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_is_the_plain_fit_of_keras(self, whole, tmp_path):
        model = compiled()
        model.fit(batches(0), steps_per_epoch=20, shuffle=False, verbose=0)
        check_same(model, whole[0])

    @pytest.mark.parametrize("step", [5, 8])
    def test_stopped_and_resumed_is_as_if_never_stopped(self, whole, tmp_path, step):
        event = threading.Event()
        _, history = train(tmp_path, stop=event, callbacks=[At(step, event.set)])
        assert (history.step, history.stopped) == (step, "event")
        assert len(history.rows) == step // 5
        model, history = train(tmp_path)
        check_same(model, whole[0])
        check_rows(history, whole[1])
        check_rows(whole[1], history)

    def test_a_finished_run_is_only_read(self, whole):
        model, history = train(whole[2], batches=lambda step: batches(step))
        check_same(model, whole[0])
        assert history == whole[1]

    def test_a_killed_run_loses_one_round_at_most(self, whole, tmp_path):
        ended = python(
            """
import io, os, signal, sys
import numpy as np
save = np.savez
def half(file, **arrays):
    save(content := io.BytesIO(), **arrays)
    log = sys.argv[1] + "/log.csv"
    rows = open(log).read().count("\\n") if os.path.exists(log) else 0
    last = rows == 3 and "checkpoint" in file.name
    file.write(content.getvalue()[:1000 if last else None])
    file.flush()
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
np.savez = half
t.train(sys.argv[1])
""",
            str(tmp_path),
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        half = [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"]
        assert len(half) == 1
        meta, _ = training._read(tmp_path / "checkpoint.npz", "")
        assert meta["step"] == 10
        model, history = train(tmp_path, resume=True)
        check_same(model, whole[0])
        check_rows(history, whole[1])
        names = ["best.npz", "checkpoint.npz", "log.csv"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        assert len((tmp_path / "log.csv").read_text().splitlines()) == 5

    def test_each_round_starts_at_its_step_and_traces_nothing_anew(self, tmp_path):
        starts, traces = [], []

        class Counted(training.VoxelLoss):
            def call(self, y_true, y_pred):
                traces.append(1)
                return super().call(y_true, y_pred)

        model = tiny()
        model.compile(PLAN.optimizer(), Counted(), metrics=[metrics.keras_jaccard("pooled")])
        seen = []

        def noted(step):
            starts.append(step)
            seen.append(len(traces))
            return batches(step)

        train(tmp_path, model, batches=noted)
        assert starts == [0, 0, 5, 10, 15]
        assert seen[2:] == [len(traces)] * 3

    def test_a_validation_that_does_not_know_its_length(self, whole, tmp_path):
        unknown = validation().filter(lambda *pair: True)
        unknown = unknown.map(lambda *pair: [tf.ensure_shape(x, (4, 2, 4, 4, 4, 1)) for x in pair])
        _, history = train(tmp_path, validation=unknown.map(lambda *pair: pair))
        check_rows(history, whole[1])

    def test_without_validation(self, tmp_path):
        model, history = train(tmp_path, validation=None)
        assert history.best is None
        assert "loss" in history.rows[0]
        assert not (tmp_path / "best.npz").exists()
        with pytest.raises(FileNotFoundError, match="no round was validated"):
            training.load_best(tmp_path, model)

    def test_a_model_that_is_not_built_yet(self, tmp_path):
        model = tiny(built=False)
        assert not model.built
        event = threading.Event()
        train(tmp_path, compiled(model), stop=event, callbacks=[At(3, event.set)])
        _, history = train(tmp_path, compiled(tiny(built=False)))
        assert history.step == 20

    def test_a_new_start_gives_up_the_old_run(self, whole, tmp_path):
        shutil.copytree(whole[2], tmp_path, dirs_exist_ok=True)
        _, history = train(tmp_path, resume=False, stop=already())
        assert (history.step, history.rows, history.stopped) == (0, (), "event")
        assert not (tmp_path / "best.npz").exists()
        assert (tmp_path / "log.csv").read_text() == "step\n"
        model, _ = train(tmp_path)
        check_same(model, whole[0])

    def test_a_model_with_its_own_step_and_two_optimizers(self, tmp_path):
        def build():
            keras.utils.set_random_seed(2)
            model = Rivals()
            model.compile()
            return model

        event = threading.Event()
        options = {"validation": None, "config": None}
        straight, history = train(tmp_path / "a", build(), **options)
        train(tmp_path / "b", build(), stop=event, callbacks=[At(7, event.set)], **options)
        resumed, again = train(tmp_path / "b", build(), **options)
        for one, other in zip(straight.variables, resumed.variables, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert int(resumed.second.iterations.numpy()) == 20
        assert history.rows[-1]["gap"] == pytest.approx(again.rows[-1]["gap"], rel=1e-5)


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
        super().compile(optimizer=None)
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


class TestStops:
    def test_a_stop_file_is_honoured_once(self, tmp_path):
        _, history = train(tmp_path, callbacks=[At(3, (tmp_path / "stop").touch)])
        assert (history.step, history.stopped) == (3, "file")
        assert not (tmp_path / "stop").exists()
        _, history = train(tmp_path, stop=already())
        assert (history.step, history.stopped) == (3, "event")

    def test_the_first_interrupt_stops_at_the_next_step(self, tmp_path):
        before = signal.getsignal(signal.SIGINT)
        press = At(6, lambda: os.kill(os.getpid(), signal.SIGINT))
        _, history = train(tmp_path, callbacks=[press])
        assert history.step in (6, 7)
        assert history.stopped == "interrupt"
        assert signal.getsignal(signal.SIGINT) is before

    def test_the_second_interrupt_breaks_off(self, whole, tmp_path):
        def press():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                # The handler runs between two instructions of Python.
                sum(range(1000))

        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, callbacks=[At(7, press)])
        check_same(train(tmp_path)[0], whole[0])

    def test_a_callback_may_stop_it(self, tmp_path):
        model = compiled()
        stop = At(6, lambda: setattr(model, "stop_training", True))
        _, history = train(tmp_path, model, callbacks=[stop])
        assert (history.step, history.stopped) == (6, "callback")

    def test_in_a_thread(self, whole, tmp_path, capfd):
        results = []
        show = training.Progress()
        worker = threading.Thread(target=lambda: results.append(train(tmp_path, show=show)))
        worker.start()
        worker.join()
        assert capfd.readouterr() == ("", "")
        check_same(results[0][0], whole[0])


class TestDivergence:
    def test_a_loss_that_is_not_finite(self, tmp_path):
        def spoilt(start):
            bad = tf.data.Dataset.counter(start).map(lambda n: tf.where(n == 7, np.nan, 1.0))
            return tf.data.Dataset.zip(batches(start), bad).map(
                lambda pair, factor: (pair[0] * tf.cast(factor, tf.float32), pair[1])
            )

        with pytest.raises(FloatingPointError, match="at step 8 is not finite"):
            train(tmp_path, batches=spoilt)
        model, history = train(tmp_path, stop=already())
        assert (history.step, len(history.rows)) == (5, 1)
        assert all(np.isfinite(array).all() for array in state(model))

    def test_weights_that_are_not_finite_never_reach_a_checkpoint(self, tmp_path):
        model = compiled()
        average = model.layers[1].moving_mean
        spoil = At(10, lambda: average.assign(np.full(average.shape, np.inf)))
        with pytest.raises(FloatingPointError, match="model/.* at step 10"):
            train(tmp_path, model, callbacks=[spoil], validation=None)
        _, history = train(tmp_path, stop=already(), validation=None)
        assert history.step == 5


class TestRefusals:
    """Bad input is an error that says what to do, and leaves the folder as it was."""

    def test_another_plan_or_configuration(self, whole):
        folder = whole[2]
        before = (folder / "checkpoint.npz").read_bytes()
        plan = dataclasses.replace(PLAN, learning_rate=0.5)
        expected = r"plan.learning_rate is 0.1 in the checkpoint, 0.5 here.*resume=False"
        with pytest.raises(CheckpointError, match=expected):
            fit(compiled(), batches, plan, folder, validation=validation(), config=CONFIG)
        expected = r"configuration.filters is \[2\] in the checkpoint, \[3\] here"
        with pytest.raises(CheckpointError, match=expected):
            train(folder, config={**CONFIG, "filters": [3]})
        with pytest.raises(CheckpointError, match="monitor is 'val_jaccard_pooled'"):
            train(folder, monitor="val_loss")
        assert (folder / "checkpoint.npz").read_bytes() == before

    def test_another_model_under_the_same_configuration(self, whole):
        model = compiled(tiny(filters=3))
        with pytest.raises(CheckpointError, match=r"model/0000 .* has shape .* in the file"):
            train(whole[2], model)
        assert not int(model.optimizer.iterations.numpy()), "half a checkpoint was taken"

    @pytest.mark.parametrize("share", [0, 0.3, 0.95])
    def test_a_damaged_checkpoint(self, whole, tmp_path, share):
        content = (whole[2] / "checkpoint.npz").read_bytes()
        (tmp_path / "checkpoint.npz").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match="truncated or damaged.*resume=False"):
            train(tmp_path)

    def test_a_flipped_byte(self, whole, tmp_path):
        content = bytearray((whole[2] / "checkpoint.npz").read_bytes())
        content[len(content) // 4] ^= 255
        (tmp_path / "checkpoint.npz").write_bytes(content)
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            train(tmp_path)

    def test_a_newer_checkpoint(self, whole, tmp_path):
        meta, arrays = training._read(whole[2] / "checkpoint.npz", "")
        meta["format_version"] = 2
        training._write(tmp_path / "checkpoint.npz", arrays, meta)
        with pytest.raises(CheckpointError, match="format_version 2; .*Update"):
            train(tmp_path)

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing to resume"):
            train(tmp_path, resume=True)
        with pytest.raises(ValueError, match="choose True, False or 'auto'"):
            train(tmp_path, resume="yes")

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
        with pytest.raises(
            OSError, match="cannot be written .*No space left.*written before are kept"
        ):
            train(tmp_path)
        monkeypatch.undo()
        assert not list(tmp_path.glob(".*"))
        check_same(train(tmp_path)[0], whole[0])

    def test_an_optimizer_that_has_been_used(self, whole, tmp_path):
        with pytest.raises(ValueError, match="already made 20 steps"):
            train(tmp_path, whole[0])

    def test_batches_that_end(self, tmp_path):
        with pytest.raises(ValueError, match="ends after 7 batches.*repeat=True"):
            train(tmp_path, batches=lambda step: batches(step).take(7))

        def hidden(step):
            return batches(step).take(7 - step).filter(lambda *pair: True)

        with (
            pytest.warns(UserWarning, match="ran out of data"),
            pytest.raises(ValueError, match=r"batches\(5\) ended after 2 batches, before step 10"),
        ):
            train(tmp_path, batches=hidden)

    def test_batches_of_another_size(self, tmp_path):
        with pytest.raises(ValueError, match="8 examples in a batch, the plan 4"):
            train(tmp_path, batches=lambda step: batches(step).unbatch().batch(8, True))
        with pytest.raises(TypeError, match="batches gives int; expected a tf.data.Dataset"):
            train(tmp_path, batches=lambda step: 3)

    def test_a_validation_of_no_use(self, tmp_path):
        with pytest.raises(ValueError, match="gives .*val_jaccard_pooled.*choose one"):
            train(tmp_path, monitor="val_jaccard")
        with pytest.raises(ValueError, match="validation never ends"):
            train(tmp_path, validation=validation().repeat())
        with pytest.raises(ValueError, match="validation is empty"):
            train(tmp_path, validation=validation().take(0))

    def test_a_model_that_is_not_ready(self, tmp_path):
        with pytest.raises(ValueError, match="not compiled: call model.compile"):
            train(tmp_path, tiny())
        with pytest.raises(ValueError, match="steps_per_execution is 2"):
            train(tmp_path, compiled(steps_per_execution=2))
        model = tiny()
        model.compile(keras.optimizers.Adam(use_ema=True), "mse")
        with pytest.raises(ValueError, match="use_ema"):
            train(tmp_path, model)
        with pytest.raises(TypeError, match="expected a Plan"):
            fit(compiled(), batches, 20, tmp_path)
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            train(tmp_path, config={"filters": {1}})
        assert not list(tmp_path.iterdir())


class TestProgress:
    def test_outside_a_notebook_each_round_is_a_line(self, tmp_path, capfd):
        train(tmp_path, show=training.Progress(persistence=0.25))
        out, err = capfd.readouterr()
        assert [line.split(" · ")[0] for line in out.splitlines()] == [
            f"step {n} of 20" for n in (5, 10, 15, 20)
        ]
        assert "val_jaccard_pooled" in out and "persistence 0.2500" in out
        assert err == ""

    def test_widgets(self, tmp_path, monkeypatch, capfd):
        monkeypatch.setattr(training, "_in_notebook", lambda: True)
        show = training.Progress(persistence=0.25, display=False)
        button = show.widget.children[1].children[1]
        _, history = train(tmp_path, show=show, callbacks=[At(12, button.click)])
        assert (history.step, history.stopped) == (12, "button")
        line, row, image = show.widget.children
        assert "step 12 of 20 · stopped (button) · best" in line.value
        assert (row.children[0].value, row.children[0].max) == (12, 20)
        assert bytes(image.value).startswith(b"\x89PNG")
        assert button.disabled
        _, history = train(tmp_path, show=show)
        assert (history.step, history.stopped) == (20, "")
        assert "step 20 of 20 · done" in line.value
        assert capfd.readouterr() == ("", "")

    def test_an_error_is_shown(self, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "_in_notebook", lambda: True)
        show = training.Progress(display=False)

        def fail():
            raise RuntimeError("boom")

        with pytest.raises(RuntimeError, match="boom"):
            train(tmp_path, show=show, callbacks=[At(2, fail)])
        assert "RuntimeError" in show.widget.children[0].value

    @pytest.mark.parametrize(
        ("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2 h 30 min")]
    )
    def test_durations(self, seconds, text):
        assert training._duration(seconds) == text

    def test_in_a_kernel(self, tmp_path):
        nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
        code = (
            f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / 'tests')!r}]\n"
            "import test_training as t\n"
            f"_, history = t.train({str(tmp_path)!r}, show=t.training.Progress(persistence=0.2))\n"
            "history.step"
        )
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbclient.NotebookClient(notebook, timeout=300, store_widget_state=False).execute()
        shown, result = notebook.cells[0].outputs
        assert shown.output_type == "display_data"
        assert "application/vnd.jupyter.widget-view+json" in shown.data
        assert shown.data["text/plain"] == "Progress of the training (live only)"
        assert result.data["text/plain"] == "20"


class TestWeights:
    RECORD = {"seed": 1, "steps": 20, "test": {"T20_TINC1": 0.1}}

    @pytest.fixture
    def shipped(self, whole, tmp_path) -> Path:
        path = tmp_path / "weights" / "tiny.npz"
        assert training.save_weights(path, whole[0], self.RECORD, config=CONFIG) == path
        return path

    def test_come_back_whatever_the_layers_are_called(self, whole, shipped):
        model = tiny()
        assert model.layers[0].name != whole[0].layers[0].name
        record = training.load_weights(shipped, model, config=CONFIG)
        for one, other in zip(model.weights, whole[0].weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert record["test"] == {"T20_TINC1": 0.1}
        assert record["configuration"] == CONFIG
        assert record["format_version"] == 1
        assert training.read_record(shipped) == record
        assert json.loads(shipped.with_suffix(".json").read_text()) == record

    def test_in_half_the_size(self, whole, shipped):
        training.save_weights(shipped, whole[0], {}, dtype="float16")
        with np.load(shipped, allow_pickle=False) as archive:
            assert {archive[name].dtype for name in archive.files} == {np.dtype("float16")}
        model = tiny()
        training.load_weights(shipped, model)
        for one, other in zip(model.weights, whole[0].weights, strict=True):
            assert one.dtype == "float32"
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-6)

    def test_the_configuration_may_be_the_models_own(self, whole, shipped):
        @dataclasses.dataclass(frozen=True)
        class Config:
            filters: tuple[int, ...] = (2,)
            kernels: tuple[int, ...] = (3,)

        model = tiny()
        model.config = Config()
        training.load_weights(shipped, model)
        model.config = Config(filters=(4,))
        expected = r"configuration: filters is \[2\] in the file, \[4\] here"
        with pytest.raises(CheckpointError, match=expected):
            training.load_weights(shipped, model)
        with pytest.raises(ValueError, match="pass config="):
            training.load_weights(shipped, tiny())

    def test_damaged_files(self, whole, shipped):
        model, content = tiny(), shipped.read_bytes()
        before = [weight.numpy() for weight in model.weights]
        shipped.write_bytes(content[:-100])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            training.load_weights(shipped, model, config=CONFIG)
        other = shipped.with_name("other.npz")
        training.save_weights(other, tiny(), {})
        shipped.write_bytes(other.read_bytes())
        with pytest.raises(CheckpointError, match="not the file that its JSON describes"):
            training.load_weights(shipped, model, config=CONFIG)
        shipped.write_bytes(content)
        beside = shipped.with_suffix(".json")
        text = beside.read_text()
        for damaged in ("", text[:-5], "[]", "{}"):
            beside.write_text(damaged)
            with pytest.raises(CheckpointError, match="tiny.json is damaged"):
                training.load_weights(shipped, model, config=CONFIG)
        beside.write_text(text.replace('"format_version": 1', '"format_version": 9'))
        with pytest.raises(CheckpointError, match="format_version 9.*Update the course"):
            training.load_weights(shipped, model, config=CONFIG)
        beside.unlink()
        with pytest.raises(FileNotFoundError, match="two files of one name"):
            training.load_weights(shipped, model, config=CONFIG)
        for weight, old in zip(model.weights, before):
            np.testing.assert_array_equal(weight.numpy(), old)

    def test_weights_of_another_model(self, shipped):
        with pytest.raises(CheckpointError, match=r"0000/kernel .* has shape \(3, 3, 3, 1, 2\)"):
            training.load_weights(shipped, tiny(filters=4), config=CONFIG)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        with pytest.raises(CheckpointError, match="8 arrays for 2 variables"):
            training.load_weights(shipped, model, config=CONFIG)

    def test_a_pickle_is_not_opened(self, shipped):
        np.savez(shipped, bomb=np.array([print], dtype=object))
        with pytest.raises(CheckpointError, match="damaged"):
            training.load_weights(shipped, tiny(), config=CONFIG)

    def test_what_cannot_be_saved(self, tmp_path):
        model = tiny()
        with pytest.raises(ValueError, match="must end in .npz"):
            training.save_weights(tmp_path / "w.h5", model, {})
        with pytest.raises(ValueError, match="choose 'float32' or 'float16'"):
            training.save_weights(tmp_path / "w.npz", model, {}, dtype="int8")
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            training.save_weights(tmp_path / "w.npz", model, {"loss": float("nan")})
        model.layers[-1].bias.assign([1e6])
        with pytest.raises(ValueError, match="not finite in float16"):
            training.save_weights(tmp_path / "w.npz", model, {}, dtype="float16")
        with pytest.raises(ValueError, match="call it on one batch"):
            training.save_weights(tmp_path / "w.npz", keras.Sequential(), {})
        assert not list(tmp_path.iterdir())


class TestHardware:
    def test_on_a_cpu_nothing_is_switched_on(self):
        if tf.config.list_physical_devices("GPU"):
            pytest.skip("this machine has a GPU")
        found = training.hardware()
        assert (found.policy, found.xla, found.replicas) == ("float32", False, 1)
        assert found.compile_options() == {"jit_compile": False}

    def test_with_a_gpu_the_policy_holds_inside_the_scope_only(self, tmp_path):
        found = training.Hardware("GPU", 1, "mixed_float16", xla=True, deterministic=False)
        before = keras.config.dtype_policy().name
        with found.scope():
            model = compiled(**found.compile_options())
        assert keras.config.dtype_policy().name == before
        assert model.compute_dtype == "float16"
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert model.jit_compile

    def test_mixed_precision_is_resumed_exactly(self, tmp_path):
        found = training.Hardware("GPU", 1, "mixed_float16", xla=False, deterministic=False)

        def build():
            keras.utils.set_random_seed(7)
            # No convolution: in float16 it takes a CPU many times as long.
            layers = [keras.layers.Dropout(0.3), keras.layers.Dense(1, activation="sigmoid")]
            return compiled(keras.Sequential([keras.Input((None, 4, 4, 4, 1)), *layers]))

        with found.scope():
            straight, half, resumed = build(), build(), build()
        train(tmp_path / "a", straight)
        event = threading.Event()
        train(tmp_path / "b", half, stop=event, callbacks=[At(6, event.set)])
        train(tmp_path / "b", resumed)
        check_same(straight, resumed)

    def test_determinism_needs_a_seed(self):
        with pytest.raises(ValueError, match="needs a seed"):
            training.hardware(deterministic=True)

    def test_two_devices_give_the_loss_of_one(self):
        code = """
import json, sys, tempfile
tf = t.tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
found = t.training.hardware(distribute=True, deterministic=True, seed=1)

def model():
    # Without layers that see the batch as a whole, or draw at random for each device.
    t.keras.utils.set_random_seed(3)
    full = t.tiny()
    return t.compiled(t.keras.Sequential([full.inputs[0], full.layers[0], full.layers[-1]]))

folder = tempfile.mkdtemp()
_, one = t.train(folder + "/one", model())
with found.scope():
    two = model()
try:
    t.train(folder + "/odd", two, validation=t.validation().unbatch().batch(4))
except ValueError as error:
    assert "2 devices need batches of one size" in str(error), error
even = lambda step: t.batches(step).unbatch().batch(4, drop_remainder=True)
check = t.validation().unbatch().batch(4, drop_remainder=True)
event = t.threading.Event()
t.train(folder + "/two", two, batches=even, validation=check, stop=event,
        callbacks=[t.At(7, event.set)])
with found.scope():
    two = model()
_, two = t.train(folder + "/two", two, batches=even, validation=check)
print(json.dumps([found.replicas, one.rows, two.rows]))
"""
        ended = python(code)
        assert ended.returncode == 0, ended.stderr
        replicas, one, two = json.loads(ended.stdout.splitlines()[-1])
        assert replicas == 2
        assert len(one) == 4
        for left, right in zip(one, two, strict=True):
            left.pop("seconds"), right.pop("seconds")
            assert left == pytest.approx(right, rel=1e-4)

    def test_memory_is_freed(self):
        model = compiled()
        model.fit(batches(0), steps_per_epoch=2, shuffle=False, verbose=0)
        watched = weakref.ref(model)
        del model
        gc.collect()
        training.free_memory()
        assert watched() is None

    def test_a_machine_is_described_without_names_and_paths(self):
        found = training.machine()
        assert {"device", "processor", "tensorflow", "keras"} <= found.keys()
        text = json.dumps(found)
        assert os.uname().nodename not in text if hasattr(os, "uname") else True
        assert str(Path.home()) not in text and "/" not in text.replace("N/A", "")
