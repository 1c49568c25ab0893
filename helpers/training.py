"""The one fit loop of the course: progress, checkpoints, stop, resume, device set-up.

`fit` runs `keras.Model.fit` in rounds. After each round it validates, writes a checkpoint and
shows where it stands. It can be stopped from outside at any step, and taken up again in another
process with the same weights as if it had never been stopped.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import gc
import html
import importlib.metadata
import io
import json
import math
import numbers
import operator
import platform
import re
import signal
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import _files, workshop

tf = workshop.tensorflow()

import keras  # noqa: E402  (TensorFlow comes first, and quietly)
from keras import ops  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
DECAYS = ("cosine", "linear", "none")
CHECKPOINT, BEST, LOG, STOP = "checkpoint.npz", "best.npz", "log.csv", "stop"
_META = "meta.json"


class CheckpointError(RuntimeError):
    """A checkpoint or a file of weights is damaged, or does not belong to this model or run."""


def check_number(owner: Any, name: str, expected: str, good: Callable[[float], bool]) -> None:
    """Check a field of a frozen dataclass and keep it as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not `good`; the error says what was `expected`.
    """
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; expected a number {expected}.")
    if not good(value):
        raise ValueError(f"{name} is {value}; expected {expected}.")
    object.__setattr__(owner, name, float(value))


@dataclass(frozen=True)
class Plan:
    """How a model is trained: all that has to stay as it is from the first step to the last.

    Attributes:
        steps: so many batches, at least 1.
        batch_size: examples in a batch, at least 1.
        learning_rate: the highest one, above 0.
        warm_up: so many steps rise to it in a straight line, 0 to `steps`.
        decay: how it falls to 0 at the end: `"cosine"`, `"linear"` or `"none"`.
        decay_from: the share of the run after which it begins to fall, 0 to below 1.
        weight_decay: of AdamW; biases and the two vectors of a normalisation are left out.
        clip_norm: the longest gradient, over all weights; None does not clip.
        validate_every: steps in a round; after each one comes a validation and a checkpoint.
        seed: of the data order, 0 or above; also for the weights if you build the model with it.

    Raises:
        TypeError: a number is not whole, or no number.
        ValueError: a value is outside its range.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    warm_up: int = 0
    decay: str = "cosine"
    decay_from: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    validate_every: int = 250
    seed: int = 1

    def __post_init__(self):
        lowest = {"steps": 1, "batch_size": 1, "warm_up": 0, "validate_every": 1, "seed": 0}
        for name, low in lowest.items():
            try:
                value = operator.index(getattr(self, name))
            except TypeError:
                found = getattr(self, name)
                raise TypeError(f"{name} is {found!r}; expected a whole number.") from None
            if value < low:
                raise ValueError(f"{name} is {value}; expected at least {low}.")
            object.__setattr__(self, name, value)
        if self.warm_up > self.steps:
            raise ValueError(f"warm_up is {self.warm_up} of {self.steps} steps; take fewer.")
        if self.decay not in DECAYS:
            raise ValueError(f"decay is {self.decay!r}; choose one of {', '.join(DECAYS)}.")
        check_number(self, "learning_rate", "above 0", lambda value: 0 < value < math.inf)
        check_number(self, "decay_from", "0 to below 1", lambda value: 0 <= value < 1)
        check_number(self, "weight_decay", "0 or above", lambda value: 0 <= value < math.inf)
        if self.clip_norm is not None:
            check_number(self, "clip_norm", "above 0, or None", lambda value: 0 < value < math.inf)

    def schedule(self) -> WarmUpAndDecay:
        """Return the learning rate at each step, for any Keras optimizer."""
        return WarmUpAndDecay(
            self.learning_rate, self.steps, self.warm_up, self.decay, self.decay_from
        )

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Return a new AdamW that follows the plan."""
        optimizer = keras.optimizers.AdamW(
            self.schedule(), weight_decay=self.weight_decay, global_clipnorm=self.clip_norm
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


@keras.saving.register_keras_serializable("forecasting_4d")
class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line, stays, and falls to 0; see `Plan`."""

    def __init__(self, peak: float, steps: int, warm_up: int, decay: str, decay_from: float):
        self.peak, self.steps, self.warm_up = peak, steps, warm_up
        self.decay, self.decay_from = decay, decay_from

    def __call__(self, step):
        """Return the rate, float32 (), of step 0, 1, …"""
        step = ops.cast(step, "float32")
        rate = ops.cast(self.peak, "float32")
        if self.warm_up:
            rate = rate * ops.minimum((step + 1) / self.warm_up, 1.0)
        if self.decay == "none":
            return rate
        start = self.decay_from * self.steps
        gone = ops.clip((step - start) / (self.steps - start), 0.0, 1.0)
        return rate * (1 - gone if self.decay == "linear" else (1 + ops.cos(math.pi * gone)) / 2)

    def get_config(self):
        """Return the arguments of this schedule."""
        names = ("peak", "steps", "warm_up", "decay", "decay_from")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("forecasting_4d")
