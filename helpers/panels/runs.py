"""The runs of the laboratory: a folder for each, one table of all, a session that trains them.

There are no widgets here; `helpers.panels.laboratory` puts buttons in front of it.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers import _files, metrics, records, rollout, training, workshop
from helpers.panels.settings import TARGETS, Settings, parameters
from helpers.sequences import FrameFormat

tf = workshop.tensorflow()

import keras  # noqa: E402  (after the quiet import of TensorFlow)

RUN, LOCK = "run.json", "lock"
REMEDY = "choose another folder: Laboratory(folder=...)"
MONITOR, ROLLOUT = "val_jaccard", "val_rollout"
COLUMNS = ["run", "status", *(field.name for field in dataclasses.fields(Settings)), "parameters"]
COLUMNS += ["step", "seconds", "best", "persistence", "rollout", "persistence_rollout", "data"]


class RunError(RuntimeError):
    """A run is not there, is damaged or cannot be continued; or another one is in the way."""


@dataclass(frozen=True)
class Run:
    """What is known of a run. It is read from its folder, so it is the same in every kernel."""

    place: Path  # its folder, whose name is its number: `run.json`, checkpoint, best weights
    settings: Settings
    parameters: int
    persistence: dict[str, float]  # its distances on the frames that the run is judged on
    data: str  # what it is trained on
    ended: str = ""  # "done", "stopped", "diverged" or "failed"; empty before that
    log: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)  # a row for each round

    @classmethod
    def read(cls, place: Path) -> Run:
        """Return what the folder of a run says, or raise a `RunError`."""
        path = place / RUN
        try:
            found = _files.unsealed(_files.read_json(path))
            settings = Settings(**found.pop("settings"))
            return cls(place, settings, log=training.read_log(place), **found)
        except FileNotFoundError:
            raise RunError(f"There is no run {place.name} in {place.parent}.") from None
        except Exception as error:  # whatever another file leads to
            raise RunError(
                f"{path} is damaged, or was made by another version of the course "
                f"({type(error).__name__}: {error}). It is left as it is: start a new run."
            ) from error

    def write(self, ended: str = "") -> None:
        """Write down what is known, and how it ended."""
        found = {name: getattr(self, name) for name in ("parameters", "persistence", "data")}
        found |= {"settings": vars(self.settings), "ended": ended}
        _files.write_json(self.place / RUN, _files.sealed(found))

    @property
    def number(self) -> int:
        """The number that the table calls it by."""
        return int(self.place.name)

    @property
    def status(self) -> str:
        """How it ended, or `"training"`, or `"interrupted"` where its kernel died."""
        if self.ended:
            return self.ended
        try:
            # Whoever trains it holds its lock: another session, another kernel.
            with _files.lock(self.place / LOCK, REMEDY, wait=False):
                return "interrupted"
        except OSError as error:  # where nothing can be locked, nobody trains
            return "training" if isinstance(error, _files.InUse) else "interrupted"

    def row(self) -> dict:
        """Return its row in the table: `best`, and `rollout` of the same round, are distances."""
        found = {"run": self.number, "status": self.status, **self.settings.used()}
        found |= {"parameters": self.parameters, "data": self.data, "step": 0}
        found["persistence"] = self.persistence[MONITOR]
        found["persistence_rollout"] = self.persistence[ROLLOUT]
        if len(self.log):
            best = self.log.loc[self.log[MONITOR].idxmin()]
            found |= {"best": best[MONITOR], "rollout": best[ROLLOUT]}
            found |= self.log.iloc[-1][["step", "seconds"]]
        return found


def spread(table: pd.DataFrame, knob: str, column: str = "best") -> pd.DataFrame:
    """Summarise runs over their seeds: mean, standard deviation and number for each value."""
    found = table.groupby(knob, observed=True)[column].agg(["mean", "std", "count"])
    return found.rename(columns={"std": "spread", "count": "seeds"})


class Session:
    """Trains one model at a time, and keeps every run.

    Training and validation data are those of the course (`WORKSHOP_DATA`, or the sample set), as
    many sequences as the profile says. Every run of a format is judged on the same frames, whatever
    its model and history: the last four of each validation sequence. `MONITOR` is the mean Jaccard
    distance of forecasts from the true frames before each of them; `ROLLOUT` that of one rollout
    over all four.

    Args:
        folder: of the runs; `runs` in the folder of the course unless told.

    Attributes:
        frames: of the validation sequences, at all times: uint8 (N, 128, D, H, W).
        run: the number of the latest run that was begun here, or None.
        forecast: (N, D, H, W), what it forecast in its latest round for the last frame of each
            validation sequence; None before its first one.
        message: what went wrong with it, in words.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder or workshop.REPOSITORY / "runs")
        count, folders = workshop.profile().sequences, workshop.split_folder
        packed = functools.partial(records.packed, progress=False)
        self.training_split = packed(folders("training"), limit=3 * count)
        self.frames = packed(folders("validation"), limit=count).frames(slice(count))
        mark = next(iter(self.training_split.checksum.values()), "")[:6]
        self.data = f"{len(self.training_split)} + {len(self.frames)} sequences, {mark}"
        self.run, self.forecast, self.message = None, None, ""
        self._training, self._stopping = threading.Lock(), threading.Event()
        self._ending = threading.Event()  # the last step is done, and not all is written down

    # The runs

    def numbers(self) -> list[int]:
        """Return the numbers of the runs, ascending."""
        return sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdecimal())

    def read(self, run: int) -> Run:
        """Return what is known of a run; see `Run.read`."""
        return Run.read(self.folder / f"{run:04}")

    def table(self) -> pd.DataFrame:
        """Tabulate the runs, a row each; one that cannot be read has a status that says so."""
        rows = []
        for number in self.numbers():
            try:
                rows.append(self.read(number).row())
            except RunError:
                rows.append({"run": number, "status": "damaged or of another version"})
        # Whole numbers stay whole where some are missing.
        return pd.DataFrame(rows, columns=COLUMNS).convert_dtypes(convert_floating=False)

    def forecaster(self, run: int) -> rollout.Forecaster:
        """Return the best weights of a run as a forecaster for `helpers.rollout`."""
        found = self.read(run)
        kind, settings = found.settings.kind, found.settings
        model = kind.build(settings.config)
        training.load_best(found.place, model)
        return kind.forecaster(model, settings.frame_format, f"run {run}, {settings.model}")

    def another_seed(self, settings: Settings) -> Settings:
        """Return settings with the first seed that no run with all else the same has had."""
        table = self.table().dropna(subset="model")
        for name, value in settings.used().items():
            if name != "seed":
                table = table[table[name] == value]
        return dataclasses.replace(settings, seed=int(max(table["seed"], default=0)) + 1)

    # Training

    @property
    def running(self) -> bool:
        """Whether a run is being trained."""
        return self._training.locked()

    def judge(self, forecaster: rollout.Forecaster, frame_format: FrameFormat) -> tuple:
        """Return both distances of a forecaster, and its forecasts of the last frames."""
        frames = frame_format.select(self.frames)
        first = frames.shape[1] - TARGETS
        found = {
            MONITOR: rollout.next_frames(forecaster, frames, first=first),
            ROLLOUT: rollout.rollout(forecaster, frames[:, :first], TARGETS),
        }
        distance, truth = metrics.jaccard_distance, frames[:, first:]
        figures = {name: float(distance(truth, each).mean()) for name, each in found.items()}
        return figures, found[MONITOR][:, -1]

    def start(self, settings: Settings, watch: Callable | None = None) -> int:
        """Train a new run to its end; return its number.

        How it ended is in the table: an error in training does not leave this function. `watch`
        gives more Keras callbacks; it gets the run, its checkpoint and its stop.

        Raises:
            RunError: another run is being trained.
            OSError: the folder of the runs cannot be written.
        """

        def create() -> Run:
            persistence, _ = self.judge(rollout.Persistence(), settings.frame_format)
            place = self.folder / f"{max(self.numbers(), default=0) + 1:04}"
            run = Run(place, settings, parameters(settings), persistence, self.data)
            with _files.writing(self.folder, REMEDY):
                place.mkdir(parents=True)  # two kernels cannot both make it
                run.write()
            return run

        return self._begin(create, watch)

    def resume(self, run: int, watch: Callable | None = None) -> int:
        """Go on with a run that was stopped, or whose kernel died; return its number.

        It goes on from its checkpoint, and ends with the weights of one that was never stopped.

        Raises:
            RunError: another run is being trained; there is no such run; it has done all its
                steps, or has diverged; it was trained on other data.
        """
        found = self.read(run)
        status = found.status
        refused = {
            "done": "has done all its steps. Start a new one with more.",
            "training": "is being trained already, here or by another kernel.",
            "diverged": "has diverged and would again. Start one with a lower learning rate.",
        }
        if status in refused:
            raise RunError(f"Run {run} {refused[status]}")
        if found.data != self.data:
            raise RunError(
                f"Run {run} was trained on other data ({found.data}) than those at hand "
                f"({self.data}). Set WORKSHOP_DATA as it was then, or start a new run."
            )
        return self._begin(lambda: found, watch)

    def stop(self) -> None:
        """Ask the run to stop: it does so after the step at hand, and can be resumed."""
        self._stopping.set()

    def _begin(self, prepare: Callable[[], Run], watch: Callable | None) -> int:
        """Train the run that `prepare` returns, unless another one is being trained."""
        # A run that has just shown its end is still being written down.
        if not self._training.acquire(blocking=self._ending.is_set()):
            raise RunError(
                f"Run {self.run} is being trained. Stop it first, or wait until it has ended."
            )
        self._ending.clear()
        try:
            run = prepare()
            self.run, self.forecast, self.message = run.number, None, ""
            self._stopping.clear()
            self._train(run, watch)
            keras.utils.clear_session()
        finally:
            self._training.release()
        return run.number

    def _train(self, run: Run, watch: Callable | None) -> None:
        """Train a run to its end, and write down what that was."""
        tf.get_logger().setLevel("ERROR")  # models traced anew would warn in whatever cell runs
        try:
            with _files.lock(run.place / LOCK, REMEDY, wait=False):
                run.write()
                try:
                    ended = self._fit(run, watch)
                except FloatingPointError as error:
                    ended, self.message = "diverged", str(error)
                except Exception as error:
                    ended, self.message = "failed", f"{type(error).__name__}: {error}"[:2000]
                run.write(ended)
        except Exception as error:  # another kernel trains it, the disk is full, its folder is gone
            self.message = f"{type(error).__name__}: {error}"

    def _fit(self, run: Run, watch: Callable | None) -> str:
        """Train a run; return how it ended."""
        settings, plan = run.settings, run.settings.plan
        checkpoint, stop = _Judged(self, run), training.Stop(event=self._stopping)
        formats = [settings.frame_format]
        batches = settings.kind.batches(self.training_split, formats, settings.config, plan)
        ending = keras.callbacks.LambdaCallback(on_train_end=lambda logs: self._ending.set())
        callbacks = [ending, stop, *(watch(run, checkpoint, stop) if watch else [])]
        training.train(settings.compiled(), batches, checkpoint, callbacks=callbacks)
        return "stopped" if stop.reason else "done"


class _Judged(training.Checkpoint):
    """Judges each full round on the frames of all runs, before it is kept as any checkpoint is."""

    def __init__(self, session: Session, run: Run):
        super().__init__(run.place, run.settings.plan, MONITOR)
        self.session, self.settings = session, run.settings

    def on_epoch_end(self, epoch, logs=None):
        if self._is_full():
            found = self.settings.frame_format
            forecaster = self.settings.kind.forecaster(self.model, found)
            try:
                figures, last = self.session.judge(forecaster, found)
            except ValueError as error:  # what it forecasts are no probabilities
                raise FloatingPointError(f"Training diverged: {error}") from error
            logs.update(figures)
            self.session.forecast = last
        super().on_epoch_end(epoch, logs)
