"""The laboratory: turn a knob, train for a while, see what it does; and the rollout explorer.

The first half needs no widgets: `Settings` say what is trained, `Session` trains and keeps every
run in a `RunTable`. The second half is a thin layer of ipywidgets over it: `laboratory` and
`explorer`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import functools
import html
import json
import math
import numbers
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from helpers import (
    _files,
    convlstm,
    metrics,
    pictures,
    records,
    rollout,
    sequences,
    training,
    wgan_gp,
    workshop,
)
from helpers.models import patchnet
from helpers.sequences import FORMATS

tf = workshop.tensorflow()

import keras  # noqa: E402  (after the quiet import of TensorFlow)

RUN, PREVIEW, CSV, LOCK = "run.json", "preview.npz", "runs.csv", "lock"
FORMAT_VERSION = 1
MONITOR = "val_jaccard"
TARGETS = 4  # every run of a format is judged on the last so many frames
SHOWN = 24  # validation sequences whose forecasts can be looked at
WARM_UP = 0.1  # of the steps, in which the learning rate rises
ROUNDS = 8  # validations in a run, but not
SHORTEST_ROUND, LONGEST_ROUND = 15, 250  # fewer or more steps between two of them than these
ENOUGH = 1.0  # GB of free memory for a training; with less, the laboratory warns
TIMED = 10  # steps that tell how many of them fit into a budget


# What is trained


@dataclass(frozen=True)
class Limits:
    """The range of a setting: `low` to `high`, and whether it is a whole `multiple` of a number."""

    low: float
    high: float
    multiple: int = 0  # 0: any number

    def __str__(self) -> str:
        if self.multiple > 1:
            return f"a multiple of {self.multiple} from {self.low:g} to {self.high:g}"
        kind = "a whole number" if self.multiple else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def problem(self, name: str, value) -> str:
        """Say what is wrong with a value, or nothing."""
        whole = isinstance(value, numbers.Integral)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
            return f"{name} is {value!r}; expected {self}."
        fits = self.low <= value <= self.high  # NaN does not
        if not fits or (self.multiple and not (whole and value % self.multiple == 0)):
            return f"{name} is {value:g}; expected {self}."
        return ""


LIMITS = {
    "history": Limits(1, 20 - TARGETS, 1),
    "width": Limits(8, 256, 8),
    "depth": Limits(0, 12, 1),
    "learning_rate": Limits(1e-6, 10.0),
    "batch_size": Limits(1, 64, 1),
    "jaccard_weight": Limits(0.0, 10.0),
    "reconstruction": Limits(0.0, 10.0),
    "adversarial": Limits(0.0, 10.0),
    "penalty": Limits(0.0, 1000.0),
    "critic_steps": Limits(1, 10, 1),
    "steps": Limits(0, 100_000, 1),
    "seconds": Limits(5.0, 12 * 3600.0),
    "seed": Limits(0, 2**31 - 1, 1),
}
CHOICES = {
    "model": ("PatchNet", "ConvLSTM", "WGAN-GP"),  # see `MODELS`
    "format": tuple(FORMATS),
    "kernel": (1, 3, 5),
    "decay": training.DECAYS,
}
_CRITIC = ("reconstruction", "adversarial", "penalty", "critic_steps")
# What a model does not have, and why.
UNUSED = {
    "PatchNet": {"kernel": "the blocks of a PatchNet always have kernels of 3"}
    | dict.fromkeys(_CRITIC, "only a WGAN-GP has a critic"),
    "ConvLSTM": dict.fromkeys(_CRITIC, "only a WGAN-GP has a critic"),
    "WGAN-GP": {},
}


@dataclass(frozen=True)
class Settings:
    """Everything that a participant can turn; all that it takes to repeat a run on the same data.

    Attributes:
        model: `"PatchNet"`, `"ConvLSTM"` or `"WGAN-GP"`.
        format: which frames are forecast, `"T20_TINC1"`, `"T40_TINC2"` or `"T80_TINC4"`.
        history: frames that the model reads, 1 to 16.
        width: channels of the residual blocks, a multiple of 8; a ConvLSTM remembers a quarter of
            them, and a critic is as wide.
        depth: how many residual blocks.
        kernel: edge of the kernel of the memory (ConvLSTM) or of the critic (WGAN-GP).
        learning_rate: the highest one, of the generator in a WGAN-GP.
        decay: how it falls to 0 at the end: `"linear"`, `"cosine"` or `"none"`.
        batch_size: windows in a batch.
        jaccard_weight: of the soft Jaccard distance beside the cross-entropy.
        reconstruction, adversarial, penalty, critic_steps: of a WGAN-GP, see
            `helpers.wgan_gp.Config`.
        steps: so many batches; 0 is as many as fit into `seconds`, by the time that ten take.
        seconds: a training stops after so many, and can be continued for as many again.
        seed: of weights and batches.

    Raises:
        ValueError: one or several of them break the rules; the error names all.
    """

    model: str = "PatchNet"
    format: str = "T80_TINC4"
    history: int = 8
    width: int = 64
    depth: int = 3
    kernel: int = 3
    learning_rate: float = 1e-2
    decay: str = "linear"
    batch_size: int = 16
    jaccard_weight: float = 0.05
    reconstruction: float = 1.0
    adversarial: float = 0.03
    penalty: float = 10.0
    critic_steps: int = 3
    steps: int = 0
    seconds: float = 60.0
    seed: int = 1

    def __post_init__(self):
        problems = [
            f"{name} is {getattr(self, name)!r}; choose one of {', '.join(map(str, allowed))}."
            for name, allowed in CHOICES.items()
            if getattr(self, name) not in allowed
        ]
        problems += [limit.problem(name, getattr(self, name)) for name, limit in LIMITS.items()]
        has_critic = "reconstruction" not in UNUSED.get(self.model, _CRITIC)
        if has_critic and self.reconstruction == self.adversarial == 0:
            problems.append(
                "reconstruction and adversarial are 0: there is nothing to learn; raise one."
            )
        if problems := list(filter(None, problems)):
            raise ValueError(" ".join(problems))
        for name, limit in LIMITS.items():
            kind = int if limit.multiple else float
            object.__setattr__(self, name, kind(getattr(self, name)))

    @property
    def frame_format(self) -> sequences.FrameFormat:
        """The format as the pipelines know it."""
        return FORMATS[self.format]

    def used(self) -> dict:
        """Return the settings that this model has, by name."""
        unused = UNUSED[self.model]
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in unused}

    @property
    def kind(self) -> ModuleType:
        """The module of the model."""
        return MODELS[self.model][0]

    def config(self, steps: int) -> Any:
        """Return the configuration of the model, for a training of so many steps."""
        return MODELS[self.model][1](self, steps)

    def plan(self, steps: int) -> training.Plan:
        """Return the plan of a training of so many steps."""
        return training.Plan(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warm_up=round(WARM_UP * steps),
            decay=self.decay,
            decay_from=0.3,
            weight_decay=1e-4,
            validate_every=min(
                max(math.ceil(steps / ROUNDS), SHORTEST_ROUND), LONGEST_ROUND, steps
            ),
            seed=self.seed,
        )


def _convlstm(settings: Settings, steps: int) -> convlstm.Config:
    return dataclasses.replace(
        convlstm.workshop(),
        filters=(max(settings.width // 4, 4),),
        kernels=(settings.kernel,),
        width=settings.width,
        blocks=settings.depth,
    )


def _patchnet(settings: Settings, steps: int) -> patchnet.Config:
    return patchnet.Config(
        history=settings.history,
        ahead=1,
        steps=(settings.frame_format.TINC,),
        width=settings.width,
        blocks=settings.depth,
    )


def _wgan_gp(settings: Settings, steps: int) -> wgan_gp.Config:
    return wgan_gp.workshop(
        settings.history,
        critic_width=settings.width,
        critic_kernel=settings.kernel,
        # A fifth of the run without the critic, a fifth in which its weight rises.
        warm_up=steps // 5,
        steps=(settings.frame_format.TINC,),
        width=settings.width,
        blocks=settings.depth,
        **{name: getattr(settings, name) for name in _CRITIC},
    )


# Of each model its module, and what the knobs mean to it.
MODELS = {
    "PatchNet": (patchnet, _patchnet),
    "ConvLSTM": (convlstm, _convlstm),
    "WGAN-GP": (wgan_gp, _wgan_gp),
}


@functools.lru_cache(maxsize=256)
def parameters(settings: Settings) -> int:
    """Count the parameters of the model that the settings describe, critic included."""
    return settings.kind.build(settings.config(TIMED)).count_params()


# What it is trained with and judged by: the same windows for every model


def _batches(settings: Settings, config, plan: training.Plan, split):
    """Return what `training.train` asks for: turned and mirrored windows from any step on."""

    def from_step(step: int) -> tf.data.Dataset:
        return sequences.from_packed(
            split,
            settings.frame_format,
            sequences.Windows(settings.history),
            batch_size=plan.batch_size,
            seed=plan.seed,
            repeat=True,
            drop_remainder=True,
            symmetries=True,
            time_reversal=True,
            start_step=step,
        ).map(functools.partial(settings.kind.from_windows, config, settings.frame_format))

    return from_step


def _judged(frames: np.ndarray, history: int, targets: int = TARGETS) -> np.ndarray:
    """Cut sequences (N, T, D, H, W) into one window for each of the last `targets` frames.

    Returns (targets · N, history + 1, D, H, W), the windows of the last frame at the end.
    """
    last = range(frames.shape[1] - targets, frames.shape[1])
    return np.concatenate([frames[:, time - history : time + 1] for time in last])


def _inputs(settings: Settings, config, windows: np.ndarray):
    """Turn windows (N, history + 1, D, H, W) into what the model reads."""
    windows = tf.cast(windows[..., np.newaxis], tf.float32)
    return settings.kind.from_windows(
        config, settings.frame_format, windows[:, :-1], windows[:, -1]
    )


def _validation(settings: Settings, config, frames: np.ndarray) -> tf.data.Dataset:
    windows = _judged(frames, settings.history)
    data = tf.data.Dataset.from_tensor_slices(windows).batch(32)
    return data.map(lambda batch: _inputs(settings, config, batch)).cache()


def _last(volumes):
    """Return the last of several frames, (B, T, D, H, W) with or without channels; one as it is."""
    return volumes if len(volumes.shape) == 4 else volumes[:, -1]


def _last_jaccard():
    """Return the metric of every run: the mean Jaccard distance of the frame after the history."""
    metric = metrics.keras_jaccard("per_frame", name="jaccard")
    # A ConvLSTM forecasts a frame at each step; the others only the last one.
    every = metric.distances
    metric.distances = lambda truth, guess: every(_last(truth), _last(guess))
    return metric


def _compiled(settings: Settings, steps: int) -> keras.Model:
    """Return a new model, ready for a training of so many steps."""
    hardware, config = workshop.hardware(seed=settings.seed), settings.config(steps)
    with hardware.scope():
        model = settings.kind.build(config)
        options = settings.kind.compile_options(
            config,
            settings.plan(steps),
            jaccard_weight=settings.jaccard_weight,
            metric=_last_jaccard(),
        )
        model.compile(**options, jit_compile=hardware.xla)
    return model


def _forecast(settings: Settings, model: keras.Model, windows: np.ndarray) -> np.ndarray:
    """Forecast the last frame of windows (N, history + 1, D, H, W): uint8 (N, D, H, W), 0…255."""
    inputs, *_ = _inputs(settings, model.config, windows)
    found = model(inputs, training=False)
    found = _last(found["next"] if isinstance(found, Mapping) else found)
    found = found.numpy().reshape(len(windows), *windows.shape[2:])
    return np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)


# The runs


class RunError(RuntimeError):
    """A run is not there, is damaged, or cannot be continued; or another one is in the way."""


class RunTable:
    """A folder of runs: each a folder of its own with `run.json`, checkpoint, best weights, log.

    Everything is read from the disk, so it is the same after a restart, and in another kernel.

    Attributes:
        folder: made with the first run.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __len__(self) -> int:
        return len(self.numbers())

    def numbers(self) -> list[int]:
        """Return the numbers of the runs, ascending."""
        found = self.folder.glob(f"[0-9]*/{RUN}")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())

    def place(self, run: int) -> Path:
        """Return the folder of a run, whether it is there or not."""
        return self.folder / f"{run:04}"

    def create(self, record: Mapping) -> int:
        """Give a new run its number and folder, and write its record.

        Raises:
            OSError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            taken = (int(path.name) for path in self.folder.iterdir() if path.name.isdigit())
            run = 1 + max(taken, default=0)
            while True:
                try:
                    self.place(run).mkdir()  # two kernels cannot both make it
                    break
                except FileExistsError:
                    run += 1
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be written ({error}). Make it writable, or choose another "
                "folder: laboratory(folder=...)."
            ) from error
        self.write(run, {**record, "run": run})
        return run

    def write(self, run: int, record: Mapping) -> None:
        """Write the record of a run in place of the one before."""
        record = {"format_version": FORMAT_VERSION, **record}
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        path = self.place(run) / RUN
        with _files.replacing(path) as file:
            file.write(text.encode() + b"\n")

    def read(self, run: int) -> dict:
        """Return the record of a run.

        A run that was training when its kernel died is given the status `"interrupted"`.

        Raises:
            RunError: there is no such run, or its record is damaged.
        """
        path = self.place(run) / RUN
        try:
            record = json.loads(path.read_text("utf-8"))
            if record["format_version"] > FORMAT_VERSION:
                raise RunError(
                    f"{path} has format_version {record['format_version']}; this course reads up "
                    f"to {FORMAT_VERSION}. Update the course."
                )
            known = {field.name for field in dataclasses.fields(Settings)}
            record["settings"] = Settings(
                **{name: value for name, value in record["settings"].items() if name in known}
            )
            rows = record["rows"] = [{**row} for row in record["rows"]]
            record["step"] = int(record["step"])
        except FileNotFoundError:
            have = ", ".join(map(str, self.numbers())) or "none"
            raise RunError(f"There is no run {run} in {self.folder}; it has {have}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is damaged ({type(error).__name__}: {error}). Delete its folder; "
                "the other runs are not touched."
            ) from error
        if record["status"] == "training" and not _is_claimed(self.place(run)):
            record["status"] = "interrupted"
        best = min((row for row in rows if MONITOR in row), key=lambda r: r[MONITOR], default=None)
        record["best"] = best and {"step": best["step"], "distance": best[MONITOR]}
        return record

    def table(self, sort: str = "run", ascending: bool = True) -> pd.DataFrame:
        """Tabulate the runs, one row each.

        Args:
            sort: a column; runs without a value come last.
            ascending: smallest first.

        Returns:
            `run`, `status`, the settings that the model of the run has, `from` (the run whose
            weights it began with), `parameters`, `done` and `planned` steps, `seconds`, `best` (the
            smallest mean Jaccard distance in validation), `at` (its step), `persistence` and
            `data`. A run whose record is damaged has a status that says so, and nothing else.

        Raises:
            ValueError: there is no such column.
        """
        rows = []
        for run in self.numbers():
            try:
                record = self.read(run)
            except RunError:
                rows.append({"run": run, "status": "damaged"})
                continue
            best = record["best"] or {}
            used = record["settings"].used()
            rows.append(
                {"run": run, "status": record["status"]}
                | {name: value for name, value in used.items() if name not in ("steps", "seconds")}
                | {
                    "from": record.get("began_with"),
                    "parameters": record["parameters"],
                    "done": record["step"],
                    "planned": record["steps"],
                    "seconds": record["seconds"],
                    "best": best.get("distance"),
                    "at": best.get("step"),
                    "persistence": record["persistence"],
                    "data": record["data"],
                }
            )
        table = pd.DataFrame(rows, columns=COLUMNS)
        if sort not in table:
            raise ValueError(f"There is no column {sort!r}; choose one of {', '.join(table)}.")
        whole = [name for name in COLUMNS if LIMITS.get(name, Limits(0, 0)).multiple]
        for name in (*whole, "from", "parameters", "done", "planned", "at", "kernel"):
            table[name] = table[name].astype("Int64")
        return table.sort_values(sort, ascending=ascending, kind="stable", ignore_index=True)

    def log(self, run: int) -> pd.DataFrame:
        """Return the rounds of a run: `step`, `seconds`, and what was measured in each.

        Raises:
            RunError: see `read`.
        """
        return pd.DataFrame(self.read(run)["rows"], columns=None)

    def export(self) -> Path:
        """Write the table as `runs.csv` in the folder; return its path."""
        path = self.folder / CSV
        path.parent.mkdir(parents=True, exist_ok=True)
        self.table().to_csv(path, index=False)
        return path

    def preview(self, run: int) -> np.ndarray | None:
        """Return a run's latest forecasts of the last frame of validation sequences, if any.

        uint8 (N, D, H, W), 0…255 for probabilities 0…1, in the order of the sequences.
        """
        try:
            with np.load(self.place(run) / PREVIEW) as archive:
                return archive["forecast"]
        except (OSError, ValueError, KeyError, EOFError):
            return None


COLUMNS = [
    "run",
    "status",
    *(f.name for f in dataclasses.fields(Settings) if f.name not in ("steps", "seconds")),
    "from",
    "parameters",
    "done",
    "planned",
    "seconds",
    "best",
    "at",
    "persistence",
    "data",
]


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Mark a run as in training, for as long as this process lives.

    Raises:
        RunError: another kernel trains it.
        OSError: locks do not work in this folder.
    """
    remedy = "choose another folder: laboratory(folder=...)"
    try:
        with _files.lock(folder / LOCK, remedy, wait=False):
            yield
    except _files.InUse as error:
        raise RunError(
            f"Run {int(folder.name)} is being trained by another kernel; wait, or shut that kernel "
            "down."
        ) from error