class VoxelLoss(keras.losses.Loss):
    """Binary cross-entropy and soft Jaccard distance; made by `voxel_loss`."""

    def __init__(self, jaccard_weight: float = 0.05, name: str = "voxel_loss", **options):
        super().__init__(name=name, dtype="float32", **options)
        self.jaccard_weight = jaccard_weight

    def call(self, y_true, y_pred):
        """Return the loss of each sample, float32 (B,)."""
        if len(y_true.shape) != len(y_pred.shape) or any(
            a != b for a, b in zip(y_true.shape, y_pred.shape) if None not in (a, b)
        ):
            raise ValueError(
                f"The target has shape {tuple(y_true.shape)}, the prediction "
                f"{tuple(y_pred.shape)}; they must agree."
            )
        axes = tuple(range(1, len(y_pred.shape)))
        loss = ops.mean(ops.binary_crossentropy(y_true, y_pred), axis=axes)
        if not self.jaccard_weight:
            return loss
        both = ops.sum(y_true * y_pred, axis=axes)
        either = ops.sum(y_true + y_pred - y_true * y_pred, axis=axes)
        # Without the inner choice, the gradient at an empty union would be NaN.
        distance = ops.where(either > 0, 1 - both / ops.where(either > 0, either, 1.0), 0.0)
        return loss + self.jaccard_weight * distance

    def get_config(self):
        """Return the arguments of this loss."""
        return {**super().get_config(), "jaccard_weight": self.jaccard_weight}


def voxel_loss(jaccard_weight: float = 0.05) -> VoxelLoss:
    """Return the loss of the course: cross-entropy of each voxel, and a little of what is judged.

    For targets t and predicted probabilities p, (B, ..., D, H, W, 1) or (B, ..., D, H, W), it is
    the mean over voxels of the binary cross-entropy, plus `jaccard_weight` times the soft Jaccard
    distance 1 - Σpt / Σ(p + t - pt), summed over all voxels of a sample. Empty against empty is
    0. It is computed in float32 and finite for every p in 0…1, 0 and 1 included.

    Args:
        jaccard_weight: 0 or above; 0 is cross-entropy alone.

    Raises:
        ValueError: the weight is negative or not finite; later, shapes that disagree.

    Source: soft Jaccard as in M. A. Rahman and Y. Wang, 2016 (doi 10.1007/978-3-319-50835-1_22).
    """
    if not 0 <= jaccard_weight < math.inf:
        raise ValueError(f"jaccard_weight is {jaccard_weight}; expected 0 or above.")
    return VoxelLoss(float(jaccard_weight))


