"""The laboratory: turn a knob, train for a while, see what it does; buttons around a `Session`."""

from __future__ import annotations

import dataclasses
import html
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd

from helpers import pictures, workshop
from helpers.panels.explorer import FLOW, beside, control, put, trouble
from helpers.panels.progress import Display, Progress
from helpers.panels.runs import MONITOR, ROLLOUT, RunError, Session, spread
from helpers.panels.settings import MODELS, TIPS, Settings, parameters

keras = workshop.keras()

DISTANCE = "Jaccard distance"
BUTTONS = {
    "start": ("Start", "play", "Start a new run with these settings"),
    "resume": ("Continue", "step-forward", "Go on with the chosen run"),
    "another_seed": ("Add a seed", "plus", "Train the chosen run's settings with the next seed"),
}
LOGGED = {"best": MONITOR, "rollout": ROLLOUT}  # what is compared -> its column in a log
VALUES = "what differs"


class Laboratory(ipywidgets.VBox):
    """The panel of the laboratory: choose, start, watch, stop, continue, compare.

    What the buttons do can be called: `start`, `stop`, `resume`, `another_seed`; and `compare`.

    Args:
        folder: where the runs are kept, and found again; `runs` in the folder of the course unless
            told.
    """

    def __init__(self, folder: str | Path | None = None):
        self.session = Session(folder)
        self._thread: threading.Thread | None = None
        w, last, self._display = ipywidgets, len(self.session.frames) - 1, Display()
        self._controls = {field.name: _knob(field) for field in dataclasses.fields(Settings)}
        self._buttons = {
            name: w.Button(description=text, icon=icon, tooltip=tip, layout={"width": "auto"})
            for name, (text, icon, tip) in BUTTONS.items()
        }
        shown = "Which validation sequence is shown"
        self._sample = control(w.IntSlider, "sequence", shown, max=last)
        choose = "Choose one run to continue, or several to compare"
        self._chosen = control(w.SelectMultiple, "runs", choose, "98%", rows=6)
        axis = "What the horizontal axis of the comparison shows"
        over = [VALUES, "step", "seconds"]
        self._over = control(w.Dropdown, "compare over", axis, options=over)
        judged = "Forecasts of one frame from true frames, or of four frames fed back"
        self._judged = control(w.Dropdown, "distance", judged, options=list(LOGGED))
        self._about, self._message, self._table = (w.HTML() for _ in range(3))
        self._shades, self._errors, self._comparison = (w.HTML() for _ in range(3))
        self._table.layout.overflow = "auto"
        for each in (self._table, self._comparison):
            each.add_class("jp-RenderedHTMLCommon")  # as JupyterLab shows tables
        start, *others = self._buttons.values()
        super().__init__(
            [
                w.HTML("<h3>Settings</h3>"),
                w.Box(list(self._controls.values()), layout=FLOW),
                w.Box([start, self._about], layout=FLOW),
                self._message,
                self._display.box,
                self._sample,
                w.Box([self._shades, self._errors], layout=FLOW),
                w.HTML("<h3>Runs</h3>"),
                self._chosen,
                w.Box(others, layout=FLOW),
                w.Box([self._over, self._judged], layout=FLOW),
                self._comparison,
                self._table,
            ],
            layout={"width": "100%", "max_width": "1100px"},
        )
        self.add_class("laboratory")
        self._message.add_class("laboratory-message")
        self._display.line.add_class("laboratory-status")
        self._display.picture.add_class("laboratory-curves")
        for name, button in self._buttons.items():
            button.on_click(lambda _, name=name: getattr(self, name)())
        self._display.button.on_click(lambda _: self.stop())
        for action, controls in (
            (self._turned, self._controls.values()),
            (self._draw_slices, [self._sample]),
            (self._draw_comparison, [self._chosen, self._over, self._judged]),
        ):
            for each in controls:
                each.observe(lambda _, action=action: self._try(action), "value")
        self._turned()
        self._refresh()

    # What the buttons do

    @property
    def settings(self) -> Settings:
        """The settings as the controls show them."""
        return Settings(**{n: c.value for n, c in self._controls.items() if not c.disabled})

    def start(self) -> None:
        """Train a new run with the settings shown, in the background."""
        self._train(lambda: self.session.start(self.settings, self._watch))

    def stop(self) -> None:
        """Stop the run at hand after its step."""
        running = self.session.running
        self.session.stop()
        self._say("Stopping after the step at hand …" if running else "No run is being trained.")

    def resume(self) -> None:
        """Go on with the chosen run, in the background."""
        self._train(lambda: self.session.resume(self._one(), self._watch))

    def another_seed(self) -> None:
        """Train the settings of the chosen run with the next seed, in the background."""

        def start() -> int:
            settings = self.session.another_seed(self.session.read(self._one()).settings)
            return self.session.start(settings, self._watch)

        self._train(start)

    def compare(self, *runs: int) -> None:
        """Choose runs, and draw them beside each other."""
        self._chosen.value = tuple(run for _, run in self._chosen.options if run in runs)

    # How it is done

    def _try(self, action: Callable):
        """Do something, and write in the panel what went wrong: it stays usable, whatever it is."""
        try:
            return action()
        except Exception as error:
            ours = isinstance(error, (RunError, ValueError, OSError))
            self._say(str(error) if ours else f"{type(error).__name__}: {error}", wrong=True)
            return None

    def _train(self, action: Callable[[], int]) -> None:
        """Train in a thread of its own, and show how the run ended, or why it was refused.

        A kernel that is shut down does not wait for it. The files are whole at any moment.
        """

        def work() -> None:
            self._say("")
            if run := self._try(action):
                self._try(lambda: self._ended(run))

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _watch(self, run, checkpoint, stop) -> list:
        """Return the callbacks that show a training; see `Session`."""
        shown = {"persistence": run.persistence[MONITOR], "display": self._display}
        drawing = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: self._try(lambda: self._refresh(self._chosen.value)),
            on_epoch_end=lambda epoch, logs: self._try(self._draw_slices),
        )
        return [Progress(checkpoint, stop, **shown), drawing]

    def _ended(self, run: int) -> None:
        """Show how a run ended: it is written down by now."""
        message, others = self.session.message, self._chosen.value
        self._refresh({run, *(others if self._alike(run, *others) else ())})
        if message:
            self._say(f"Run {run}: {message}", wrong=True)

    def _alike(self, *runs: int) -> bool:
        """Tell whether runs differ in nothing but their seeds."""
        table = self.session.table()
        return differing(table[table["run"].isin(runs)]) == ["seed"]

    def _one(self) -> int:
        """Return the chosen run: of several that differ by their seeds, the latest."""
        chosen = self._chosen.value
        if not chosen or not self._alike(*chosen):
            raise RunError(f"{len(chosen)} runs are chosen; choose one in the list of runs.")
        return max(chosen)

    def _say(self, text: str, wrong: bool = False) -> None:
        told = trouble(text) if wrong and text else html.escape(text)
        self._message.value = f'<div role="status">{told}</div>'

    def _turned(self) -> None:
        """A control was turned: disable what the model lacks, and say what is to be trained."""
        lacks = MODELS[self._controls["model"].value].lacks
        for name, knob in self._controls.items():
            knob.disabled = name in lacks
        try:
            lines, fine = [f"{parameters(self.settings):,} parameters"], True
        except (TypeError, ValueError) as error:
            lines, fine = [trouble(str(error))], False
        self._buttons["start"].disabled = not fine
        if lacks:
            lines.append(f"This model has no {', '.join(lacks).replace('_', ' ')}.")
        self._about.value = f'<div role="status">{"<br>".join(lines)}</div>'

    def _draw_slices(self) -> None:
        """Draw the chosen sequence of the run at hand: from what was forecast, no model is run."""
        sample, forecasts, pair = self._sample.value, self.session.forecast, (None, None)
        if forecasts is not None:
            settings = self.session.read(self.session.run).settings
            form = settings.frame_format
            last, truth = form.select(self.session.frames)[sample, -2:].astype(np.float32)
            pair = beside(last, truth, {settings.model: forecasts[sample]}, *form.times[-2:])
        put(self._shades, "Last observed frame, truth and forecast", pair[0])
        put(self._errors, "Errors of forecast and persistence", pair[1])

    def _draw_comparison(self) -> None:
        """Draw the chosen runs beside each other and persistence, and tabulate their spread."""
        table, picture, words = self.session.table(), None, ""
        table = table[table["run"].isin(self._chosen.value)].dropna(subset="best")
        column, over = self._judged.value, self._over.value
        null = "persistence" if column == "best" else f"persistence_{column}"
        if table[null].nunique() > 1:
            self._say("Several formats or data: compare runs of one.")
        elif len(table) and over == VALUES:
            *others, knob = differing(table)
            groups = table.groupby(others) if others else [((), table)]
            lines = {
                " · ".join(map(str, name)) or table["model"].iloc[0]: (rows[knob], rows[column])
                for name, rows in groups
            }
            options = {"xlabel": knob.replace("_", " "), "ylabel": f"{column}: {DISTANCE}"}
            picture = pictures.seeds(lines, persistence=table[null].iloc[0], **options)
            found = spread(table, [*others, knob] if knob != "seed" else ["model"], column)
            words = _html(found)
        elif len(table):
            logs = {}
            for row in table.itertuples():
                log = self.session.read(row.run).log
                distances = {DISTANCE: log[LOGGED[column]]}
                logs[f"{row.run} · {row.model}"] = {"step": log[over]} | distances
            ends = [0, max(log["step"].max() for log in logs.values())]
            logs["persistence"] = {"step": ends, DISTANCE: [table[null].iloc[0]] * 2}
            picture = pictures.loss_curves(logs, columns=[DISTANCE], xlabel=over)
        put(self._comparison, "The chosen runs, judged in validation", picture)
        self._comparison.value += words

    def _refresh(self, chosen: Collection[int] = ()) -> None:
        """Read the runs anew from the disk, and choose some."""
        table, names = self.session.table().dropna(subset="model"), []
        for row in table.itertuples():
            parts = [f"{row.run} · {row.model} · {row.format}"]
            parts += [f"history {row.history}"] if pd.notna(row.history) else []
            parts += [f"width {row.width} · rate {row.learning_rate:g} · seed {row.seed}"]
            parts += [f"best {row.best:.4f}"] if pd.notna(row.best) else []
            names.append((" · ".join([*parts, row.status]), int(row.run)))
        self._chosen.options = names
        self.compare(*chosen)
        # The best one first, and without the settings that no model here has.
        table = self.session.table().sort_values("best").dropna(axis="columns", how="all")
        self._table.value = _html(table, index=False) if len(table) else "<em>No run yet.</em>"