def _is_claimed(folder: Path) -> bool:
    if not (folder / LOCK).exists():
        return False
    try:
        with _claimed(folder):
            return False
    except RunError:
        return True
    except OSError:
        return False  # the folder cannot be written or locked, so nobody trains there


# Training


@dataclass(frozen=True)
class State:
    """Where a run stands; what listeners of a `Session` are told.

    Attributes:
        run: its number.
        settings: of the run.
        status: `"training"`, or how it ended: `"done"`, `"stopped"`, `"budget used"`, `"diverged"`
            or `"failed"`.
        step, steps: done and planned, 0 as long as that is not known.
        rows: one mapping for each round, see `helpers.training.Checkpoint`.
        left: seconds until the end, None if not known yet.
        message: an error, in words.
        forecast: see `RunTable.preview`.
        persistence: the distance of persistence on the frames that the run is judged on.
    """

    run: int
    settings: Settings
    status: str
    step: int
    steps: int
    rows: tuple[Mapping, ...] = ()
    left: float | None = None
    message: str = ""
    forecast: np.ndarray | None = None
    persistence: float = math.nan

    @property
    def best(self) -> float | None:
        """The smallest distance so far, or None before the first validation."""
        return min((row[MONITOR] for row in self.rows if MONITOR in row), default=None)