@dataclass(frozen=True)
class History:
    """What a training did so far.

    Attributes:
        rows: one mapping per round: `step`, `seconds`, and what Keras reports, training figures
            as the mean over the round, validation figures with `val_` before their names.
        step: how many steps are done.
        steps: how many are planned.
        monitor: the figure by which the best round is chosen; lower is better.
        stopped: what stopped it before the end: `"event"`, `"button"`, `"interrupt"`, `"file"`,
            `"callback"`; empty if nothing did.
    """

    rows: tuple[dict[str, float], ...]
    step: int
    steps: int
    monitor: str
    stopped: str = ""

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best round, or None before the first validation."""
        rows = [row for row in self.rows if self.monitor in row]
        return min(rows, key=lambda row: row[self.monitor], default=None)

    @property
    def seconds(self) -> float:
        """How long the rounds took together, validation and checkpoints included."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def table(self) -> pd.DataFrame:
        """Tabulate the rounds, one row each."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))


def fit(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    plan: Plan,
    folder: str | Path,
    *,
    validation: tf.data.Dataset | None = None,
    monitor: str = "val_jaccard_pooled",
    config: Any = None,
    resume: bool | str = "auto",
    stop: threading.Event | None = None,
    show: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> History:
    """Train a compiled model as planned, or go on where an earlier call stopped.

    The folder receives `checkpoint.npz` (all that is needed to go on exactly, replaced after each
    round in one step, so a kill loses one round at most), `best.npz` (the weights of the best
    round, see `load_best`) and `log.csv` (one line per round). A run stops at the next step when
    `stop` is set, the button of `show` is pressed, Ctrl-C or the kernel's interrupt is used (a
    second one breaks off at once), or a file named `stop` appears in the folder. It then writes a
    checkpoint and returns; the same call goes on from there. A resumed run ends with the weights
    of one that was never stopped, bit for bit where the machine's arithmetic repeats itself
    (`hardware(deterministic=True)`).

    Args:
        model: compiled, for example `model.compile(plan.optimizer(), voxel_loss(),
            metrics=[keras_jaccard("pooled")], **hardware().compile_options())`. A model
            with a training step of its own keeps its optimizers as attributes and builds them in
            `compile`. Whatever draws at random owns its `keras.random.SeedGenerator`.
        batches: gives the training batches from any step on, without end: for example `lambda
            step: from_packed(split, T20_TINC1, Shifted(), batch_size=plan.batch_size,
            seed=plan.seed, repeat=True, start_step=step)`.
        plan: steps, rounds, and what the batches and the optimizer were made with.
        folder: made where it is missing. One folder is for one run.
        validation: a dataset that ends; None validates nothing and keeps no best weights.
        monitor: what tells the best round, lower is better.
        config: the model's configuration, a dataclass or a mapping; by default `model.config`.
        resume: `"auto"` goes on if the folder holds a checkpoint, True demands one, False starts
            anew and gives up what the folder holds.
        stop: anything with a method `is_set()`.
        show: where progress is shown; None is quiet.
        callbacks: more Keras callbacks; an epoch is a round.

    Returns:
        The history of all rounds, those before a resume included.

    Raises:
        TypeError, ValueError: see the arguments; the batches end early; their size is not the
            plan's; the monitored figure is not among those of the validation.
        CheckpointError: the checkpoint is damaged, or was written with another plan,
            configuration or model.
        FileNotFoundError: `resume=True` without a checkpoint.
        OSError: the folder cannot be written.
        FloatingPointError: the loss, a metric or a weight is no longer finite. The last
            checkpoint is kept.
    """
    folder = Path(folder)
    settings = {"plan": plan, "configuration": _configuration(model, config), "monitor": monitor}
    _check_arguments(model, plan, resume)
    state = _State(model, folder, json.loads(json.dumps(settings, default=dataclasses.asdict)))
    found = state.found(resume)
    _check_batches(model, first := batches(found.step if found else 0), "batches", plan)
    _build(model, first)
    # Before anything is restored: this may draw random numbers.
    checks = _check_validation(model, validation, monitor)
    with _writing(folder):
        state.take(found)
    stops = _Stops(folder, stop, show)
    if show:
        show.begin(state.history())
    reason = ""
    try:
        with stops.listening():
            while state.step < plan.steps and not (reason := stops.reason()):
                _round(model, batches, plan, state, stops, show, callbacks)
                complete = state.step % plan.validate_every == 0 or state.step == plan.steps
                figures = _figures(model, validation, checks) if complete else {}
                with _writing(folder):
                    state.close_round(figures) if complete else state.write()
                if show and complete:
                    show.record(state.history())
    except BaseException as error:
        if show:
            show.finish(state.history(), type(error).__name__)
        raise
    history = state.history(reason)
    if show:
        show.finish(history)
    return history


def _round(model, batches, plan, state, stops, show, callbacks) -> None:
    """Train up to the next validation, or to a stop."""
    number, begun = divmod(state.step, plan.validate_every)
    target = min(plan.steps, (number + 1) * plan.validate_every)
    watch = _Watch(state.step, stops, show)
    model.fit(
        batches(state.step),
        initial_epoch=number,
        epochs=number + 1,
        steps_per_epoch=target - state.step,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, watch],
    )
    if model.stop_training and not stops.seen:
        stops.seen = "callback"
    if watch.step < target and not stops.seen:
        raise ValueError(
            f"batches({state.step}) ended after {watch.step - state.step} batches, before step "
            f"{target}; it must go on without end: pass repeat=True. The last checkpoint is of "
            f"step {state.step}."
        )
    state.advance(watch.step, watch.figures, begun)


def _figures(model, validation, checks: int) -> dict[str, float]:
    """Validate on so many batches."""
    if validation is None:
        return {}
    # Without a number of steps, Keras counts one batch too many where the dataset does not know
    # its length, and every mean comes out too small.
    found = model.evaluate(validation, steps=checks, verbose=0, return_dict=True)
    return {f"val_{name}": float(value) for name, value in found.items()}


class _Watch(keras.callbacks.Callback):
    """Counts the steps of a round, and ends it early where it has to."""

    def __init__(self, step: int, stops: _Stops, show: Progress | None):
        super().__init__()
        self.step, self.stops, self.show = step, stops, show
        self.figures: dict[str, float] = {}

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.figures = {name: float(value) for name, value in (logs or {}).items()}
        _check_finite(self.figures, self.step)
        if self.show:
            self.show.advance(self.step, self.figures)
        if self.stops.reason():
            self.model.stop_training = True


class _Stops:
    """Everything that may stop a run from outside."""

    def __init__(self, folder: Path, event: threading.Event | None, show: Progress | None):
        self.events = {"event": event, "button": show.stop if show else None}
        self.file = folder / STOP
        self.seen = ""

    def reason(self) -> str:
        """Return what has asked for a stop, or nothing."""
        if not self.seen:
            asked = (name for name, event in self.events.items() if event and event.is_set())
            self.seen = next(asked, "")
            if not self.seen and self.file.exists():
                self.file.unlink(missing_ok=True)
                self.seen = "file"
        return self.seen

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the first interrupt as a request; the second one does what it always does."""
        before = signal.getsignal(signal.SIGINT)
        # Only the main thread may listen; a job in the background has been told not to.
        here = threading.current_thread() is threading.main_thread()
        if not here or before in (None, signal.SIG_IGN):
            yield
            return

        def note(number, frame):
            signal.signal(signal.SIGINT, before)
            self.seen = self.seen or "interrupt"

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _State:
    """Where a run stands, in memory and in its folder."""

    def __init__(self, model: keras.Model, folder: Path, settings: dict):
        self.model, self.folder, self.settings = model, folder, settings
        self.step, self.rows, self.partial = 0, [], {}
        self.seconds, self.since = 0.0, time.monotonic()

    def found(self, resume: bool | str) -> _Checkpoint | None:
        """Read the checkpoint to go on from, if there is one."""
        path = self.folder / CHECKPOINT
        if resume is False:
            return None
        if not path.exists():
            if resume == "auto":
                return None
            raise FileNotFoundError(
                f"{path} is missing, so there is nothing to resume; start with resume='auto'."
            )
        found = _Checkpoint(*_read(path, f"start anew with resume=False, or see {BEST}"))
        differences = _differences(found.meta["settings"], self.settings)
        if differences:
            raise CheckpointError(
                f"{path} belongs to another run: {differences}. Train in another folder, or start "
                "anew with resume=False, which gives up what this folder holds."
            )
        return found

    def take(self, found: _Checkpoint | None) -> None:
        """Put the model where the checkpoint was, or write the first checkpoint."""
        if found:
            _assign(found.arrays, self._variables(), self.folder / CHECKPOINT)
            self.step, self.rows = found.step, found.meta["rows"]
            self.partial, self.seconds = found.meta["partial"], found.meta["seconds"]
        else:
            done = {int(_inner(each).iterations.numpy()) for each in _optimizers(self.model)}
            if done - {0}:
                raise ValueError(
                    f"The optimizer has already made {max(done)} steps, so its schedule would not "
                    "start at the beginning: build and compile the model again to start anew."
                )
        self.since = time.monotonic() - self.seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*.tmp"):
            left.unlink()
        if not found:
            (self.folder / BEST).unlink(missing_ok=True)
            self.write()
        self._write_log()

    def advance(self, step: int, figures: dict[str, float], begun: int) -> None:
        """Note the means of the steps just done, joined with those before a stop."""
        new = step - self.step
        share = new / (new + begun) if begun else 1.0
        before = self.partial
        self.partial = {
            name: share * value + (1 - share) * before.get(name, value) if begun else value
            for name, value in figures.items()
        }
        self.step = step

    def close_round(self, validation: dict[str, float]) -> None:
        """Add a row, keep the weights if they are the best, and write a checkpoint and the log."""
        _check_finite(validation, self.step)
        row = {"step": self.step, "seconds": self._elapsed(), **self.partial, **validation}
        self.rows, self.partial = [*self.rows, row], {}
        if self.history().best is row:
            meta = {"format_version": FORMAT_VERSION, "settings": self.settings, "row": row}
            _write(self.folder / BEST, self._arrays(_weights(self.model)), meta)
        self.write()
        self._write_log(append=True)

    def write(self) -> None:
        """Write a checkpoint in place of the one before."""
        meta = {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "step": self.step,
            "rows": self.rows,
            "partial": self.partial,
            "seconds": self._elapsed(),
        }
        _write(self.folder / CHECKPOINT, self._arrays(self._variables()), meta)

    def history(self, stopped: str = "") -> History:
        """Return the history so far."""
        steps, monitor = self.settings["plan"]["steps"], self.settings["monitor"]
        return History(tuple(self.rows), self.step, steps, monitor, stopped)

    def _variables(self) -> dict[str, keras.Variable]:
        """Name all that changes while the model is trained."""
        found = {f"model/{n:04}": variable for n, variable in enumerate(self.model.variables)}
        for place, optimizer in enumerate(_optimizers(self.model)):
            for n, variable in enumerate(optimizer.variables):
                found[f"optimizer{place}/{n:04}"] = variable
        return found

    def _arrays(self, variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
        """Fetch the values to be written, if they are worth it."""
        arrays = {name: _array(variable) for name, variable in variables.items()}
        bad = [name for name, array in arrays.items() if not _is_finite(array)]
        if bad:
            raise _diverged(f"{len(bad)} of {len(arrays)} arrays ({bad[0]} first)", self.step)
        return arrays

    def _write_log(self, append: bool = False) -> None:
        """Add the last row to the log, or write it anew from what the checkpoint knows."""
        path = self.folder / LOG
        text = io.StringIO()
        names = list(self.rows[0]) if self.rows else ["step"]
        writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
        if append and len(self.rows) > 1:
            writer.writerow(self.rows[-1])
            with path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
            return
        writer.writeheader()
        writer.writerows(self.rows)
        with _files.replacing(path) as file:
            file.write(text.getvalue().encode())

    def _elapsed(self) -> float:
        return time.monotonic() - self.since


@dataclass(frozen=True)
class _Checkpoint:
    """What a checkpoint holds."""

    meta: dict
    arrays: dict[str, np.ndarray]

    @property
    def step(self) -> int:
        return self.meta["step"]


def load_best(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's best round into the model.

    Args:
        folder: that of `fit`.
        model: built, of the configuration that was trained.

    Returns:
        The row of that round: its step, training and validation figures.

    Raises:
        FileNotFoundError: no round was validated in this folder.
        CheckpointError: the file is damaged or belongs to another model.
    """
    path = Path(folder) / BEST
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: no round was validated in this folder. Train with fit first."
        )
    meta, arrays = _read(path, "train again")
    _assign(arrays, _weights(model), path)
    return meta["row"]


def load_last(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's checkpoint into the model: the last ones.

    For a loss that the validation does not see, such as a critic's opinion, the best round is
    the one in which that loss has done least.

    Args, Raises: see `load_best`.

    Returns:
        The row of the last round; if the run stopped within a later one, only the `step` and the
        `seconds` of the checkpoint, since its weights were not validated.
    """
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: no run is in this folder. Train with fit.")
    meta, arrays = _read(path, "train again")
    if not meta["rows"]:
        raise FileNotFoundError(f"{path}: no round was validated yet. Train on.")
    state = {f"model/{n:04}": variable for n, variable in enumerate(model.variables)}
    _assign({name: arrays[name] for name in arrays if name.startswith("model/")}, state, path)
    last = meta["rows"][-1]
    return last if last["step"] == meta["step"] else {key: meta[key] for key in ("step", "seconds")}


def save_weights(
    path: str | Path,
    model: keras.Model,
    record: Mapping,
    *,
    config: Any = None,
    dtype: str = "float32",
) -> Path:
    """Write a model's weights to ship them: `NAME.npz`, and `NAME.json` that says what they are.

    Args:
        path: ends in `.npz`; its folder is made where it is missing.
        model: built.
        record: whatever JSON can hold: data, seed, steps, minutes, machine, figures, commit.
        config: the model's configuration, a dataclass or a mapping; by default `model.config`.
        dtype: `"float32"`, or `"float16"` for half the size and about three digits.

    Returns:
        The path.

    Raises:
        ValueError: another ending or dtype, a model without weights, weights that are not finite
            or too large for the dtype.
        TypeError: the record holds something that JSON cannot.
        OSError: the folder cannot be written.
    """
    path = _npz(path)
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype is {dtype!r}; choose 'float32' or 'float16'.")
    arrays = {name: _array(variable) for name, variable in _weights(model).items()}
    with np.errstate(over="ignore"):
        arrays = {
            name: array.astype(dtype) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }
    bad = [name for name, array in arrays.items() if not _is_finite(array)]
    if bad:
        raise ValueError(f"{bad[0]} is not finite in {dtype}; such weights are of no use.")
    record = {
        "format_version": FORMAT_VERSION,
        "configuration": _configuration(model, config),
        **record,
    }
    try:
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The record cannot be written as JSON ({error}); use text, finite numbers, lists and "
            "mappings."
        ) from error
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, arrays)
        record = {**json.loads(text), "sha256": _files.digest(path)}
        _files.write_json(path.with_suffix(".json"), record)
    return path


