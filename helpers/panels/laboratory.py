"""The laboratory: turn a knob, train for a while, see what it does; buttons around a `Session`."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd

from helpers import pictures, workshop
from helpers.panels.explorer import FLOW, beside, control, put, trouble
from helpers.panels.runs import COLUMNS, MONITOR, RunError, Session
from helpers.panels.settings import MODELS, TIPS, Settings, parameters

ENOUGH = 1.0  # GB of free memory for a training; with less, the laboratory warns
POLL = 0.3  # seconds between two looks at a training
DISTANCE = "Jaccard distance"
BUTTONS = {
    "start": ("Start", "play", "Start a new run with these settings"),
    "stop": ("Stop", "stop", "Stop after the step at hand"),
    "resume": ("Continue", "step-forward", "Go on with the chosen run"),
    "copy": ("Copy settings", "copy", "Take over the settings of the chosen run"),
}


class Laboratory(ipywidgets.VBox):
    """The panel of the laboratory: choose, start, watch, stop, continue, compare.

    Everything that the buttons do can be called: `set`, `start`, `stop`, `resume`, `copy`,
    `compare`.

    Args:
        folder: where the runs are kept, and found again; `runs` in the folder of the course unless
            told.
        session: one that is there already, in place of `folder`.
    """

    def __init__(self, folder: str | Path | None = None, *, session: Session | None = None):
        self.session, self._follower = session or Session(folder), None
        self._seen = None  # run and step in the pictures
        w, last = ipywidgets, len(self.session.frames) - 1
        self._controls = {field.name: _knob(field) for field in dataclasses.fields(Settings)}
        self._buttons = {
            name: w.Button(description=text, icon=icon, tooltip=tip, layout={"width": "auto"})
            for name, (text, icon, tip) in BUTTONS.items()
        }
        self._bar = control(w.FloatProgress, "steps", "Steps done", max=1)
        shown = "Which validation sequence is shown"
        self._sample = control(w.IntSlider, "sequence", shown, max=last)
        choose = "Choose one run to continue or to copy, or several to compare"
        self._chosen = control(w.SelectMultiple, "runs", choose, "98%", rows=6)
        axis = "What the horizontal axis of the comparison shows"
        self._over = control(w.Dropdown, "compare over", axis, options=["step", "seconds"])
        column = "Sort the table by this column"
        self._sort = control(w.Dropdown, "sort by", column, options=COLUMNS)
        down = "Sort from the largest to the smallest"
        self._descending = control(w.Checkbox, "largest first", down)
        self._about, self._message, self._status, self._table = (w.HTML() for _ in range(4))
        self._curves, self._shades, self._errors, self._comparison = (w.HTML() for _ in range(4))
        self._table.layout.overflow = "auto"
        self._table.add_class("jp-RenderedHTMLCommon")  # as JupyterLab shows tables
        start, stop, resume, copy = self._buttons.values()
        super().__init__(
            [
                w.HTML("<h3>Settings</h3>"),
                w.Box(list(self._controls.values()), layout=FLOW),
                self._about,
                w.Box([start, stop, self._bar], layout=FLOW),
                self._message,
                self._status,
                self._curves,
                self._sample,
                w.Box([self._shades, self._errors], layout=FLOW),
                w.HTML("<h3>Runs</h3>"),
                self._chosen,
                w.Box([resume, copy, self._over], layout=FLOW),
                self._comparison,
                w.Box([self._sort, self._descending], layout=FLOW),
                self._table,
            ],
            layout={"width": "100%", "max_width": "1100px"},
        )
        self.add_class("laboratory")
        for name in ("message", "status", "curves"):
            getattr(self, f"_{name}").add_class(f"laboratory-{name}")
        for name, button in self._buttons.items():
            button.on_click(lambda _, name=name: getattr(self, name)())
        for action, controls in (
            (self._turned, self._controls.values()),
            (self._draw_slices, [self._sample]),
            (self._draw_comparison, [self._chosen, self._over]),
            (self._fill_table, [self._sort, self._descending]),
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

    def set(self, **changes) -> None:
        """Turn controls, for example `set(model="ConvLSTM", steps=20)`.

        Raises:
            ValueError: there is no such control, or it cannot have such a value.
        """
        for name, value in changes.items():
            if name not in self._controls:
                known = ", ".join(self._controls)
                raise ValueError(f"There is no setting {name!r}; choose one of {known}.")
            knob = self._controls[name]
            with contextlib.suppress(Exception):
                knob.value = value
            if knob.value != value:
                raise ValueError(f"{name} cannot be {value!r}; it is {knob.value!r} now.")

    def start(self) -> int | None:
        """Start a new run with the settings shown; return its number, or None if it was refused.

        Why it was refused is written in the panel.
        """
        return self._begin(lambda: self.session.start(self.settings, wait=False))

    def stop(self) -> None:
        """Stop the run at hand after its step."""
        running = self.session.running
        self.session.stop()
        self._say("Stopping after the step at hand …" if running else "No run is being trained.")

    def resume(self, run: int | None = None) -> int | None:
        """Go on with a run, the chosen one unless told; return its number, or None if refused.

        A run that has done all its steps is followed by a new one that begins with its weights.
        """
        return self._begin(lambda: self.session.resume(self._one(run), wait=False))

    def copy(self, run: int | None = None) -> None:
        """Take over the settings of a run, the chosen one unless told."""
        self._say("")
        self._try(lambda: self.set(**vars(self.session.runs.read(self._one(run))["settings"])))

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

    def _begin(self, action: Callable[[], int]) -> int | None:
        """Begin a run, and follow it from a thread of its own: who draws slows nobody down."""
        self._say("")
        run = self._try(action)
        if run is not None:
            self._follower = threading.Thread(target=self._follow, daemon=True)
            self._follower.start()
        return run

    def _follow(self) -> None:
        while self.session.running:
            self._try(self._show_run)
            self.session.wait(POLL)
        self._try(self._show_run)
        self._try(self._refresh)
        self.compare(self.session.run)
        self._say(self.session.message and f"Run {self.session.run}: {self.session.message}", True)

    def _one(self, run: int | None) -> int:
        chosen = self._chosen.value if run is None else (run,)
        if len(chosen) != 1:
            raise RunError(f"{len(chosen)} runs are chosen; choose one in the list of runs.")
        return chosen[0]

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
        if (free := workshop.memory()[1] / 2**30) < ENOUGH:
            told = f"Only {free:.1f} GB of memory are free"
            lines.append(trouble(f"{told}: shut down the kernels of other notebooks."))
        if lacks:
            lines.append(f"This model has no {', '.join(lacks).replace('_', ' ')}.")
        self._about.value = f'<div role="status">{"<br>".join(lines)}</div>'

    def _show_run(self) -> None:
        """Show where the run at hand is, and draw it where there is a new round."""
        session = self.session
        running, step, left = session.running, session.step, session.left
        run = session.runs.read(session.run)
        step = step if running else run["step"]
        self._bar.max, self._bar.value = max(run["steps"], 1), step
        parts = [f"run {run['run']}", f"step {step} of {run['steps'] or '?'}"]
        if run["best"] is not None:
            parts.append(f"best {run['best']:.4f}")
        parts.append(f"persistence {run['persistence']:.4f}")
        if not running:
            parts.append(run["status"])
        elif left is None:
            parts.append("TensorFlow compiles the model, and the first steps are timed")
        else:
            parts.append(f"about {left:.0f} s left")
        self._status.value = f'<div role="status">{html.escape(" · ".join(parts))}</div>'
        if self._seen != (run["run"], run["step"]):
            self._seen = run["run"], run["step"]
            # Before the first round, what is there is of the run before.
            picture = run["step"] and pictures.learning_curves(
                run["log"], distance=MONITOR, persistence=run["persistence"]
            )
            put(self._curves, "The run at hand, round by round", picture)
            self._draw_slices()

    def _draw_slices(self) -> None:
        """Draw the chosen sequence of the run at hand: from what was forecast, no model is run."""
        run, sample = self.session.run, self._sample.value
        forecasts, pair = self.session.runs.forecast(run), (None, None)
        if forecasts is not None and sample < len(forecasts):
            settings = self.session.runs.read(run)["settings"]
            form = settings.frame_format
            last, truth = form.select(self.session.frames)[sample, -2:].astype(np.float32)
            found = {settings.model: forecasts[sample] / np.float32(255)}
            pair = beside(last, truth, found, *form.times[-2:])
        put(self._shades, "Last observed frame, truth and forecast", pair[0])
        put(self._errors, "Errors of forecast and persistence", pair[1])

    def _draw_comparison(self) -> None:
        """Draw the chosen runs beside each other and persistence."""
        logs, nulls = {}, {}
        for run in map(self.session.runs.read, self._chosen.value):
            if run["step"]:
                settings, log, x = run["settings"], run["log"], run["log"][self._over.value]
                logs[f"{run['run']} · {settings.model}"] = {"step": x, DISTANCE: log[MONITOR]}
                name = f"persistence, {settings.format}, {run['data']}"
                nulls.setdefault(name, (run["persistence"], []))[1].extend(x)
        for name, (distance, x) in nulls.items():
            name = "persistence" if len(nulls) == 1 else name
            logs[name] = {"step": [min(x), max(x)], DISTANCE: [distance] * 2}
        if len(nulls) > 1:
            self._say("Several formats or data: compare each run with its own persistence only.")
        picture = logs and pictures.loss_curves(logs, columns=[DISTANCE], xlabel=self._over.value)
        put(self._comparison, "The chosen runs, judged in validation", picture)

    def _refresh(self) -> None:
        """Read the runs anew from the disk."""
        table, names = self.session.runs.table().dropna(subset="model"), []
        for row in table.itertuples():
            best = "" if pd.isna(row.best) else f" · best {row.best:.4f}"
            text = f"{row.run} · {row.model} · {row.format} · history {row.history} · width "
            text += f"{row.width} · rate {row.learning_rate:g}{best} · {row.status}"
            names.append((text, int(row.run)))
        chosen = self._chosen.value
        self._chosen.options = names
        self.compare(*chosen)
        self._fill_table()

    def _fill_table(self) -> None:
        table = self.session.runs.table(self._sort.value, not self._descending.value)
        table = table.dropna(axis="columns", how="all")  # what no model here has
        form = {"index": False, "border": 0, "na_rep": "", "float_format": "{:.4g}".format}
        self._table.value = table.to_html(**form) if len(table) else "<em>No run yet.</em>"


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