class Session:
    """Trains one model at a time, in the background or not, and keeps every run.

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
        state: where the latest run stands, or None.
        listeners: functions of a `State`, called from the thread that trains.
    """

    def __init__(
        self, folder: str | Path | None = None, *, training_split=None, validation_split=None
    ):
        self.runs = RunTable(folder or workshop.REPOSITORY / "runs")
        count = workshop.profile().sequences
        if training_split is None:
            training_split = records.packed(
                workshop.split_folder("training"), limit=3 * count, progress=False
            )
        if validation_split is None:
            validation_split = records.packed(
                workshop.split_folder("validation"), limit=count, progress=False
            )
        self.training_split, self.validation_split = training_split, validation_split
        self.frames = validation_split.frames(slice(count))  # (N, 128, D, H, W), uint8
        mark = next(iter(training_split.checksum.values()), "")[:6]
        self.data = f"{len(training_split)} + {len(self.frames)} sequences, {mark}"
        self.state: State | None = None
        self.listeners: list[Callable[[State], None]] = []
        self._lock = threading.Lock()
        self._stop, self._idle = threading.Event(), threading.Event()
        self._idle.set()

    @property
    def running(self) -> bool:
        """Whether a run is being trained."""
        return not self._idle.is_set()

    def frames_of(self, frame_format: sequences.FrameFormat) -> np.ndarray:
        """Return the validation sequences in a format, uint8 (N, T, D, H, W)."""
        return frame_format.select(self.frames)

    def persistence(self, frame_format: sequences.FrameFormat) -> float:
        """Return the distance of persistence on the frames that every run is judged on."""
        windows = _judged(self.frames_of(frame_format), 1)
        return float(metrics.jaccard_distance(windows[:, 1], windows[:, 0]).mean())

    def start(self, settings: Settings, *, begin_with: int | None = None, wait: bool = True) -> int:
        """Start a new run.

        Args:
            settings: what to train.
            begin_with: a run of the same architecture, whose best weights it begins with.
            wait: return when it has ended; otherwise it goes on in the background.

        Returns:
            The number of the run. How it ended is in the table: an error in training does not
            leave this function.

        Raises:
            RunError: another run is being trained; `begin_with` has no weights, or of another
                architecture.
            OSError: the folder of the runs cannot be written.
        """
        with self._alone():
            if begin_with is not None:
                self._check_beginning(settings, begin_with)
            run = self.runs.create(
                {
                    "status": "training",
                    "made": datetime.datetime.now().isoformat(timespec="seconds"),
                    "settings": dataclasses.asdict(settings),
                    "steps": settings.steps,  # 0: as many as fit, see `_fitting_steps`
                    "step": 0,
                    "seconds": 0.0,
                    "rows": [],
                    "message": "",
                    "parameters": parameters(settings),
                    "began_with": begin_with,
                    "persistence": self.persistence(settings.frame_format),
                    "data": self.data,
                    "machine": workshop.machine(),
                }
            )
            self._prepare(run)
        return self._launch(run, wait)

    def resume(self, run: int, *, wait: bool = True) -> int:
        """Go on with a run that was stopped, used up its budget, or whose kernel died.

        It goes on from its checkpoint, for as many seconds again, and ends with the weights of one
        that was never stopped.

        Returns:
            The number of the run.

        Raises:
            RunError: another run is being trained; there is no such run; it is done, or has
                diverged; it was trained on other data.
        """
        with self._alone():
            record = self.runs.read(run)
            if record["status"] == "training":
                raise RunError(f"Run {run} is being trained by another kernel.")
            if 0 < record["steps"] <= record["step"]:
                raise RunError(
                    f"Run {run} has done all its {record['steps']} steps. To train further, "
                    "start a new run that begins with its weights."
                )
            if record["status"] == "diverged":
                raise RunError(
                    f"Run {run} has diverged and would again. Start a new one with a lower "
                    "learning rate."
                )
            if record["data"] != self.data:
                raise RunError(
                    f"Run {run} was trained on other data ({record['data']}) than those at hand "
                    f"({self.data}). Set WORKSHOP_DATA as it was then, or start a new run."
                )
            self._prepare(run)
        return self._launch(run, wait)

    def stop(self) -> None:
        """Ask the run to stop: it does so after the step at hand, and can be resumed."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no run is being trained; return whether that is so."""
        return self._idle.wait(seconds)

    def model(self, run: int) -> keras.Model:
        """Return the model of a run with its best weights.

        Raises:
            RunError: there is no such run, or no round of it was validated yet.
        """
        record = self.runs.read(run)
        settings = record["settings"]
        model = settings.kind.build(settings.config(record["steps"] or TIMED))
        try:
            training.load_best(self.runs.place(run), model)
        except FileNotFoundError:
            raise RunError(f"Run {run} has no weights yet: no round was validated.") from None
        return model

    def forecaster(self, run: int):
        """Return the best weights of a run as a forecaster for `helpers.rollout`.

        Raises:
            RunError: see `model`.
        """
        settings = self.runs.read(run)["settings"]
        name = f"run {run}, {settings.model}"
        return settings.kind.forecaster(self.model(run), settings.frame_format, name)

    # From here on: how it is done

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Claim the session; who fails to prepare a run gives it back."""
        with self._lock:
            if self.running:
                raise RunError(
                    f"Run {self.state.run if self.state else '?'} is being trained. Stop it first, "
                    "or wait until it has ended."
                )
            self._idle.clear()
        try:
            yield
        except BaseException:
            self._idle.set()
            raise

    def _check_beginning(self, settings: Settings, run: int) -> None:
        before = self.runs.read(run)
        then = before["settings"]
        parts = ("model", "history", "width", "depth", "kernel")
        other = [part for part in parts if then.used().get(part) != settings.used().get(part)]
        if other:
            raise RunError(
                f"Run {run} has another {', '.join(other)}: its weights do not fit. Copy its "
                "settings first."
            )
        if not before["best"]:
            raise RunError(f"Run {run} has no weights to begin with: no round was validated.")

    def _prepare(self, run: int) -> None:
        self._stop.clear()
        record = self.runs.read(run)
        self.state = State(
            run,
            record["settings"],
            "training",
            record["step"],
            record["steps"],
            tuple(record["rows"]),
            forecast=self.runs.preview(run),
            persistence=record["persistence"],
        )

    def _launch(self, run: int, wait: bool) -> int:
        if wait:
            self._train(run)
        else:
            # A daemon: a kernel that is shut down does not wait for it. The files are whole at
            # any moment.
            threading.Thread(target=self._train, args=(run,), daemon=True).start()
        return run

    def _train(self, run: int) -> None:
        """Train a run to its end, whatever that is; nothing is raised from here."""
        try:
            with _claimed(self.runs.place(run)), _quiet_tensorflow():
                self._fit(run)
        except FloatingPointError as error:
            self._end(run, "diverged", str(error))
        except BaseException as error:  # also an interrupt of the kernel
            self._end(run, "failed", f"{type(error).__name__}: {error}"[:2000])
        finally:
            with contextlib.suppress(Exception):
                keras.utils.clear_session()
            self._idle.set()
            self._tell()

    def _fit(self, run: int) -> None:
        record = self.runs.read(run)
        settings, begun = record["settings"], time.monotonic()
        self._write(run, status="training", message="")
        self._tell()
        steps = record["steps"] or self._fitting_steps(settings)
        if not steps:
            self._end(run, "stopped")
            return
        self.state = dataclasses.replace(self.state, steps=steps)
        self._write(run, steps=steps)
        config, plan = settings.config(steps), settings.plan(steps)
        watch = _Watch(self, settings, begun + settings.seconds)
        self._tell()
        model = _compiled(settings, steps)
        if record["began_with"]:
            training.load_best(self.runs.place(record["began_with"]), model)
        frames = self.frames_of(settings.frame_format)
        watch.look(model, _judged(frames[:SHOWN], settings.history, 1), self.runs.place(run))
        watch.checkpoint = training.Checkpoint(self.runs.place(run), plan, MONITOR)
        watch.stop = training.Stop(self.runs.place(run), self._stop)
        training.train(
            model,
            _batches(settings, config, plan, self.training_split),
            watch.checkpoint,
            validation=_validation(settings, config, frames),
            callbacks=[watch.stop, watch],
        )
        ended = {"": "done", "budget": "budget used"}
        self._end(run, ended.get(watch.stop.reason, "stopped"))

    def _fitting_steps(self, settings: Settings) -> int:
        """Time ten steps of a model of its own; return how many fit into the budget, 0 if stopped.

        The first steps compile the model, and those of the run will do so again. A fifth of the
        time is left for validation.
        """
        begun, ends = time.monotonic(), []
        model = _compiled(settings, TIMED)

        def step_done(batch, logs=None):
            ends.append(time.monotonic())
            model.stop_training = self._stop.is_set()

        batches = _batches(settings, model.config, settings.plan(TIMED), self.training_split)(0)
        watch = keras.callbacks.LambdaCallback(on_train_batch_end=step_done)
        model.fit(batches, steps_per_epoch=TIMED, callbacks=[watch], shuffle=False, verbose=0)
        if self._stop.is_set():
            return 0
        each = float(np.median(np.diff(ends)[-TIMED // 2 :]))
        left = settings.seconds - 2 * (ends[-1] - begun)
        return int(np.clip(0.8 * left / each, TIMED, LIMITS["steps"].high))

    def _end(self, run: int, status: str, message: str = "", **more) -> None:
        with contextlib.suppress(Exception):
            self._write(run, status=status, message=message, **more)
        self.state = dataclasses.replace(self.state, status=status, message=message, left=None)

    def _write(self, run: int, **changes) -> None:
        """Bring the record of a run up to date."""
        record = self.runs.read(run)
        del record["best"]
        record["settings"] = dataclasses.asdict(record["settings"])
        state = self.state
        rows = [dict(row) for row in state.rows]
        seconds = rows[-1]["seconds"] if rows else 0.0
        found = {"step": state.step, "rows": rows, "seconds": round(seconds, 2)}
        self.runs.write(run, {**record, **found, **changes})

    def _tell(self) -> None:
        for listener in list(self.listeners):
            # A panel that cannot draw is no reason to lose a training.
            with contextlib.suppress(Exception):
                listener(self.state)


class _Watch(keras.callbacks.Callback):
    """Tells the session where a training stands, and keeps time.

    Attributes:
        checkpoint, stop: the callbacks that come before this one.
        seconds_per_step: measured, validation included, without the first step.
    """

    def __init__(self, session: Session, settings: Settings, deadline: float):
        super().__init__()
        self.session, self.settings, self.deadline = session, settings, deadline
        self.seconds_per_step = None
        self._first = self._told = self._looked = self._cost = 0.0
        self._from = 0

    def look(self, model: keras.Model, windows: np.ndarray, folder: Path) -> None:
        """Say what is forecast after each round, and where the forecasts are kept."""
        self._network, self._windows, self._folder = model, windows, folder

    def on_train_begin(self, logs=None):
        self._step = self.checkpoint.step
        self._keep()

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._step += 1
        step = self._step
        # A run that ends before its first full round would leave nothing.
        if now > self.deadline and self.checkpoint.rows:
            self.stop.request("budget")
        if not self._first:
            # The first step compiles the model, which says nothing about the others.
            self._first, self._from = now, step
        elif step > self._from:
            self.seconds_per_step = (now - self._first) / (step - self._from)
        if now - self._told > 0.3:
            self._told = now
            state = self.session.state
            left = self.seconds_per_step and min(
                self.seconds_per_step * (state.steps - step), self.deadline - now
            )
            self.session.state = dataclasses.replace(state, step=step, left=left)
            self.session._tell()

    def on_epoch_end(self, epoch, logs=None):
        if self.checkpoint.step < self._step:
            return  # the round was given up
        # Where a round takes less than the forecasts, most of them are left out.
        if time.monotonic() - self._looked > 20 * self._cost:
            self._forecast()
        self._keep()
        self.session._write(self.session.state.run)
        self.session._tell()

    def on_train_end(self, logs=None):
        self._forecast()
        self._keep()

    def _keep(self) -> None:
        self.session.state = dataclasses.replace(
            self.session.state, step=self.checkpoint.step, rows=tuple(self.checkpoint.rows)
        )

    def _forecast(self) -> None:
        begin = time.monotonic()
        found = _forecast(self.settings, self._network, self._windows)
        self.session.state = dataclasses.replace(self.session.state, forecast=found)
        with _files.replacing(self._folder / PREVIEW) as file:
            np.savez_compressed(file, forecast=found)
        self._looked = time.monotonic()
        self._cost = self._looked - begin


@contextlib.contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keep warnings, of a model that is traced anew for example, out of whatever cell runs."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(before)


# The widgets


TIPS = {
    "model": "Which network forecasts the next frame",
    "format": "Which frames of a sample are used; with T80_TINC4 most moves from frame to frame",
    "history": "Frames that the model reads before it forecasts",
    "width": "Channels of the residual blocks: a multiple of 8",
    "depth": "How many residual blocks",
    "kernel": "Edge of the kernel: of the memory (ConvLSTM) or of the critic (WGAN-GP)",
    "learning_rate": "The highest learning rate; it rises to it in the first tenth of the steps",
    "decay": "How the learning rate falls to 0 at the end",
    "batch_size": "Windows in a batch",
    "jaccard_weight": "Loss: weight of the soft Jaccard distance beside the cross-entropy",
    "reconstruction": "Loss of a WGAN-GP: weight of cross-entropy and soft Jaccard together",
    "adversarial": "Loss of a WGAN-GP: weight of the critic's opinion",
    "penalty": "Loss of a critic: weight of the gradient penalty",
    "critic_steps": "So many times the critic learns from a batch, the generator once",
    "steps": "So many batches; 0 is as many as fit into the budget",
    "seconds": "Stop after so many seconds; a run that was stopped can be continued",
    "seed": "Of weights and batches: the same seed and steps give the same run",
}
LABELS = {
    "learning_rate": "learning rate",
    "batch_size": "batch",
    "jaccard_weight": "soft Jaccard",
    "critic_steps": "critic steps",
    "seconds": "budget, s",
}
_FLOW = {"display": "flex", "flex_flow": "row wrap", "align_items": "center", "width": "100%"}


class Laboratory(ipywidgets.VBox):
    """The panel of the laboratory; made by `laboratory`.

    Everything that the buttons do can be called: `set`, `start`, `stop`, `resume`, `compare`.

    Attributes:
        session: what trains.
        synchronous: whether `start` and `resume` return only when the run has ended.
    """

    def __init__(self, session: Session, synchronous: bool = False):
        self.session, self.synchronous = session, synchronous
        self._drawing = threading.RLock()  # the training's thread draws, and so do the controls
        self._drawn = self._cost = 0.0
        self._seen = (0, 0)  # run and rounds in the pictures
        self._quiet = False
        w = ipywidgets
        self._controls = {name: _control(name) for name in TIPS}
        self._about = w.HTML()
        self._message = w.HTML()
        self._buttons = {
            "start": _button("Start", "play", "Start a new run with these settings", "success"),
            "stop": _button(
                "Stop", "stop", "Stop after the step at hand; nothing is lost", "danger"
            ),
            "resume": _button("Continue", "step-forward", "Go on with the chosen run"),
            "copy": _button("Copy settings", "copy", "Take over the settings of the chosen run"),
            "export": _button("CSV", "download", "Write the table of runs as runs.csv"),
        }
        self._bar = w.FloatProgress(
            min=0, max=1, description="steps", layout={"width": "340px"}, tooltip="Steps done"
        )
        self._status = w.HTML()
        self._curves = _Drawing("The run at hand, round by round", "laboratory-curves")
        self._sample = w.IntSlider(
            0,
            0,
            max(min(SHOWN, len(session.frames)) - 1, 0),
            description="sequence",
            tooltip="Which validation sequence is shown",
            layout={"width": "340px"},
        )
        self._shades = _Drawing("Last observed frame, truth and forecast", "laboratory-slices")
        self._errors = _Drawing("Errors of forecast and persistence", "laboratory-errors")
        self._chosen = w.SelectMultiple(
            description="runs",
            rows=6,
            layout={"width": "98%"},
            tooltip="Choose one run to continue or to copy, or several to compare",
        )
        self._over = w.Dropdown(
            options=["step", "seconds"],
            description="compare over",
            layout={"width": "220px"},
            style={"description_width": "100px"},
            tooltip="What the horizontal axis of the comparison shows",
        )
        self._comparison = _Drawing(
            "The chosen runs beside each other and persistence, in validation",
            "laboratory-comparison",
        )
        self._sort = w.Dropdown(
            options=COLUMNS,
            value="run",
            description="sort by",
            tooltip="Sort the table by this column",
        )
        self._descending = w.Checkbox(
            value=False,
            description="largest first",
            indent=False,
            layout={"width": "130px"},
            tooltip="Sort from the largest to the smallest",
        )
        self._table = w.HTML(layout={"width": "100%", "overflow": "auto"})
        self._link = w.HTML()
        buttons = self._buttons
        super().__init__(
            [
                _heading("Settings"),
                w.Box(
                    list(self._controls.values()),
                    layout={
                        "display": "grid",
                        "grid_template_columns": "repeat(auto-fill, minmax(265px, 1fr))",
                        "width": "100%",
                    },
                ),
                self._about,
                w.Box([buttons[name] for name in ("start", "stop")] + [self._bar], layout=_FLOW),
                self._message,
                self._status,
                self._curves,
                self._sample,
                w.Box([self._shades, self._errors], layout=_FLOW),
                _heading("Runs"),
                self._chosen,
                w.Box([buttons["resume"], buttons["copy"], self._over], layout=_FLOW),
                self._comparison,
                w.Box([self._sort, self._descending, buttons["export"], self._link], layout=_FLOW),
                self._table,
            ],
            layout={"width": "100%", "max_width": "1100px"},
        )
        for name, kind in (
            ("laboratory", self),
            ("laboratory-table", self._table),
            ("laboratory-message", self._message),
            ("laboratory-status", self._status),
            ("laboratory-runs", self._chosen),
            ("laboratory-about", self._about),
        ):
            kind.add_class(name)
        for control in self._controls.values():
            control.observe(lambda _: self._turned(), "value")
        for name, action in (
            ("start", self.start),
            ("stop", self.stop),
            ("resume", self.resume),
            ("copy", self.copy),
            ("export", self.export),
        ):
            buttons[name].on_click(functools.partial(self._press, action))
        self._sample.observe(lambda _: self._draw_slices(), "value")
        for control in (self._chosen, self._over):
            control.observe(lambda _: self._choose(), "value")
        for control in (self._sort, self._descending):
            control.observe(lambda _: self._fill_table(), "value")
        session.listeners.append(self._follow)
        self._turned()
        self._refresh()

    # What the buttons do

    @property
    def settings(self) -> Settings:
        """The settings as the controls show them.

        Raises:
            ValueError: see `Settings`.
        """
        unused = UNUSED[self._controls["model"].value]
        return Settings(**{k: c.value for k, c in self._controls.items() if k not in unused})

    def set(self, **changes) -> None:
        """Turn controls, for example `set(model="ConvLSTM", steps=20)`.

        Raises:
            ValueError: there is no such control, or it does not have such a choice.
        """
        for name, value in changes.items():
            if name not in self._controls:
                raise ValueError(
                    f"There is no setting {name!r}; choose one of {', '.join(self._controls)}."
                )
            try:
                self._controls[name].value = value
            except Exception as error:
                raise ValueError(f"{name} cannot be {value!r}: {error}") from error

    def start(self) -> int | None:
        """Start a new run with the settings shown; return its number, or None if it was refused.

        Why it was refused is written in the panel.
        """
        return self._try(lambda: self.session.start(self.settings, wait=self.synchronous))

    def stop(self) -> None:
        """Stop the run at hand after its step."""
        if not self.session.running:
            self._say("No run is being trained.")
            return
        self.session.stop()
        self._say("Stopping after the step at hand …")

    def resume(self, run: int | None = None) -> int | None:
        """Go on with a run, the chosen one unless told; return its number, or None if refused.

        A run that has done all its steps is followed by a new one that begins with its weights.
        """
        return self._try(lambda: self._resume(self._one(run)))

    def copy(self, run: int | None = None) -> None:
        """Take over the settings of a run, the chosen one unless told."""

        def take():
            settings = self.session.runs.read(self._one(run))["settings"]
            self._quiet = True
            try:
                for name, value in dataclasses.asdict(settings).items():
                    self._controls[name].value = value
            finally:
                self._quiet = False
            self._turned()

        self._try(take)

    def export(self) -> Path | None:
        """Write the table as `runs.csv` in the folder of the runs; offer it for download."""

        def write():
            path = self.session.runs.export()
            data = base64.b64encode(path.read_bytes()).decode()
            self._link.value = (
                f'<a download="{CSV}" href="data:text/csv;base64,{data}">download {CSV}</a>'
            )
            self._say(f"Written: {path}")
            return path

        return self._try(write)

    def compare(self, *runs: int) -> None:
        """Choose runs, and draw them beside each other."""
        self._chosen.value = tuple(run for _, run in self._chosen.options if run in runs)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no run is being trained; return whether that is so."""
        return self.session.wait(seconds)

    # How it is done

    def _press(self, action: Callable, button) -> None:
        action()

    def _try(self, action: Callable):
        """Do something, and write in the panel what went wrong."""
        self._say("")
        try:
            return action()
        except (RunError, ValueError, OSError) as error:
            self._say(str(error), trouble=True)
        except Exception as error:  # the panel has to stay usable, whatever happened
            self._say(f"{type(error).__name__}: {error}", trouble=True)
        return None

    def _resume(self, run: int) -> int:
        record = self.session.runs.read(run)
        if record["status"] == "done":
            settings = record["settings"]
            return self.session.start(settings, begin_with=run, wait=self.synchronous)
        return self.session.resume(run, wait=self.synchronous)

    def _one(self, run: int | None) -> int:
        chosen = self._chosen.value if run is None else (run,)
        if len(chosen) != 1:
            raise RunError(f"{len(chosen)} runs are chosen; choose one in the list of runs.")
        return chosen[0]

    def _say(self, text: str, *, trouble: bool = False) -> None:
        colour = f"color: {pictures.MISS}; " if trouble else ""
        self._message.value = (
            f'<div role="{"alert" if trouble else "status"}" style="{colour}line-height: 1.4">'
            f"{'⚠ ' * trouble}{html.escape(text)}</div>"
        )

    def _turned(self) -> None:
        """A control was turned: disable what the model lacks, and say what is to be trained."""
        if self._quiet:
            return
        unused = UNUSED[self._controls["model"].value]
        for name, control in self._controls.items():
            control.disabled = name in unused
            control.tooltip = TIPS[name] + (f" (here: {unused[name]})" if name in unused else "")
        lines = []
        try:
            lines = [f"{parameters(self.settings):,} parameters"]
            self._buttons["start"].disabled = False
        except ValueError as error:
            lines = [_trouble(str(error))]
            self._buttons["start"].disabled = True
        free = workshop.memory()[1] / 2**30
        if free < ENOUGH:
            told = f"Only {free:.1f} GB of memory are free"
            lines.append(_trouble(f"{told}: shut down the kernels of other notebooks."))
        if unused:
            reasons = {}
            for name, reason in unused.items():
                reasons.setdefault(reason, []).append(LABELS.get(name, name))
            lines.append(
                "Not used: "
                + "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
                + "."
            )
        self._about.value = (
            f'<div role="status" style="line-height: 1.4">{"<br>".join(lines)}</div>'
        )

    def _follow(self, state: State) -> None:
        """Show where a run stands; called from the thread that trains."""
        ended = not self.session.running
        self._bar.max, self._bar.value = max(state.steps, 1), state.step
        parts = [f"run {state.run}", f"step {state.step} of {state.steps or '?'}"]
        if state.best is not None:
            parts.append(f"best {state.best:.4f}")
        parts.append(f"persistence {state.persistence:.4f}")
        if state.status == "training" and not ended:
            starting = "TensorFlow compiles the model"
            if not state.steps:
                starting = f"{TIMED} steps tell how many fit into the budget"
            parts.append(starting if state.left is None else f"about {state.left:.0f} s left")
        else:
            parts.append(state.status)
        self._status.value = f'<div role="status">{html.escape(" · ".join(parts))}</div>'
        if state.message:
            self._say(f"Run {state.run}: {state.message}", trouble=True)
        elif ended:
            self._say("")
        # Where a round takes less than the picture, most pictures are left out.
        news = (state.run, len(state.rows))
        first = news[0] != self._seen[0]
        if (
            ended
            or first
            or (news != self._seen and time.monotonic() - self._drawn > 20 * self._cost)
        ):
            self._seen = news
            begin = time.monotonic()
            self._draw_curves(state)
            self._draw_slices()
            self._drawn = time.monotonic()
            self._cost = self._drawn - begin
        if ended:
            self._refresh()
            self._chosen.value = (state.run,)

    def _draw_curves(self, state: State) -> None:
        rows = [row for row in state.rows if MONITOR in row]
        if not rows:
            self._curves.show(None)  # what is there is of the run before
            return
        steps = [row["step"] for row in rows]
        lines = {
            "training": [row["jaccard"] for row in rows],
            "validation": [row[MONITOR] for row in rows],
            "persistence (validation)": [state.persistence] * len(rows),
        }
        if len(rows) == 1:  # a line needs two points: every model starts as persistence
            steps = [0, *steps]
            lines = {name: [state.persistence, *values] for name, values in lines.items()}
        with self._drawing:
            picture = pictures.curves(lines, steps, xlabel="step", ylabel="Jaccard distance")
            self._curves.show(picture)

    def _draw_slices(self) -> None:
        """Draw the chosen sequence of the run at hand: from what was forecast, no model is run."""
        state = self.session.state
        if state is None or state.forecast is None:
            for drawing in (self._shades, self._errors):
                drawing.show(None)
            return
        sample = min(self._sample.value, len(state.forecast) - 1)
        found = state.settings.frame_format
        last, truth = self.session.frames_of(found)[sample, -2:].astype(np.float32)
        forecast = state.forecast[sample] / np.float32(255)
        before, now = found.times[-2:]
        with self._drawing:
            shades = pictures.slices(
                np.stack([last, truth, forecast]),
                times=[before, now, f"{now}, forecast"],
            )
            both = {state.settings.model: forecast, "persistence": last}
            errors = pictures.compare_slices(
                np.stack([truth, truth]),
                np.stack(list(both.values())),
                times=[
                    f"{now}, {name}: {metrics.jaccard_distance(truth, each):.3f}"
                    for name, each in both.items()
                ],
            )
            self._shades.show(shades)
            self._errors.show(errors)

    def _choose(self) -> None:
        """Runs were chosen: draw them beside each other."""
        try:
            self._draw_comparison()
        except (RunError, ValueError) as error:
            self._say(str(error), trouble=True)

    def _draw_comparison(self) -> None:
        logs, lines, label = {}, {}, "Jaccard distance"
        for run in self._chosen.value:
            record = self.session.runs.read(run)
            rows = [row for row in record["rows"] if MONITOR in row]
            if rows:
                x = [row[self._over.value] for row in rows]
                settings = record["settings"]
                name = f"{run} · {settings.model}"
                logs[name] = {"step": x, label: [row[MONITOR] for row in rows]}
                key = f"persistence, {settings.format}, {record['data']}"
                low, high = lines.get(key, (math.inf, -math.inf))[:2]
                lines[key] = (min(low, x[0]), max(high, x[-1]), record["persistence"])
        if not logs:
            self._comparison.show(None)
            return
        for key, (low, high, distance) in lines.items():
            name = "persistence" if len(lines) == 1 else key
            logs[name] = {"step": [low, high], label: [distance, distance]}
        if len(lines) > 1:
            self._say(
                "The chosen runs are of several formats or data: compare each with its own "
                "persistence only."
            )
        with self._drawing:
            picture = pictures.loss_curves(logs, columns=(label,), xlabel=self._over.value)
            self._comparison.show(picture)

    def _refresh(self) -> None:
        """Read the runs anew from the disk."""
        table = self.session.runs.table()
        names = []
        for row in table.itertuples():
            if row.status == "damaged":
                continue
            best = "" if pd.isna(row.best) else f" · best {row.best:.4f}"
            names.append(
                (
                    f"{row.run} · {row.model} · {row.format} · history {row.history} · "
                    f"width {row.width} · rate {row.learning_rate:g}{best} · {row.status}",
                    row.run,
                )
            )
        chosen = self._chosen.value
        self._chosen.options = names
        self._chosen.value = tuple(run for run in chosen if run in {run for _, run in names})
        self._fill_table()

    def _fill_table(self) -> None:
        table = self.session.runs.table(self._sort.value, not self._descending.value)
        self._table.value = _html_table(table)