def read_record(path: str | Path) -> dict:
    """Return what the JSON beside shipped weights says, for example to build the model from it.

    Raises:
        FileNotFoundError: the weights or the JSON are missing.
        CheckpointError: the JSON is damaged or of a newer format.
    """
    path = _npz(path)
    beside = path.with_suffix(".json")
    for each in (path, beside):
        if not each.exists():
            raise FileNotFoundError(
                f"{each} is missing. Weights come in two files of one name, .npz and .json; copy "
                "both."
            )
    try:
        record = json.loads(beside.read_text("utf-8"))
        _check_version(record["format_version"], beside)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{beside} is damaged ({error!r}); expected the JSON that save_weights wrote. Fetch it "
            "again."
        ) from error
    return record


def load_weights(path: str | Path, model: keras.Model, *, config: Any = None) -> dict:
    """Put shipped weights into a model.

    Layer names do not matter: arrays are matched by place, name and shape.

    Args:
        path: the `.npz` that `save_weights` wrote, with its JSON beside it.
        model: built, of the same configuration.
        config: the model's configuration, a dataclass or a mapping; by default `model.config`.

    Returns:
        The record of the JSON.

    Raises:
        FileNotFoundError: one of the two files is missing.
        CheckpointError: a file is damaged or of a newer format, or the weights are of another
            configuration or do not fit the model. The model is left as it was.
        ValueError: the model is not built, or its configuration is not known.
    """
    path, record = _npz(path), read_record(path)
    now, then = _configuration(model, config), record.get("configuration")
    if then is not None and now is None:
        raise ValueError(
            f"{path} says what its model is, but this model does not: pass config=..., so that "
            "weights are not put into a model of another kind."
        )
    if then is not None and (differences := _differences(then, now, "file")):
        raise CheckpointError(
            f"{path} is of another configuration: {differences}. Build the model from "
            "read_record(path)['configuration'], or train your own."
        )
    _, arrays = _read(path, "fetch it again")
    found = _files.digest(path)
    if record.get("sha256", found) != found:
        raise CheckpointError(
            f"{path} is not the file that its JSON describes (another SHA-256); fetch both again."
        )
    _assign(arrays, _weights(model), path)
    return record


