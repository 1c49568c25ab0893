"""What a training needs beside Keras: loss, schedule, and callbacks to keep, resume and stop it.

A model is trained by `compile` and `fit` of Keras, with callbacks, each of which may be left out:
`Checkpoint`, `Stop` and `helpers.panels.progress.Progress`. `train` puts them together.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import _checks, _files, workshop
from helpers.models import weights
from helpers.models.weights import CheckpointError

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import tensorflow as tf
else:
    keras = workshop.keras()
ops = keras.ops

CHECKPOINT_VERSION = 2  # of what is in a run's folder
DECAYS = ("cosine", "linear", "none")
CHECKPOINT, BEST, STOP, OWNER = "checkpoint.npz", "best.npz", "stop", ".owner"
ABOUT = "meta.json"  # the entry in which a file of a run says what it holds
ELSEWHERE, ANEW = "choose another folder", "start anew with resume=False"
HOW_TO_FIT = (
    "Before each fit call start = checkpoint.restore(model); then fit batches(start) with "
    "initial_epoch=checkpoint.epoch, epochs=plan.epochs and steps_per_epoch=plan.epoch."
)


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
        return WarmUpAndDecay(self)

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Return a new AdamW that follows the plan."""
        optimizer = keras.optimizers.AdamW(
            self.schedule(), weight_decay=self.weight_decay, global_clipnorm=self.clip_norm
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a straight line, stays, and falls to 0; see `Plan`."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def __call__(self, step):
        """Return the rate, float32 (), of step 0, 1, …"""
        plan, step = self.plan, ops.cast(step, "float32")
        rate = ops.cast(plan.learning_rate, "float32")
        if plan.warm_up:
            rate = rate * ops.minimum((step + 1) / plan.warm_up, 1.0)
        if plan.decay == "none":
            return rate
        start = plan.decay_from * plan.steps
        gone = ops.clip((step - start) / (plan.steps - start), 0.0, 1.0)
        return rate * (1 - gone if plan.decay == "linear" else (1 + ops.cos(math.pi * gone)) / 2)


class voxel_loss(keras.losses.Loss):
    """The loss of the course: cross-entropy of each voxel, and a little of what is judged.

    For targets t and predicted probabilities p, (B, ..., D, H, W, 1) or (B, ..., D, H, W), it is
    the mean over voxels of the binary cross-entropy, plus `jaccard_weight` times the soft Jaccard
    distance 1 - Σpt / Σ(p + t - pt), summed over all voxels of a sample. Empty against empty is
    0. It is computed in float32 and finite for every p in 0…1, 0 and 1 included.

    Args:
        jaccard_weight: 0 or above; 0 is cross-entropy alone.

    Source: soft Jaccard as in M. A. Rahman and Y. Wang, 2016 (doi 10.1007/978-3-319-50835-1_22).
    """

    def __init__(self, jaccard_weight: float = 0.05):
        super().__init__(name="voxel_loss", dtype="float32")
        self.jaccard_weight = _checks.number("jaccard_weight", jaccard_weight, 0)

    def call(self, y_true, y_pred):
        """Return the loss of each sample, float32 (B,)."""
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        unequal = [(a, b) for a, b in zip(*shapes) if None not in (a, b) and a != b]
        if unequal or len(shapes[0]) != len(shapes[1]):
            raise ValueError("Target {} and prediction {} must agree in shape.".format(*shapes))
        axes = tuple(range(1, len(y_pred.shape)))
        loss = ops.mean(ops.binary_crossentropy(y_true, y_pred), axis=axes)
        if not self.jaccard_weight:
            return loss
        both = ops.sum(y_true * y_pred, axis=axes)
        either = ops.sum(y_true + y_pred - y_true * y_pred, axis=axes)
        # Without the inner choice, the gradient at an empty union would be NaN.
        distance = ops.where(either > 0, 1 - both / ops.where(either > 0, either, 1.0), 0.0)
        return loss + self.jaccard_weight * distance


class Checkpoint(keras.callbacks.Callback):
    """Keeps all that is needed to go on exactly, and the weights of the best round.

    After each full round (an epoch of Keras) the folder receives `checkpoint.npz`: weights, the
    state of the optimizer or optimizers, of random numbers, the step, and a row per round (see
    `read_log`). `best.npz` holds the weights of the best round (see `load_best`). A run that was
    stopped, killed or broken off goes on from its last full round and ends with the weights of one
    that was never stopped, bit for bit where arithmetic repeats itself.

    Whatever draws at random in the model owns its `keras.random.SeedGenerator`; a model with a
    training step of its own keeps its optimizers as attributes and builds them in `compile`.

    Args:
        folder: made where it is missing. One folder is for one run, and for one process at a time.
        plan: what the batches and the optimizer were made with.
        monitor: what tells the best round, lower is better.
        resume: go on where the folder holds a checkpoint; False starts anew and gives up what the
            folder holds.

    Attributes:
        rows: one mapping per round: `step`, `seconds` so far with validation and checkpoints, and
            what Keras reports, training figures as the mean over the round, validation figures
            with `val_` before their names.
        step: how many steps are in the checkpoint.

    Raises:
        FloatingPointError: within `fit`, a loss, a metric or a weight is no longer finite.
        ValueError: the batches end early; the validation does not give the monitored figure;
            `fit` was not called as `train` does it.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        plan: Plan,
        monitor: str = "val_jaccard_pooled",
        *,
        resume: bool = True,
    ):
        super().__init__()
        self.folder, self.plan, self.monitor, self.resume = Path(folder), plan, monitor, resume
        self.rows: list[dict[str, float]] = []
        self.step, self._now = 0, 0  # of the checkpoint, and of the batch at hand
        self._restored = None  # the model that `fit` may train now
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
        config = weights.configuration(model)
        settings = {"plan": asdict(self.plan), "configuration": config, "monitor": self.monitor}
        with _files.writing(self.folder, ELSEWHERE), contextlib.ExitStack() as owned:
            self.folder.mkdir(parents=True, exist_ok=True)
            owned.enter_context(owning(self.folder))
            if self.resume and (self.folder / CHECKPOINT).exists():
                self.step, self.rows = self._read(model, settings)
            else:
                self._begin(model)
                self.step, self.rows = 0, []
            _files.clear(self.folder)
            self._owned.close()
            self._owned = owned.pop_all()
        self._settings, self._restored = settings, model
        if self.step >= self.plan.steps:
            print(
                f"This run has done all its {self.step} steps. To train anew, build and compile "
                "the model again and pass resume=False to Checkpoint, or choose another folder."
            )
        return self.step

    def _read(self, model: keras.Model, settings: dict) -> tuple[int, list[dict[str, float]]]:
        """Take the model's state from the checkpoint; return the step and the rounds."""
        path = self.folder / CHECKPOINT
        about, arrays = read_run(path)
        if found := _differences(about["settings"], settings):
            raise CheckpointError(
                f"{path} belongs to another run: {found}. Train in another folder, or start anew "
                "with resume=False, which gives up what this folder holds."
            )
        weights.assign(arrays, weights.named_variables(model), path)
        return about["step"], about["rows"]

    def _begin(self, model: keras.Model) -> None:
        """Empty the folder for a model that has not been trained."""
        steps = [ops.convert_to_numpy(each.iterations) for each in weights.optimizers(model)]
        done = int(max(steps, default=0))
        if done:
            raise ValueError(
                f"The optimizer has already made {done} steps, so its schedule would not start at "
                "the beginning: build and compile the model again to start anew."
            )
        for name in (CHECKPOINT, BEST):
            (self.folder / name).unlink(missing_ok=True)

    def on_train_begin(self, logs=None):
        if self._restored is not self.model or self.params["steps"] != self.plan.epoch:
            raise ValueError(HOW_TO_FIT)
        self._restored = None  # what follows is another state
        self._since = time.monotonic() - (self.rows[-1]["seconds"] if self.rows else 0)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            raise ValueError(HOW_TO_FIT)
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
        self._write({"step": self._now, "seconds": time.monotonic() - self._since, **figures})

    def on_train_end(self, logs=None):
        self._owned.close()

    def _is_full(self) -> bool:
        """Tell whether the round at hand has all its steps."""
        return self._now in (self.step + self.plan.epoch, self.plan.steps)

    def _write(self, row: dict[str, float]) -> None:
        """Write the best weights and the checkpoint of a full round."""
        arrays = weights.as_arrays(weights.named_variables(self.model))
        _check_finite(arrays, self._now)
        about = {"format_version": CHECKPOINT_VERSION, "settings": self._settings}
        rows, best = [*self.rows, row], self.best
        with _files.writing(self.folder, ELSEWHERE):
            if self.monitor in row and (best is None or row[self.monitor] < best[self.monitor]):
                found = weights.as_arrays(weights.named_weights(self.model))
                write_run(self.folder / BEST, found, {**about, "row": row})
            about |= {"step": self._now, "rows": rows}
            write_run(self.folder / CHECKPOINT, arrays, about)
            self.step, self.rows = self._now, rows


def owning(folder: Path) -> contextlib.AbstractContextManager:
    """Keep other processes from training in a run's folder; this one may ask several times."""
    return _files.lock(folder / OWNER, ELSEWHERE, wait=False, again=True)


class Stop(keras.callbacks.Callback):
    """Ends a training at the next step when somebody asks; the begun round is given up.

    The next `checkpoint.restore(model)` takes it up again at its last full round. It can be asked
    by `request`, by an event, by a file named `stop` in the folder (from another window, or from
    another computer), or, in `train`, by Ctrl-C or the kernel's interrupt.

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
        self.reason = ""

    def request(self, reason: str = "button") -> None:
        """Ask for a stop, from any thread."""
        self.reason = self.reason or reason

    def on_train_begin(self, logs=None):
        self.reason = ""

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


def train(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    checkpoint: Checkpoint,
    *,
    validation: tf.data.Dataset | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> Checkpoint:
    """Restore a compiled model, let Keras train it to the end of its plan; return the checkpoint.

    Args:
        batches: gives the training batches from any step on, without end.
        validation: a dataset that ends, or a `keras.utils.PyDataset`; None validates nothing and
            keeps no best weights.
        callbacks: for example `Stop(folder)`.
    """
    try:
        known = validation is None or len(validation) > 0
    except TypeError:  # of an endless dataset, or one of unknown length
        known = False
    if not known:
        # Keras would count one batch too many where it is not told, and every mean be too small.
        raise ValueError(
            "validation must have a known number of batches, one or more: end it with .take(n), "
            "or tell Keras with .apply(tf.data.experimental.assert_cardinality(n))."
        )
    start, plan, callbacks = checkpoint.restore(model), checkpoint.plan, [checkpoint, *callbacks]
    try:
        model.fit(
            batches(start),
            initial_epoch=checkpoint.epoch,
            epochs=plan.epochs,
            steps_per_epoch=plan.epoch,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,  # the batches have an order of their own
            verbose=0,
        )
    except KeyboardInterrupt:
        stop = next((each for each in callbacks if isinstance(each, Stop)), None)
        if stop is None:
            raise
        stop.request("interrupt")
        for each in callbacks:  # Keras has told them nothing
            each.on_train_end()
    return checkpoint


def read_log(folder: str | Path) -> pd.DataFrame:
    """Return the rounds in a run's checkpoint, a row each."""
    import pandas as pd

    path = Path(folder) / CHECKPOINT
    return pd.DataFrame(read_run(path, whole=False)[0]["rows"] if path.exists() else [])


def load_best(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's best round into a built model; return the row of that round.

    Raises:
        FileNotFoundError: no round was validated, or for `load_last` finished, in this folder.
        CheckpointError: the file is damaged, of another version or belongs to another model.
    """
    path = Path(folder) / BEST
    about, arrays = read_run(path)
    weights.assign(arrays, weights.named_weights(model), path)
    return about["row"]


def load_last(folder: str | Path, model: keras.Model) -> dict[str, float]:
    """Put the weights of a run's checkpoint into the model: those of the last full round.

    For a loss that the validation does not see, such as a critic's opinion, the best round is
    the one in which that loss has done least.
    """
    path = Path(folder) / CHECKPOINT
    about, arrays = read_run(path)
    parts = (arrays, weights.named_variables(model))
    found, wanted = ({n: v for n, v in part.items() if n.startswith("model/")} for part in parts)
    weights.assign(found, wanted, path)
    return about["rows"][-1]


def _check_model(model: keras.Model) -> None:
    """See that a model can be trained, stopped at any step and taken up again."""
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model is not compiled: call model.compile(plan.optimizer(), voxel_loss(), "
            "metrics=[keras_jaccard('pooled')]) first."
        )
    weights.named_weights(model)
    if model.optimizer is not None and not model.optimizer.built:
        strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's models have one
        with strategy.scope() if strategy else contextlib.nullcontext():
            model.optimizer.build(model.trainable_variables)


def _differences(then: Any, now: Any, field: str = "") -> str:
    """Say in which fields two nested mappings differ."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        names = {**then, **now}
        each = (
            _differences(then.get(n, "absent"), now.get(n, "absent"), f"{field}.{n}") for n in names
        )
        return "; ".join(filter(None, each))
    return "" if then == now else f"{field[1:]} is {then!r} in the checkpoint, {now!r} here"


def _check_finite(figures: Mapping[str, Any], step: int) -> None:
    """See that figures, or arrays, are all finite at the end of a step."""
    for name, value in figures.items():
        if not np.isfinite(value).all():
            raise FloatingPointError(
                f"Training diverged: {name} is not finite at step {step}. The last good checkpoint "
                "is kept. Lower the learning rate, lengthen the warm-up, or clip the gradient more."
            )


def write_run(path: Path, arrays: Mapping[str, np.ndarray], about: dict) -> None:
    """Write arrays, and what JSON can hold about them, in place of the file before."""
    said = np.frombuffer(json.dumps(about).encode(), np.uint8)
    kept: dict[str, Any] = {**arrays, ABOUT: said}
    with _files.replacing(path) as file:
        np.savez(file, **kept)


def read_run(path: Path, whole: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what a file of a run says of its arrays, and these, or none if not `whole`."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: no round was {'validated' if path.name == BEST else 'finished'} "
            "in this folder. Train first."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(archive[ABOUT].tobytes())
            names = [name for name in archive.files if name != ABOUT] if whole else []
            arrays = {name: archive[name] for name in names}
    except OSError:
        raise
    except Exception as error:  # NumPy raises a dozen kinds, as a file can be damaged anywhere
        raise CheckpointError(f"{path} is truncated or damaged ({error!r}); {ANEW}.") from error
    version = about.get("format_version")
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} was written by another version of the course (format_version {version}; this "
            f"one reads {CHECKPOINT_VERSION}). Go on with that version, or {ANEW}."
        )
    return about, arrays