def _control(name: str):
    """Return the widget of a setting, with its label and its explanation."""
    w, value = ipywidgets, Settings.__dataclass_fields__[name].default
    options = {
        "description": LABELS.get(name, name),
        "tooltip": TIPS[name],
        "style": {"description_width": "95px"},
        "layout": {"width": "255px"},
    }
    if name in CHOICES:
        return w.Dropdown(options=CHOICES[name], value=value, **options)
    limits = LIMITS[name]
    if name in ("history", "depth"):
        options["continuous_update"] = False
        return w.IntSlider(value, int(limits.low), int(limits.high), **options)
    # Not the bounded kinds: they change a number without a word.
    return (w.IntText if limits.multiple else w.FloatText)(value, **options)


def _button(text: str, icon: str, tip: str, style: str = ""):
    return ipywidgets.Button(
        description=text, icon=icon, tooltip=tip, button_style=style, layout={"width": "auto"}
    )


class _Drawing(ipywidgets.VBox):
    """A picture under a line that says what it shows; hidden until there is one.

    (An `ipywidgets.Image` has no text of its own for those who cannot see it, and its view fails
    in JupyterLab if it is given a tooltip.)
    """

    def __init__(self, caption: str, name: str):
        self._image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self._image.add_class(name)
        text = ipywidgets.HTML(f"<small>{html.escape(caption)}</small>")
        layout = {"max_width": "100%", "display": "none", "align_items": "flex-start"}
        super().__init__([text, self._image], layout=layout)

    @property
    def png(self) -> bytes:
        """The picture, empty if there is none."""
        return bytes(self._image.value)

    def show(self, picture) -> None:
        """Show a `helpers.pictures.Picture`, or nothing for None."""
        if picture is not None:
            self._image.value = picture.png()
        self.layout.display = None if picture is not None else "none"