def load_model(path: str | Path, config: type, build: Callable[[Any], keras.Model], what: str):
    """Return the model of shipped weights, built from the configuration in their record.

    Args:
        path: the `.npz` that `save_weights` wrote, with its JSON beside it.
        config: the class of the configuration.
        build: makes a model of a configuration.
        what: the kind of model, for errors.

    Raises:
        FileNotFoundError, CheckpointError: see `load_weights`; the record describes another kind
            of model.
    """
    found = read_record(path).get("configuration")
    try:
        chosen = config(**found)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a {what} of this course: its configuration is {found} ({error})."
        ) from None
    model = build(chosen)
    load_weights(path, model, config=found)
    return model


@dataclass(frozen=True)
class Hardware:
    """How this machine is used; made by `hardware`.

    Attributes:
        name: what computes, for example `CPU, 2 cores`.
        replicas: on how many devices each batch is split.
        policy: the Keras dtype policy, `float32` or `mixed_float16`.
        xla: whether the training step is compiled with XLA.
        deterministic: whether the same run gives the same bits.
        strategy: the `tf.distribute` strategy, or None.
    """

    name: str
    replicas: int
    policy: str
    xla: bool
    deterministic: bool
    strategy: Any = dataclasses.field(default=None, repr=False)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build and compile the model in here: sets the dtype policy and the strategy."""
        # Keras keeps the policy per thread, and clear_session forgets it: so it is set here.
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            with self.strategy.scope() if self.strategy else contextlib.nullcontext():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def compile_options(self) -> dict[str, Any]:
        """Return what `model.compile` needs to know."""
        return {"jit_compile": self.xla}


def hardware(
    *, deterministic: bool = False, distribute: bool = False, seed: int | None = None
) -> Hardware:
    """Choose how this machine is used: the one place for device set-up.

    With a GPU: memory as needed instead of all at once, float16 arithmetic with float32 weights,
    and XLA. On a CPU neither helps, so everything stays float32 and uncompiled.

    Args:
        deterministic: make every operation repeat its bits, at some cost; for this process.
        distribute: split each batch over all GPUs (or, for tests, over several virtual CPU
            devices). Without XLA, since the exchange of gradients cannot be compiled.
        seed: also seed Python, NumPy and Keras.

    Raises:
        ValueError: `deterministic` without a seed.
    """
    if deterministic and seed is None:
        raise ValueError("deterministic=True needs a seed: pass seed=plan.seed.")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Too late once TensorFlow has used the GPU; then it has all the memory already.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if seed is not None:
        keras.utils.set_random_seed(seed)
    strategy = _mirrored() if distribute else None
    return Hardware(
        name=workshop.device(),
        replicas=strategy.num_replicas_in_sync if strategy else 1,
        policy="mixed_float16" if gpus else "float32",
        xla=bool(gpus) and not distribute,
        deterministic=deterministic,
        strategy=strategy,
    )


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    """Make the process's one strategy: a second one would not share its devices."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def free_memory() -> None:
    """Forget the graphs and names that Keras keeps, so that runs in a row need no more memory.

    Delete your own references to the model first (`del model`).
    """
    keras.utils.clear_session(free_memory=True)
    gc.collect()


