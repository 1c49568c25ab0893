"""What a training needs beside Keras: loss, schedule, checkpoints, stop, weights with their cards.

A model is trained by `compile` and `fit` of Keras. What is here are callbacks, each of which may
be left out: `Checkpoint` keeps all that is needed to go on exactly, `Stop` ends a training from
outside. (`helpers.panels.progress.Progress` shows it.)

    checkpoint = Checkpoint(folder, plan)
    start = checkpoint.restore(model)  # 0 where there is none
    model.fit(
        batches(start),
        initial_epoch=checkpoint.epoch,
        epochs=plan.epochs,
        steps_per_epoch=plan.epoch,
        validation_data=validation,
        callbacks=[checkpoint, Stop(folder)],
        shuffle=False,  # the batches have an order of their own
    )
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gc
import importlib.metadata
import io
import json
import math
import operator
import platform
import re
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import _checks, _files, workshop

tf = workshop.tensorflow()

import keras  # noqa: E402  (TensorFlow comes first, and quietly)
from keras import ops  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1  # of weights with a card
CHECKPOINT_VERSION = 2  # of what is in a run's folder
DECAYS = ("cosine", "linear", "none")
CHECKPOINT, BEST, LOG, STOP, OWNER = "checkpoint.npz", "best.npz", "log.csv", "stop", ".owner"
ELSEWHERE = "choose another folder"
_META = "meta.json"


class CheckpointError(RuntimeError):
    """A checkpoint or a file of weights is damaged, or does not belong to this model or run."""


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
        validate_every: steps in a round, which Keras calls an epoch; after each one comes a
            validation and a checkpoint.
        seed: of the data order, 0 or above; also for the weights if you build the model with it.

    Raises:
        TypeError: a number is not whole, or no number.
        ValueError: a value is outside its range.
    """

    steps: int = _checks.field(least=1, whole=True)
    batch_size: int = _checks.field(16, least=1, whole=True)
    learning_rate: float = _checks.field(1e-3, above=0)
    warm_up: int = _checks.field(0, least=0, whole=True)
    decay: str = _checks.field("cosine", choices=DECAYS)
    decay_from: float = _checks.field(0.0, least=0, below=1)
    weight_decay: float = _checks.field(0.0, least=0)
    clip_norm: float | None = _checks.field(1.0, above=0, optional=True)
    validate_every: int = _checks.field(250, least=1, whole=True)
    seed: int = _checks.field(1, least=0, whole=True)

    def __post_init__(self):
        _checks.configuration(self)
        if self.warm_up > self.steps:
            raise ValueError(f"warm_up is {self.warm_up} of {self.steps} steps; take fewer.")

    @property
    def epoch(self) -> int:
        """Steps in an epoch of Keras."""
        return min(self.validate_every, self.steps)

    @property
    def epochs(self) -> int:
        """How many there are; `Checkpoint` ends the last one early where it would be too long."""
        return math.ceil(self.steps / self.epoch)

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