def _html(table: pd.DataFrame, **options) -> str:
    return table.to_html(border=0, na_rep="", float_format="{:.4g}".format, **options)


def differing(table: pd.DataFrame) -> list[str]:
    """Return the settings that all runs have and in which they differ, but for the seed.

    Numbers come last. Where they differ in none, it is the seed.
    """
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "seed"]
    found = [name for name in names if table[name].notna().all() and table[name].nunique() > 1]
    numbers = [name for name in found if pd.api.types.is_numeric_dtype(table[name])]
    return [name for name in found if name not in numbers] + numbers or ["seed"]


def _knob(field: dataclasses.Field) -> ipywidgets.ValueWidget:
    """Return the widget of a setting."""
    label, tip, found = field.name.replace("_", " "), TIPS[field.name], field.metadata
    options = {"width": "265px", "value": field.default}
    if "choices" in found:
        return control(ipywidgets.Dropdown, label, tip, options=found["choices"], **options)
    limits = found["range"]
    if field.name in ("history", "depth"):
        ends = {"min": limits.least, "max": limits.most, "continuous_update": False}
        return control(ipywidgets.IntSlider, label, tip, **ends, **options)
    # Not the bounded kinds: they change a number without a word.
    kind = ipywidgets.IntText if limits.whole else ipywidgets.FloatText
    return control(kind, label, f"{tip} ({limits})", **options)