def machine() -> dict[str, Any]:
    """Describe this machine for a record: processor or GPU, cores and versions.

    Holds no host name, no user and no path.
    """
    return {
        "device": workshop.device(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


class Progress:
    """Shows a training: steps, time left, best figure, curves, and a button to stop it.

    In a notebook these are widgets, changed by their traits only, so they also work while the
    training runs in a thread. Elsewhere each round prints one line.

    Args:
        persistence: the distance of persistence, drawn beside the curve.
        curves: draw curves after each round.
        display: show the widgets when the training begins; False if you place `widget` yourself.

    Attributes:
        stop: a `threading.Event`; set, it stops the training.
        widget: an ipywidgets box, or None outside notebooks.
    """

    def __init__(
        self, *, persistence: float | None = None, curves: bool = True, display: bool = True
    ):
        self.persistence, self.curves, self.display = persistence, curves, display
        self.stop = threading.Event()
        self.widget = None
        self._parts = _widgets() if _in_notebook() else None
        if self._parts:
            self.widget = self._parts.box
            self._parts.button.on_click(lambda _: self.stop.set())

    def begin(self, history: History) -> None:
        """Show the start; called by `fit`."""
        self.stop.clear()
        self._history, self._from = history, history.step
        self._start, self._shown, self._drawn, self._cost = None, 0.0, 0.0, 0.0
        if self._parts:
            self._parts.button.disabled = False
            self._parts.bar.max = history.steps
            if self.display:
                self._parts.show()
        self._status(history.step, "starting")
        self._draw()

    def advance(self, step: int, figures: Mapping[str, float]) -> None:
        """Show a step; called by `fit`."""
        now = time.monotonic()
        if self._start is None:
            # The first step compiles the model, which says nothing about the others.
            self._start, self._from = now, step
        if now - self._shown > 0.5:
            self._shown = now
            loss = f"loss {figures['loss']:.4g}" if "loss" in figures else ""
            self._status(step, self._left(step, now), loss)

    def record(self, history: History) -> None:
        """Show a round; called by `fit`."""
        self._history = history
        left = self._left(history.step, time.monotonic())
        self._status(history.step, left)
        if self._parts is None and threading.current_thread() is threading.main_thread():
            row = history.rows[-1]
            shown = [f"{name} {row[name]:.4g}" for name in ("loss", history.monitor) if name in row]
            print(self._line(history.step, *shown, left), flush=True)
        # Where a round takes less than the picture, most pictures are left out.
        if time.monotonic() - self._drawn > 20 * self._cost:
            self._draw()

    def finish(self, history: History, trouble: str = "") -> None:
        """Show the end; called by `fit`."""
        self._history = history
        stopped = f"stopped ({history.stopped})" if history.stopped else ""
        self._status(history.step, trouble or stopped or "done")
        self._draw()
        if self._parts:
            self._parts.button.disabled = True

    def _left(self, step: int, now: float) -> str:
        if self._start is None or step <= self._from:
            return ""
        each = (now - self._start) / (step - self._from)
        return f"{_duration(each * (self._history.steps - step))} left"

    def _line(self, step: int, *parts: str) -> str:
        best = self._history.best
        if best:
            parts += (f"best {best[self._history.monitor]:.4f}",)
        if self.persistence is not None:
            parts += (f"persistence {self.persistence:.4f}",)
        parts = (f"step {step} of {self._history.steps}", *parts)
        return " · ".join(part for part in parts if part)

    def _status(self, step: int, *parts: str) -> None:
        if self._parts:
            self._parts.bar.value = step
            self._parts.line.value = html.escape(self._line(step, *parts))

    def _draw(self) -> None:
        """Draw the curves, if there is something to see and somewhere to show it."""
        if not (self._parts and self.curves and self._history.rows):
            return
        from helpers.pictures import learning_curves

        start = time.monotonic()
        picture = learning_curves(
            self._history.table(), distance=self._history.monitor, persistence=self.persistence
        )
        self._parts.image.value = picture.png()
        self._parts.image.layout.display = None
        self._drawn = time.monotonic()
        self._cost = self._drawn - start


@dataclass(frozen=True)
class _Widgets:
    """The parts of a progress display."""

    line: Any
    bar: Any
    button: Any
    image: Any
    box: Any

    def show(self) -> None:
        from IPython.display import display

        bundle = self.box._repr_mimebundle_()
        # What readers see where no widgets run, for example on a web page of the notebook.
        bundle["text/plain"] = "Progress of the training (live only)"
        display(bundle, raw=True)


def _widgets() -> _Widgets | None:
    try:
        import ipywidgets
    except ImportError:
        return None
    line = ipywidgets.HTML()
    bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "70%"})
    button = ipywidgets.Button(description="Stop", icon="stop", layout={"width": "25%"})
    image = ipywidgets.Image(format="png", layout={"max_width": "100%", "display": "none"})
    row = ipywidgets.HBox([bar, button])
    return _Widgets(line, bar, button, image, ipywidgets.VBox([line, row, image]))


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this, without importing IPython for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _check_arguments(model: keras.Model, plan: Plan, resume: bool | str) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan is {plan!r}; expected a Plan.")
    if resume not in (True, False, "auto"):
        raise ValueError(f"resume is {resume!r}; choose True, False or 'auto'.")
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model is not compiled: call model.compile(plan.optimizer(), voxel_loss(), "
            "metrics=[keras_jaccard('pooled')], **hardware().compile_options()) first."
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            f"steps_per_execution is {model.steps_per_execution}; compile with 1, so that a run "
            "can stop at each step."
        )
    if any(getattr(_inner(optimizer), "use_ema", False) for optimizer in _optimizers(model)):
        raise ValueError(
            "The optimizer has use_ema=True, which would replace the weights after each round; "
            "compile with use_ema=False."
        )