def _heading(text: str):
    return ipywidgets.HTML(f"<h3 style='margin: 8px 0 0'>{html.escape(text)}</h3>")


def _trouble(text: str) -> str:
    return f'<span style="color: {pictures.MISS}">⚠ {html.escape(text)}</span>'


def _html_table(table: pd.DataFrame) -> str:
    """Return the runs as an HTML table, without the columns in which nothing stands."""
    if table.empty:
        return "<em>No run yet.</em>"
    table = table.dropna(axis="columns", how="all")
    exact = {"best": "{:.4f}", "persistence": "{:.4f}", "seconds": "{:.0f}"}
    texts = table.astype(object).where(table.notna(), "")
    for name in texts:
        form = exact.get(name, "{:g}" if table[name].dtype.kind == "f" else "{}")
        texts[name] = [value if value == "" else form.format(value) for value in texts[name]]
    texts.columns = [name.replace("_", " ") for name in texts]
    style = (
        "<style>.laboratory-table :is(td, th) "
        "{padding: 2px 8px; text-align: right; white-space: nowrap}</style>"
    )
    return style + texts.to_html(index=False, border=0, escape=True)


def laboratory(
    folder: str | Path | None = None, *, synchronous: bool = False, session: Session | None = None
) -> Laboratory:
    """Return the panel of the laboratory: choose, start, watch, stop, continue, compare.

    Args:
        folder: where the runs are kept, and found again; `runs` in the folder of the course unless
            told.
        synchronous: `start()` and `resume()` return only when the run has ended. For scripts: a
            button would block the kernel, and so the stop button.
        session: one that is there already, in place of `folder`.

    Raises:
        FileNotFoundError: see `helpers.workshop.data_folder`.
    """
    return Laboratory(session or Session(folder), synchronous)


