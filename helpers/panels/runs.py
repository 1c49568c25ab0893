"""The runs of the laboratory: a session that trains them, and the table of all.

There are no widgets here; `helpers.panels.laboratory` puts buttons in front of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import _checks, _files, metrics, records, rollout, sequences, training, workshop
from helpers.panels.settings import MOST_STEPS, TARGETS, TIMED, Settings, parameters

tf = workshop.tensorflow()

import keras  # noqa: E402  (after the quiet import of TensorFlow)
from tensorflow.python.framework import ops  # noqa: E402

RUN, FORECAST, LOCK = "run.json", "forecast.npy", "lock"
FORMAT_VERSION = 3
REMEDY = "choose another folder: Laboratory(folder=...)"
MONITOR = "val_jaccard"
ENDS = ("done", "stopped", "budget used", "diverged", "failed")


class RunError(RuntimeError):
    """A run is not there, is damaged or cannot be continued; or another one is in the way."""


KNOWN = ("steps", "parameters", "persistence", "began_with", "data")
COLUMNS = ["run", "status", *(field.name for field in dataclasses.fields(Settings))]
COLUMNS += ["began_with", "parameters", "step", "best", "persistence", "data"]


class RunTable:
    """A folder of runs: each a folder of its own with `run.json`, checkpoint, best weights, log.

    Everything is read from the disk, so it is the same after a restart, and in another kernel.

    Attributes:
        folder: made with the first run.
        at_hand: the run that is trained by the owner of this table, if any.
    """

    def __init__(self, folder: str | Path):
        self.folder, self.at_hand = Path(folder), None

    def numbers(self) -> list[int]:
        """Return the numbers of the runs, ascending."""
        names = (path.parent.name for path in self.folder.glob(f"*/{RUN}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def place(self, run: int) -> Path:
        """Return the folder of a run, whether it is there or not."""
        return self.folder / f"{run:04}"

    def create(self, **found) -> int:
        """Give a new run its number and its folder, and write down what is known of it."""
        with _files.writing(self.folder, REMEDY):
            self.folder.mkdir(parents=True, exist_ok=True)
            for run in itertools.count(max(self.numbers(), default=0) + 1):
                with contextlib.suppress(FileExistsError):
                    self.place(run).mkdir()  # two kernels cannot both make it
                    break
            self._write(run, {"format_version": FORMAT_VERSION, "ended": "", **found})
        return run

    def change(self, run: int, **changes) -> int:
        """Write down what has changed about a run; return its number."""
        self._write(run, self._known(run) | changes)
        return run

    def _write(self, run: int, found: dict) -> None:
        _files.write_json(self.place(run) / RUN, _files.sealed(found))

    def _known(self, run: int) -> dict:
        """Return what a `run.json` says, if it says what was written into it."""
        path = self.place(run) / RUN
        found = _files.read_json(path)
        version = _checks.whole("format_version", found["format_version"], 1)
        if version != FORMAT_VERSION:
            raise RunError(
                f"{path} was made by another version of the course (format_version {version}; "
                f"this one reads {FORMAT_VERSION}). It is left as it is: start a new run."
            )
        return _files.unsealed(found)

    def read(self, run: int) -> dict:
        """Return what is known of a run.

        Returns:
            `run`, its number; `status`: `"training"`, how it ended (see `ENDS`), or `"interrupted"`
            where its kernel died; its `settings`; the `log`, one row for each round, see
            `helpers.training.Checkpoint`; the `step` and `seconds` after the last round, and the
            smallest distance of any, `best`, None before the first one; the `steps` that are
            planned, 0 where that is not known; the distance of `persistence` on the same frames;
            the `parameters` of its model; its `data`; and the run that it `began_with`, if any.

        Raises:
            RunError: there is no such run, it is damaged, or of another version of the course.
        """
        path = self.place(run) / RUN
        try:
            found, log = self._known(run), training.read_log(self.place(run))
            settings, status = Settings(**found["settings"]), found["ended"]
            if not status:
                trained = run == self.at_hand or self._is_claimed(run)
                status = "training" if trained else "interrupted"
            return {
                "run": run,
                "status": status,
                "settings": settings,
                **{name: found[name] for name in KNOWN},
                "log": log,
                "step": int(log["step"].iloc[-1]) if len(log) else 0,
                "seconds": round(float(log["seconds"].iloc[-1]), 2) if len(log) else 0.0,
                "best": float(log[MONITOR].min()) if len(log) else None,
            }
        except FileNotFoundError:
            have = ", ".join(map(str, self.numbers())) or "none"
            raise RunError(f"There is no run {run} in {self.folder}; it has {have}.") from None
        except RunError:
            raise
        except Exception as error:  # whatever a damaged file leads to
            raise RunError(
                f"{path} is damaged ({type(error).__name__}: {error}). Delete its folder; "
                "the other runs are not touched."
            ) from error

    def _is_claimed(self, run: int) -> bool:
        """Find out whether another kernel, or another session of this one, trains a run."""
        try:
            with _files.lock(self.place(run) / LOCK, REMEDY, wait=False):
                return False
        except OSError as error:  # where the folder cannot be written or locked, nobody trains
            return isinstance(error, _files.InUse)

    def forecast(self, run: int | None) -> np.ndarray | None:
        """Return what a run forecast in its latest round for the last frame of each sequence.

        uint8 (N, D, H, W), 0…255 for probabilities 0…1, in the order of the validation sequences;
        None where there is nothing to be read. (It is only a picture, and no reason to stop.)
        """
        try:
            found = np.load(self.place(run) / FORECAST)
            return found if found.dtype == np.uint8 and found.ndim == 4 else None
        except Exception:
            return None

    def table(self, sort: str = "run", ascending: bool = True) -> pd.DataFrame:
        """Tabulate the runs, one row each, sorted by a column; what has no value comes last.

        The columns are what `read` returns, and the settings that a run's model has. A run that
        cannot be read has a status that says so, and nothing else.
        """
        rows = []
        for number in self.numbers():
            try:
                run = self.read(number)
                rows.append(run["settings"].used() | run)
            except RunError as error:
                # Damage has made something else raise an error.
                status = "damaged" if error.__cause__ else "of another version"
                rows.append({"run": number, "status": status})
        # Whole numbers stay whole where some are missing.
        table = pd.DataFrame(rows, columns=COLUMNS).convert_dtypes(convert_floating=False)
        return table.sort_values(sort, ascending=ascending, kind="stable", ignore_index=True)


class Session:
    """Trains one model at a time, in a thread of its own, and keeps every run.

    Training and validation data are those of the course (`WORKSHOP_DATA`, or the sample set).
    Every run of a format is judged on the same frames, whatever its model and history: the last
    four of each validation sequence, each forecast from the frames before it. Its figure is the
    mean Jaccard distance over these frames.

    Args:
        folder: of the runs; `runs` in the folder of the course unless told.
        training_split, validation_split: `helpers.records.PackedSplit`; those of the course unless
            told, as many sequences as the profile says.

    Attributes:
        runs: the `RunTable`.
        frames: of the validation sequences, at all times: uint8 (N, 128, D, H, W).
        run: the number of the latest run that was begun here, or None.
        step: where it stands.
        left: seconds until its end, or None if that is not known.
        message: what went wrong with it, in words.
    """

    def __init__(self, folder=None, *, training_split=None, validation_split=None):
        self.runs = RunTable(folder or workshop.REPOSITORY / "runs")
        count = workshop.profile().sequences
        packed, place = functools.partial(records.packed, progress=False), workshop.split_folder
        split = validation_split or packed(place("validation"), limit=count)
        self.training_split = training_split or packed(place("training"), limit=3 * count)
        self.frames = split.frames(slice(count))
        mark = next(iter(self.training_split.checksum.values()), "")[:6]
        self.data = f"{len(self.training_split)} + {len(self.frames)} sequences, {mark}"
        self.run, self.step, self.left, self.message = None, 0, None, ""
        self._thread: threading.Thread | None = None
        self._beginning, self._stopping = threading.Lock(), threading.Event()

    @property
    def running(self) -> bool:
        """Whether a run is being trained."""
        return self._thread is not None and self._thread.is_alive()

    def persistence(self, frame_format: sequences.FrameFormat) -> float:
        """Return the distance of persistence on the frames that every run is judged on."""
        frames = frame_format.select(self.frames)[:, -TARGETS - 1 :]
        return float(metrics.jaccard_distance(frames[:, 1:], frames[:, :-1]).mean())

    def start(self, settings: Settings, *, begin_with: int | None = None, wait: bool = True) -> int:
        """Start a new run, with the best weights of another of the same architecture if told.

        Returns its number, when it has ended if you `wait`. How it ended is in the table: an error
        in training does not leave this function.

        Raises:
            RunError: another run is being trained.
            OSError: the folder of the runs cannot be written.
        """
        return self._begin(
            lambda: self.runs.create(
                settings=vars(settings),
                steps=settings.steps,  # 0: as many as fit, see `_fitting_steps`
                parameters=parameters(settings),
                persistence=self.persistence(settings.frame_format),
                data=self.data,
                began_with=begin_with,
            ),
            wait,
        )

    def resume(self, run: int, *, wait: bool = True) -> int:
        """Go on with a run that was stopped, used up its budget, or whose kernel died.

        It goes on from its checkpoint, for as many seconds again, and ends with the weights of one
        that was never stopped. A run that has done all its steps is followed by a new one that
        begins with its weights. Returns the number of what is trained now.

        Raises:
            RunError: another run is being trained; there is no such run; it has diverged; it was
                trained on other data.
        """
        found = self.runs.read(run)
        if found["status"] == "done":
            return self.start(found["settings"], begin_with=run, wait=wait)
        if found["status"] == "training":
            raise RunError(f"Run {run} is being trained already, here or by another kernel.")
        if found["status"] == "diverged":
            raise RunError(
                f"Run {run} has diverged and would again. Start a new one with a lower learning "
                "rate."
            )
        if found["data"] != self.data:
            raise RunError(
                f"Run {run} was trained on other data ({found['data']}) than those at hand "
                f"({self.data}). Set WORKSHOP_DATA as it was then, or start a new run."
            )
        return self._begin(lambda: self.runs.change(run, ended=""), wait)

    def stop(self) -> None:
        """Ask the run to stop: it does so after the step at hand, and can be resumed."""
        self._stopping.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until no run is being trained, or so many seconds; an interrupt stops it."""
        try:
            if self._thread is not None:
                self._thread.join(seconds)
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()

    def forecaster(self, run: int) -> rollout.Forecaster:
        """Return the best weights of a run as a forecaster for `helpers.rollout`.

        Raises:
            RunError, FileNotFoundError: there is no such run, or no round of it was validated yet.
        """
        found = self.runs.read(run)
        settings = found["settings"]
        model = settings.kind.build(settings.config(found["steps"] or TIMED))
        training.load_best(self.runs.place(run), model)
        name = f"run {run}, {settings.model}"
        return settings.kind.forecaster(model, settings.frame_format, name)

    def _begin(self, prepare: Callable[[], int], wait: bool) -> int:
        """Train the run that `prepare` returns in a thread, unless another one is being trained."""
        with self._beginning:
            if self.running:
                raise RunError(
                    f"Run {self.run} is being trained. Stop it first, or wait until it has ended."
                )
            self.runs.at_hand = run = prepare()
            self.run, self.step = run, self.runs.read(run)["step"]
            self.left, self.message = None, ""
            self._stopping.clear()
            # A daemon: a kernel that is shut down does not wait for it. The files are whole at
            # any moment.
            self._thread = threading.Thread(target=self._train, args=(run,), daemon=True)
            self._thread.start()
        if wait:
            self.wait()
        return run

    def _train(self, run: int) -> None:
        """Train a run to its end, whatever that is; nothing is raised from here."""
        tf.get_logger().setLevel("ERROR")  # models traced anew would warn in whatever cell runs
        try:
            with (
                _files.lock(self.runs.place(run) / LOCK, REMEDY, wait=False),
                _gradients_forgotten(),
            ):
                try:
                    ended = self._fit(run)
                except FloatingPointError as error:
                    ended, self.message = "diverged", str(error)
                except Exception as error:
                    ended, self.message = "failed", f"{type(error).__name__}: {error}"[:2000]
                self.runs.change(run, ended=ended)
        except Exception as error:  # another kernel trains it, the disk is full, its folder is gone
            self.message = f"{type(error).__name__}: {error}"
        keras.utils.clear_session()
        self.runs.at_hand = None

    def _fit(self, run: int) -> str:
        """Train a run; return how it ended."""
        found, begun = self.runs.read(run), time.monotonic()
        settings, folder = found["settings"], self.runs.place(run)
        steps = found["steps"] or self._fitting_steps(settings)
        if not steps:
            return "stopped"
        self.runs.change(run, steps=steps)
        plan, model = settings.plan(steps), settings.compiled(steps)
        if found["began_with"]:
            training.load_best(self.runs.place(found["began_with"]), model)
        checkpoint = training.Checkpoint(folder, plan, MONITOR)
        stop = training.Stop(event=self._stopping)
        watch = _Watch(self, settings, checkpoint, stop, begun + settings.seconds)
        start = checkpoint.restore(model)
        model.fit(
            settings.batches(model.config, self.training_split, start),
            initial_epoch=checkpoint.epoch,
            epochs=plan.epochs,
            steps_per_epoch=plan.epoch,
            callbacks=[watch, checkpoint, stop],
            shuffle=False,
            verbose=0,
        )
        return {"": "done", "event": "stopped"}.get(stop.reason, stop.reason)

    def _fitting_steps(self, settings: Settings) -> int:
        """Time ten steps of another model; return how many fit into the budget, 0 if stopped."""
        begun, ends = time.monotonic(), []
        model = settings.compiled(TIMED)
        for batch in settings.batches(model.config, self.training_split).take(TIMED):
            model.train_on_batch(*batch)
            ends.append(time.monotonic())
            if self._stopping.is_set():
                return 0
        each = float(np.median(np.diff(ends)[-TIMED // 2 :]))
        # The model of the run has to be compiled, too; and a fifth is left for validation.
        left = settings.seconds - 2 * (ends[-1] - begun)
        return int(np.clip(0.8 * left / each, TIMED, MOST_STEPS))


@contextlib.contextmanager
def _gradients_forgotten() -> Iterator[None]:
    """Let go of what TensorFlow would keep of each model: 11 MB a run, 30 MB of a WGAN-GP.

    Whatever has a gradient of its own, as silu has, is registered under a new name each time that a
    model is traced, and holds its graph for ever. There is no public way to take it out again.
    """
    registered = getattr(ops.gradient_registry, "_registry", {})
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith("CustomGradient-"):
                del registered[name]


class _Watch(keras.callbacks.Callback):
    """Judges each round before `Checkpoint` writes it down, and tells the session how far it is."""

    def __init__(self, session, settings, checkpoint, stop, deadline):
        super().__init__()
        self.session, self.settings, self.deadline = session, settings, deadline
        self.checkpoint, self.stop, self._first = checkpoint, stop, None

    def on_train_begin(self, logs=None):
        self.session.step = self.checkpoint.step
        self.forecaster = self.settings.kind.forecaster(self.model, self.settings.frame_format)

    def on_train_batch_end(self, batch, logs=None):
        session, now = self.session, time.monotonic()
        session.step += 1
        if self._first is None:
            # The first step compiles the model, which says nothing about the others.
            self._first = session.step, now
        else:
            step, then = self._first
            each = (now - then) / (session.step - step)
            to_come = self.checkpoint.plan.steps - session.step
            session.left = max(min(each * to_come, self.deadline - now), 0)
        # A run that ends before its first full round would leave nothing.
        if now > self.deadline and self.checkpoint.rows:
            self.stop.request("budget used")

    def on_epoch_end(self, epoch, logs=None):
        plan, step = self.checkpoint.plan, self.session.step
        if step % plan.epoch and step < plan.steps:
            return  # the round is given up
        frames = self.settings.frame_format.select(self.session.frames)
        found = np.stack([self._forecast(frames[:, :time]) for time in range(-TARGETS, 0)], axis=1)
        if not np.isfinite(found).all():
            logs[MONITOR] = math.nan  # for `Checkpoint`, the training has diverged
            return
        logs[MONITOR] = float(metrics.jaccard_distance(frames[:, -TARGETS:], found).mean())
        with _files.replacing(self.checkpoint.folder / FORECAST) as file:
            np.save(file, np.round(255 * found[:, -1]).astype(np.uint8))

    def _forecast(self, frames: np.ndarray, size: int = 32) -> np.ndarray:
        """Forecast the frame that follows (N, T, D, H, W) from as many as the settings say."""
        read = frames[:, -self.settings.history :]
        parts = range(0, len(read), size)
        return np.concatenate([self.forecaster(read[at : at + size]) for at in parts])
