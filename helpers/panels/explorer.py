"""The explorer: forecasts of two models side by side, over start time and horizon."""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping

import ipywidgets
import numpy as np

from helpers import metrics, pictures, rollout, sequences
from helpers.pictures.curves import DISTANCE, HORIZON

AXES = {"xlabel": HORIZON, "ylabel": DISTANCE, "marks": True}
FLOW = {"display": "flex", "flex_flow": "row wrap", "align_items": "center", "width": "100%"}


class Explorer(ipywidgets.VBox):
    """A panel to explore rollouts: slide the start and the horizon, compare two models.

    Args:
        models: name -> forecaster, for example from `helpers.models.register.load` or
            `helpers.panels.runs.Session.forecaster`.
        frames: (N, T, D, H, W), true sequences in the format; values 0…1.
        frame_format: of the frames.

    Attributes:
        controls: name -> widget: `sample`, `start`, `horizon`, `one` and `other`. Set their `value`
            to steer the panel from code.
        distances: of what is shown: name -> (horizons,).
    """

    def __init__(self, models: Mapping, frames, frame_format: sequences.FrameFormat):
        self._models, self._format = dict(models), frame_format
        self._frames = rollout.checked_history(frames, frames=2, what="frames")
        steps = self._frames.shape[1]
        if steps > frame_format.steps:
            raise ValueError(
                f"frames has {steps} frames, {frame_format.name} has {frame_format.steps}; pass "
                "frame_format.select(frames)."
            )
        # Rollouts of 15 frames are 0.25 MB; sliding back and forth asks no model again.
        self._rollout = functools.lru_cache(maxsize=256)(self._rollout)
        self.distances: dict[str, np.ndarray] = {}
        names, start = list(self._models), min(5, steps - 1)
        last, slider, choice = len(self._frames) - 1, ipywidgets.IntSlider, ipywidgets.Dropdown
        observed = "So many frames are observed before the forecast starts"
        ahead = {"value": 1, "min": 1, "max": steps - start}
        other = {"options": names, "value": names[min(1, len(names) - 1)]}
        self.controls = {
            "sample": control(slider, "sequence", "Which sequence is shown", max=last),
            "start": control(slider, "observed", observed, value=start, min=1, max=steps - 1),
            "horizon": control(slider, "steps ahead", "How far ahead the pictures look", **ahead),
            "one": control(choice, "model", "A model", options=names),
            "other": control(choice, "beside", "Another model", **other),
        }
        for each in self.controls.values():
            each.observe(lambda _: self.show(), "value")
        self._text, self._shades, self._errors, self._curves = (ipywidgets.HTML() for _ in range(4))
        parts = [self._text, self._shades, self._errors, self._curves]
        super().__init__(
            [ipywidgets.Box(list(self.controls.values()), layout=FLOW), *parts],
            layout={"width": "100%", "max_width": "1100px"},
        )
        self.add_class("explorer")
        self.show()

    def show(self) -> None:
        """Draw what the controls say."""
        sample, start, horizon, *chosen = (each.value for each in self.controls.values())
        ahead = self._frames.shape[1] - start
        if self.controls["horizon"].max != ahead:
            self.controls["horizon"].max = ahead  # may lower the value, and so call this again
            if horizon > ahead:
                return
        try:
            found = {name: self._rollout(name, sample, start) for name in chosen}
        except Exception as error:  # whatever a model raises is told, and the sliders stay
            self._text.value = trouble(f"{type(error).__name__}: {error}")
            return
        self._text.value = ""
        last, truth = self._frames[sample, start - 1], self._frames[sample, start:]
        shown = {name: each[horizon - 1] for name, each in found.items()}
        found["persistence"] = np.broadcast_to(last, truth.shape)
        self.distances = {n: metrics.jaccard_distance(truth, each) for n, each in found.items()}
        before, now = (self._format.times[place] for place in (start - 1, start + horizon - 1))
        shades, errors = beside(last, truth[horizon - 1], shown, before, now)
        put(self._shades, "Last observed frame, truth and forecasts", shades)
        put(self._errors, "Errors of the forecasts and persistence", errors)
        picture = pictures.curves(self.distances, range(1, ahead + 1), **AXES)
        put(self._curves, "Distance at each horizon, from this start", picture)

    def _rollout(self, name: str, sample: int, start: int) -> np.ndarray:
        """Return a model's rollout to the end of the sequence, (H, D, H, W)."""
        history = self._frames[sample : sample + 1, :start]
        return rollout.rollout(self._models[name], history, self._frames.shape[1] - start)[0]


def control(kind: type, label: str, tip: str, width: str = "320px", **options):
    """Return a widget with its label and its explanation."""
    style = {"description_width": "105px"}
    return kind(description=label, tooltip=tip, layout={"width": width}, style=style, **options)


def beside(last, truth, forecasts: Mapping, before: int, now: int) -> tuple[pictures.Picture, ...]:
    """Draw forecasts of one frame, name -> (D, H, W), beside the last one and the truth.

    Returns the frames as shades, and the errors, those of persistence among them.
    """
    times = [before, now, *(f"{now}, {name}" for name in forecasts)]
    shades = pictures.slices(np.stack([last, truth, *forecasts.values()]), times=times)
    judged = {**forecasts, "persistence": last}
    scores = {name: metrics.jaccard_distance(truth, each) for name, each in judged.items()}
    times = [f"{now}, {name}: {score:.3f}" for name, score in scores.items()]
    guesses = np.stack(list(judged.values()))
    return shades, pictures.compare_slices(np.stack([truth] * len(judged)), guesses, times=times)


def put(place: ipywidgets.HTML, caption: str, picture: pictures.Picture | None) -> None:
    """Show a picture under a line that says what it is, with words for those who cannot see it.

    (An `ipywidgets.Image` takes no such words, and fails in JupyterLab if it is given a tooltip.)
    """
    caption = f"<small>{html.escape(caption)}</small><br>"
    fitting = '<img style="max-width: 100%" '
    place.value = caption + picture._repr_html_().replace("<img ", fitting, 1) if picture else ""


def trouble(text: str) -> str:
    """Return a sentence in HTML that says what is wrong."""
    return f'<span role="alert" style="color: {pictures.MISS}">⚠ {html.escape(text)}</span>'