class Checkpoint(keras.callbacks.Callback):
    """Keeps all that is needed to go on exactly, and the weights of the best round.

    After each full round (an epoch of Keras) the folder receives `checkpoint.npz`: weights, the
    state of the optimizer or optimizers, of random numbers, and the step. It is replaced in one
    step, so whoever kills the process loses one round at most. `best.npz` holds the weights of the
    best round (see `load_best`), `log.csv` a line per round. A run that was stopped, killed or
    broken off goes on from its last full round (or, before there is one, begins anew) and ends
    with the weights of one that was never stopped, bit for bit where arithmetic repeats itself
    (`hardware(deterministic=True)`).

    Whatever draws at random in the model owns its `keras.random.SeedGenerator`; a model with a
    training step of its own keeps its optimizers as attributes and builds them in `compile`.

    Args:
        folder: made where it is missing. One folder is for one run, and for one process at a time.
        plan: what the batches and the optimizer were made with.
        monitor: what tells the best round, lower is better.
        config: the model's configuration, a dataclass or a mapping; by default `model.config`.
        resume: go on where the folder holds a checkpoint; False starts anew and gives up what the
            folder holds.

    Attributes:
        rows: one mapping per round: `step`, `seconds`, and what Keras reports, training figures
            as the mean over the round, validation figures with `val_` before their names.
        step: how many steps are in the checkpoint.

    Raises (from within `fit`):
        FloatingPointError: the loss, a metric or a weight is no longer finite. The last
            checkpoint is kept.
        ValueError: the batches end early; the monitored figure is not among those of the
            validation; `fit` was not called as this module says at its beginning.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        plan: Plan,
        monitor: str = "val_jaccard_pooled",
        *,
        config: Any = None,
        resume: bool = True,
    ):
        super().__init__()
        if not isinstance(plan, Plan):
            raise TypeError(f"plan is {plan!r}; expected a Plan.")
        self.folder, self.plan, self.monitor = Path(folder), plan, monitor
        self.config, self.resume = config, resume
        self.rows: list[dict[str, float]] = []
        self.step, self._now, self._restored = 0, 0, None
        self._owned = contextlib.ExitStack()

    @property
    def epoch(self) -> int:
        """How many rounds are done: the `initial_epoch` to go on with."""
        return len(self.rows)

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

        return pd.DataFrame(self.rows)

    def restore(self, model: keras.Model) -> int:
        """Put a compiled model where the run is, and return the step to go on from.

        Raises:
            CheckpointError: the checkpoint is damaged, or was written by another version or with
                another plan, configuration or model. The model is left as it was.
            ValueError: the model is not compiled or not built, or it is to start anew and has
                been trained already.
            OSError: another process trains in this folder, or it cannot be written.
        """
        _check_model(model)
        settings = {
            "plan": dataclasses.asdict(self.plan),
            "configuration": _configuration(model, self.config),
            "monitor": self.monitor,
        }
        with contextlib.ExitStack() as owned, _files.writing(self.folder, ELSEWHERE):
            self.folder.mkdir(parents=True, exist_ok=True)
            owned.enter_context(owning(self.folder))
            self._restore(model, json.loads(json.dumps(settings)))
            self._owned.close()
            self._owned = owned.pop_all()
        # Where a fit was broken off, Keras would go on with the validation data of that one.
        model._eval_epoch_iterator = None
        if self.step >= self.plan.steps:
            print(
                f"This run has done all its {self.step} steps, so there is nothing left to train. "
                "To train anew, build and compile the model again and pass resume=False to "
                "Checkpoint, or choose another folder."
            )
        return self.step

    def _restore(self, model: keras.Model, settings: dict) -> None:
        path, step, rows = self.folder / CHECKPOINT, 0, []
        if self.resume and path.exists():
            meta, arrays = _read_run(path, "start anew with resume=False")
            if differences := _differences(meta["settings"], settings):
                raise CheckpointError(
                    f"{path} belongs to another run: {differences}. Train in another folder, or "
                    "start anew with resume=False, which gives up what this folder holds."
                )
            _assign(arrays, _variables(model), path)
            step, rows = meta["step"], meta["rows"]
        else:
            done = max(int(_inner(each).iterations.numpy()) for each in _optimizers(model))
            if done:
                raise ValueError(
                    f"The optimizer has already made {done} steps, so its schedule would not "
                    "start at the beginning: build and compile the model again to start anew."
                )
            for name in (CHECKPOINT, BEST, LOG):
                (self.folder / name).unlink(missing_ok=True)
        for left in self.folder.glob(".*.tmp"):  # of a process that was killed
            left.unlink()
        self.step, self.rows, self._settings, self._restored = step, rows, settings, model
        self._write_log()

    def on_train_begin(self, logs=None):
        if self._restored is not self.model:
            raise ValueError("Call checkpoint.restore(model) before each model.fit.")
        self._restored = None  # what follows is another state
        if self.params["steps"] != self.plan.epoch:
            raise ValueError(
                f"steps_per_epoch is {self.params['steps']}; pass plan.epoch, {self.plan.epoch}."
            )
        self._since = time.monotonic() - self.seconds

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            raise ValueError(f"initial_epoch is {epoch}; pass checkpoint.epoch, {self.epoch}.")
        self._now = self.step

    def on_train_batch_end(self, batch, logs=None):
        self._now += 1
        _check_finite(logs or {}, self._now)
        if self._now >= self.plan.steps:
            self.model.stop_training = True

    def on_test_batch_begin(self, batch, logs=None):
        # A round that was given up needs no validation.
        if self.model.stop_training and not self._is_full():
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch, logs=None):
        if not self._is_full():
            if not self.model.stop_training:
                raise ValueError(
                    f"The batches ended at step {self._now}, within a round; they must go on "
                    f"without end: pass repeat=True. The last checkpoint is of step {self.step}."
                )
            return
        figures = {name: float(value) for name, value in (logs or {}).items()}
        _check_finite(figures, self._now)
        validated = [name for name in figures if name.startswith("val_")]
        if validated and self.monitor not in figures:
            raise ValueError(
                f"monitor is {self.monitor!r}, but the validation gives {', '.join(validated)}; "
                "choose one of them, or compile the model with that metric."
            )
        row = {"step": self._now, "seconds": time.monotonic() - self._since, **figures}
        self._write(row)

    def on_train_end(self, logs=None):
        self._owned.close()

    def _is_full(self) -> bool:
        """Tell whether the round at hand has all its steps."""
        return self._now in (self.step + self.plan.epoch, self.plan.steps)

    def _write(self, row: dict[str, float]) -> None:
        """Write best weights, checkpoint and log of a full round."""
        arrays = {name: _array(variable) for name, variable in _variables(self.model).items()}
        bad = [name for name, array in arrays.items() if not _is_finite(array)]
        if bad:
            raise _diverged(f"{len(bad)} of {len(arrays)} arrays ({bad[0]} first)", self._now)
        meta = {"format_version": CHECKPOINT_VERSION, "settings": self._settings}
        rows, best = [*self.rows, row], self.best
        with _files.writing(self.folder, ELSEWHERE):
            if self.monitor in row and (not best or row[self.monitor] < best[self.monitor]):
                weights = {name: _array(v) for name, v in _weights(self.model).items()}
                _write(self.folder / BEST, weights, {**meta, "row": row})
            now = {**meta, "step": self._now, "rows": rows}
            _write(self.folder / CHECKPOINT, arrays, now)
            self.step, self.rows = self._now, rows
            self._write_log()

    def _write_log(self) -> None:
        text = io.StringIO()
        names = list(self.rows[0]) if self.rows else ["step"]
        writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with _files.replacing(self.folder / LOG) as file:
            file.write(text.getvalue().encode())


@contextlib.contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a run's folder; this one may ask several times.

    Raises:
        OSError: another process trains there.
    """
    try:
        with _files.lock(folder / OWNER, ELSEWHERE, wait=False, again=True):
            yield
    except _files.InUse as error:
        raise _files.InUse(
            f"{folder}: another process trains in this folder. Wait until it has ended, or "
            f"{ELSEWHERE}."
        ) from error