def _check_batches(model, dataset, what: str, plan: Plan | None = None) -> None:
    """Check what can be known of a dataset before it is read."""
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"{what} gives {type(dataset).__name__}; expected a tf.data.Dataset.")
    endless = int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY
    if plan and not endless and int(dataset.cardinality()) != tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            f"{what} ends after {int(dataset.cardinality())} batches; it must go on without end: "
            "pass repeat=True."
        )
    if not plan and (endless or int(dataset.cardinality()) == 0):
        raise ValueError(
            f"{what} {'never ends' if endless else 'is empty'}; expected a dataset of some batches."
        )
    size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    if plan and size not in (None, plan.batch_size):
        raise ValueError(
            f"{what} has {size} examples in a batch, the plan {plan.batch_size}; make them agree."
        )
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1 and (size is None or size % replicas):
        raise ValueError(
            f"{what} has batches of {size or 'unequal size'}; {replicas} devices need batches of "
            f"one size that {replicas} divides: pass drop_remainder=True and such a batch_size."
        )


def _check_validation(model, validation, monitor: str) -> int:
    """Find out before the training whether validation gives what is needed; count its batches."""
    if validation is None:
        return 0
    _check_batches(model, validation, "validation")
    found = _figures(model, validation, 1)
    if monitor not in found:
        raise ValueError(
            f"monitor is {monitor!r}, but the validation gives {', '.join(found)}; choose one of "
            "them, or compile the model with that metric."
        )
    count = int(validation.cardinality())
    return count if count > 0 else sum(1 for _ in validation)