class Explorer(ipywidgets.VBox):
    """Forecasts of two models side by side, over start time and horizon; made by `explorer`.

    Attributes:
        distances: of what is shown: name -> (horizons,).
    """

    KEPT = 256  # rollouts; 15 frames of 16³ voxels each are 0.25 MB

    def __init__(self, models: Mapping, frames, frame_format: sequences.FrameFormat):
        models = dict(models)
        if not models:
            raise ValueError("There is no model; give at least one, name -> forecaster.")
        self._frames = rollout.checked_history(frames, frames=2, what="frames")
        if self._frames.shape[1] > frame_format.steps:
            raise ValueError(
                f"frames has {self._frames.shape[1]} frames, {frame_format.name} has "
                f"{frame_format.steps}; pass frame_format.select(frames)."
            )
        self._models, self._format = models, frame_format
        self._rollouts: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self.distances: dict[str, np.ndarray] = {}
        steps = self._frames.shape[1]
        # A WGAN-GP needs so many frames; the others read what there is.
        needs = [
            getattr(model.model.config, "frames", 1) if hasattr(model, "model") else 1
            for model in models.values()
        ]
        first = max(needs)
        if first >= steps:
            raise ValueError(f"A model reads {first} frames; of {steps} none is left to forecast.")
        w, names = ipywidgets, list(models)
        wide = {"layout": {"width": "320px"}, "style": {"description_width": "95px"}}
        slider = functools.partial(w.IntSlider, **wide)
        start = min(max(5, first), steps - 1)
        self.controls = {
            "sample": slider(
                0,
                0,
                len(self._frames) - 1,
                description="sequence",
                tooltip="Which sequence is shown",
            ),
            "start": slider(
                start,
                first,
                steps - 1,
                description="observed",
                tooltip="So many frames are observed before the forecast starts",
            ),
            "horizon": slider(
                1,
                1,
                steps - start,
                description="steps ahead",
                tooltip="How far ahead the pictures look",
            ),
            "one": w.Dropdown(
                options=names, value=names[0], description="model", tooltip="A model", **wide
            ),
            "other": w.Dropdown(
                options=names,
                value=names[min(1, len(names) - 1)],
                description="beside",
                tooltip="Another model",
                **wide,
            ),
        }
        self._shades = _Drawing("Last observed frame, truth and forecasts", "explorer-slices")
        self._errors = _Drawing("Errors of the forecasts and persistence", "explorer-errors")
        self._curves = _Drawing("Distance at each horizon, from this start", "explorer-curves")
        self._text = w.HTML()
        super().__init__(
            [
                w.Box(list(self.controls.values()), layout=_FLOW),
                self._text,
                self._shades,
                self._errors,
                self._curves,
            ],
            layout={"width": "100%", "max_width": "1100px"},
        )
        self.add_class("explorer")
        for control in self.controls.values():
            control.observe(lambda _: self.show(), "value")
        self.show()

    def show(self) -> None:
        """Draw what the controls say."""
        value = {name: control.value for name, control in self.controls.items()}
        sample, start = value["sample"], value["start"]
        ahead = self._frames.shape[1] - start
        if self.controls["horizon"].max != ahead:
            self.controls["horizon"].max = ahead  # may lower the value, and so call this again
            if value["horizon"] > ahead:
                return
        horizon = value["horizon"]
        chosen = dict.fromkeys([value["one"], value["other"]])
        try:
            found = {name: self._rollout(name, sample, start) for name in chosen}
        except Exception as error:  # whatever a model raises is told, and the sliders stay
            self._text.value = _trouble(f"{type(error).__name__}: {error}")
            return
        self._text.value = ""
        last = self._frames[sample, start - 1]
        truth = self._frames[sample, start:]
        found["persistence"] = np.broadcast_to(last, truth.shape)
        self.distances = {
            name: metrics.jaccard_distance(truth, each) for name, each in found.items()
        }
        times = self._format.times
        now = times[start + horizon - 1]
        shown = {name: each[horizon - 1] for name, each in found.items() if name != "persistence"}
        self._shades.show(
            pictures.slices(
                np.stack([last, truth[horizon - 1], *shown.values()]),
                times=[times[start - 1], now, *(f"{now}, {name}" for name in shown)],
            ),
        )
        self._errors.show(
            pictures.compare_slices(
                np.stack([truth[horizon - 1]] * len(found)),
                np.stack([each[horizon - 1] for each in found.values()]),
                times=[f"{now}, {name}: {self.distances[name][horizon - 1]:.3f}" for name in found],
            ),
        )
        self._curves.show(pictures.over_horizon(self.distances))

    def _rollout(self, name: str, sample: int, start: int) -> np.ndarray:
        """Return a model's rollout to the end of the sequence (H, D, H, W), kept for later."""
        key = (name, sample, start)
        if key not in self._rollouts:
            history = self._frames[sample : sample + 1, :start]
            ahead = self._frames.shape[1] - start
            self._rollouts[key] = rollout.rollout(self._models[name], history, ahead)[0]
            while len(self._rollouts) > self.KEPT:
                self._rollouts.popitem(last=False)
        self._rollouts.move_to_end(key)
        return self._rollouts[key]


def explorer(
    models: Mapping[str, rollout.Forecaster], frames, frame_format: sequences.FrameFormat
) -> Explorer:
    """Return a panel to explore rollouts: slide the start and the horizon, compare two models.

    Args:
        models: name -> forecaster, for example from `helpers.models.register.load` or
            `Session.forecaster`.
        frames: (N, T, D, H, W), true sequences in the format; values 0…1.
        frame_format: of the frames.

    Raises:
        ValueError, TypeError: no models; see `helpers.rollout.checked_history`; more frames than
            the format has.
    """
    return Explorer(models, frames, frame_format)