class Stop(keras.callbacks.Callback):
    """Ends a training at the next step when somebody asks; the begun round is given up.

    The next `checkpoint.restore(model)` takes it up again at its last full round. It can be asked
    by `request`, by an event, by a file named `stop` in the folder (from another window, or from
    another computer), or by Ctrl-C or the kernel's interrupt (a second one breaks off at once).

    Args:
        folder: where the file is looked for; None looks for none.
        event: anything with a method `is_set()`.

    Attributes:
        reason: what stopped the training: `"event"`, `"interrupt"`, `"file"`, or what `request`
            was told; empty if nothing did.
    """

    def __init__(self, folder: str | Path | None = None, event: threading.Event | None = None):
        super().__init__()
        self.file, self.event = Path(folder) / STOP if folder is not None else None, event
        self.reason, self._before = "", None

    def request(self, reason: str = "button") -> None:
        """Ask for a stop, from any thread."""
        self.reason = self.reason or reason

    def on_train_begin(self, logs=None):
        self.reason, self._before = "", signal.getsignal(signal.SIGINT)
        # Only the main thread may listen; a job in the background has been told not to.
        here = threading.current_thread() is threading.main_thread()
        if not here or self._before in (None, signal.SIG_IGN):
            self._before = None
        else:
            signal.signal(signal.SIGINT, self._interrupted)

    def on_train_batch_end(self, batch, logs=None):
        if self.event and self.event.is_set():
            self.request("event")
        elif self.file and self.file.exists():
            self.file.unlink(missing_ok=True)
            self.request("file")
        if self.reason:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_batch_end(epoch)

    def on_train_end(self, logs=None):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number, frame):
        """Take the first interrupt as a request; the second one does what it always does."""
        signal.signal(signal.SIGINT, self._before)
        within = frame
        while within and within.f_locals.get("self") is not self.model:
            within = within.f_back
        if within:
            self.request("interrupt")
        elif callable(self._before):
            # An error has ended the training without on_train_end: nothing is left to stop.
            self._before(number, frame)