def _build(model: keras.Model, dataset: tf.data.Dataset) -> None:
    """Make all variables exist, so that they can be saved and restored."""
    with model.distribute_strategy.scope():
        if not model.built or not model.variables:
            inputs, *_ = next(iter(dataset.take(1)))
            model(inputs)
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
    if not all(optimizer.built for optimizer in _optimizers(model)):
        raise ValueError(
            "An optimizer of the model has no variables yet: call its build(variables) in the "
            "model's compile."
        )


def _optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Find the optimizers among the model's attributes, in the order of their names."""
    attributes = [value for _, value in sorted(vars(model).items(), key=operator.itemgetter(0))]
    found = {id(a): a for a in attributes if isinstance(a, keras.optimizers.Optimizer)}
    return list(found.values())


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Look through the loss scaling of mixed precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Name the model's weights by place and kind: layer names may carry a counter."""
    if not model.weights:
        raise ValueError("The model has no weights yet: call it on one batch to build it.")
    return {
        f"{n:04}/{re.sub(r'_[0-9]+$', '', weight.name)}": weight
        for n, weight in enumerate(model.weights)
    }


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _assign(arrays: Mapping[str, np.ndarray], variables: Mapping, path: Path) -> None:
    """Set variables from arrays: all of them, or none if one does not fit."""
    missing = [name for name in variables if name not in arrays]
    extra = [name for name in arrays if name not in variables]
    if missing or extra:
        raise CheckpointError(
            f"{path} does not fit the model: {len(arrays)} arrays for {len(variables)} variables "
            f"(missing: {', '.join(missing[:4]) or 'none'}; unknown: "
            f"{', '.join(extra[:4]) or 'none'}). Build the model with the configuration it was "
            "trained with."
        )
    for name, variable in variables.items():
        if arrays[name].shape != tuple(variable.shape):
            raise CheckpointError(
                f"{path} does not fit the model: {name} ({variable.path}) has shape "
                f"{arrays[name].shape} in the file and {tuple(variable.shape)} in the model. "
                "Build the model with the configuration it was trained with."
            )
        if not _is_finite(arrays[name]):
            raise CheckpointError(f"{path}: {name} holds values that are not finite.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _configuration(model: keras.Model, config: Any) -> Any:
    """Return the model's configuration as JSON would give it back, or None if it is not known."""
    config = getattr(model, "config", None) if config is None else config
    if config is None:
        return None
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise TypeError(f"config is {config!r}; expected a dataclass or a mapping.")
    try:
        return json.loads(json.dumps(dict(config)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"config cannot be written as JSON ({error}): {config!r}.") from error


def _differences(then: Any, now: Any, where: str = "checkpoint", field: str = "") -> str:
    """Say in which fields two nested mappings differ."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        absent = "absent"
        each = [
            _differences(then.get(key, absent), now.get(key, absent), where, f"{field}.{key}")
            for key in {**then, **now}
        ]
        return "; ".join(text for text in each if text)
    return "" if then == now else f"{field.strip('.')} is {then!r} in the {where}, {now!r} here"


def _check_finite(figures: Mapping[str, float], step: int) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise _diverged(f"{name} = {value}", step)


def _diverged(what: str, step: int) -> FloatingPointError:
    return FloatingPointError(
        f"Training diverged: {what} at step {step} is not finite. The last good checkpoint is "
        "kept. Lower the learning rate, lengthen the warm-up, or clip the gradient more."
    )


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _npz(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path} must end in .npz; its description is the .json beside it.")
    return path


def _check_version(version: Any, path: Path) -> None:
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {version!r}; this course reads up to {FORMAT_VERSION}. "
            "Update the course."
        )


def _read(path: Path, remedy: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Read a whole archive: what it says of itself (shipped weights: nothing) and its arrays."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop(_META).tobytes()) if _META in arrays else {}
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({type(error).__name__}: {error}); {remedy}."
        ) from error
    if meta:
        _check_version(meta.get("format_version"), path)
    return meta, arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray], meta: dict | None = None) -> None:
    """Write an archive in place of the one before."""
    if meta is not None:
        arrays = {**arrays, _META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    with _files.replacing(path) as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say what to do where the system refuses to write."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error}). Make room, make it writable or choose another "
            "folder, then run again; the files written before are kept."
        ) from error