def train(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    checkpoint: Checkpoint,
    *,
    validation: tf.data.Dataset | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> Checkpoint:
    """Restore a compiled model and let Keras train it to the end of its plan.

    Args:
        model: compiled.
        batches: gives the training batches from any step on, without end.
        checkpoint: says where, and by which plan.
        validation: a dataset that ends; None validates nothing and keeps no best weights.
        callbacks: for example `Stop(folder)`.

    Returns:
        The checkpoint.

    Raises:
        see `Checkpoint` and its `restore`.
    """
    start, plan = checkpoint.restore(model), checkpoint.plan
    model.fit(
        batches(start),
        initial_epoch=checkpoint.epoch,
        epochs=plan.epochs,
        steps_per_epoch=plan.epoch,
        validation_data=None if validation is None else counted(validation),
        callbacks=[checkpoint, *callbacks],
        shuffle=False,
        verbose=0,
    )
    return checkpoint


def counted(data: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset for validation that knows how many batches it has.

    Where it does not know, Keras counts one too many, and every mean comes out too small.

    Raises:
        ValueError: it is empty, or never ends.
    """
    count = int(data.cardinality())
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = sum(1 for _ in data)
        data = data.apply(tf.data.experimental.assert_cardinality(count))
    if count < 1:
        kind = "never ends" if count == tf.data.INFINITE_CARDINALITY else "is empty"
        raise ValueError(f"validation {kind}; expected a dataset of some batches.")
    return data


def load_best(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's best round into the model.

    Args:
        folder: that of its `Checkpoint`.
        model: built, of the configuration that was trained.

    Returns:
        The row of that round: its step, training and validation figures.

    Raises:
        FileNotFoundError: no round was validated in this folder.
        CheckpointError: the file is damaged, of another version or belongs to another model.
    """
    meta, arrays = _read_run(Path(folder) / BEST, "train again")
    _assign(arrays, _weights(model), Path(folder) / BEST)
    return meta["row"]


def load_last(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's checkpoint into the model: those of the last full round.

    For a loss that the validation does not see, such as a critic's opinion, the best round is
    the one in which that loss has done least.

    Args, Returns, Raises: see `load_best`.
    """
    path = Path(folder) / CHECKPOINT
    meta, arrays = _read_run(path, "train again")
    wanted = {name: array for name, array in arrays.items() if name.startswith("model/")}
    _assign(wanted, {name: v for name, v in _variables(model).items() if name in wanted}, path)
    return meta["rows"][-1]


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
    with _files.writing(path.parent, ELSEWHERE):
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
        policy: the Keras dtype policy, `float32` or `mixed_float16`.
        xla: whether the training step is compiled with XLA.
        deterministic: whether the same run gives the same bits.
    """

    name: str
    policy: str
    xla: bool
    deterministic: bool

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build and compile the model in here: sets the dtype policy."""
        # Keras keeps the policy per thread, and clear_session forgets it: so it is set here.
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)

    def compile_options(self) -> dict[str, Any]:
        """Return what `model.compile` needs to know."""
        return {"jit_compile": self.xla}


def hardware(*, deterministic: bool = False, seed: int | None = None) -> Hardware:
    """Choose how this machine is used: the one place for device set-up.

    With a GPU: memory as needed instead of all at once, float16 arithmetic with float32 weights,
    and XLA. On a CPU neither helps, so everything stays float32 and uncompiled.

    Several GPUs share each batch if the model is built and compiled, without XLA, within
    `tf.distribute.MirroredStrategy().scope()`. Their number has to divide `batch_size`.

    Args:
        deterministic: make every operation repeat its bits, at some cost; for this process.
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
    policy = "mixed_float16" if gpus else "float32"
    return Hardware(workshop.device(), policy, bool(gpus), deterministic)


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


def _check_model(model: keras.Model) -> None:
    """See that a model can be trained, stopped at any step and taken up again."""
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
            "The optimizer has use_ema=True, which would replace the weights at the end of each "
            "fit; compile with use_ema=False."
        )
    _weights(model)
    with model.distribute_strategy.scope():
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


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Name all that changes while a model is trained, seed generators among it."""
    found = {f"model/{n:04}": variable for n, variable in enumerate(model.variables)}
    for place, optimizer in enumerate(_optimizers(model)):
        for n, variable in enumerate(optimizer.variables):
            found[f"optimizer{place}/{n:04}"] = variable
    return found


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
    return meta, arrays


def _read_run(path: Path, remedy: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Read a file of a run's folder, if this version of the course wrote it."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: no round was {'validated' if path.name == BEST else 'finished'} "
            "in this folder. Train first."
        )
    meta, arrays = _read(path, remedy)
    version = meta.get("format_version")
    if version != CHECKPOINT_VERSION:
        earlier = version == 1 or version is None
        raise CheckpointError(
            f"{path} was written by {'an earlier' if earlier else 'a later'} version of the course "
            f"(format_version {version}; this one reads {CHECKPOINT_VERSION}). Go on with that "
            f"version, or {remedy}."
        )
    return meta, arrays


def _write(path: Path, arrays: Mapping[str, np.ndarray], meta: dict | None = None) -> None:
    """Write an archive in place of the one before."""
    if meta is not None:
        arrays = {**arrays, _META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    with _files.replacing(path) as file:
        np.savez(file, **arrays)
