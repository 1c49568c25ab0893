"""Shows a training while it runs: steps, time left, best figure, curves, a button to stop it."""

from __future__ import annotations

import html
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from helpers import training, workshop
from helpers.pictures import learning_curves

keras = workshop.keras()


class Progress(keras.callbacks.Callback):
    """A Keras callback that shows a training, and changes nothing about it.

    In a notebook these are widgets, changed by their traits only, so they also work while the
    training runs in a thread. Elsewhere each round prints one line.

    Args:
        checkpoint: of the training; it comes before this one in the list of callbacks.
        stop: what the button asks to stop the training; without it there is no button.
        persistence: the distance of persistence, drawn beside the curve.
        curves: draw curves after each round.
        display: show the widgets when the training begins; False if you place `widget` yourself.

    Attributes:
        widget: an ipywidgets box, or None outside notebooks.
    """

    def __init__(
        self,
        checkpoint: training.Checkpoint,
        stop: training.Stop | None = None,
        *,
        persistence: float | None = None,
        curves: bool = True,
        display: bool = True,
    ):
        super().__init__()
        self.checkpoint, self.stop, self.persistence = checkpoint, stop, persistence
        self.curves, self.display = curves, display
        self._parts = _widgets() if _in_notebook() else None
        self.widget = self._parts.box if self._parts else None
        if self._parts and stop:
            self._parts.button.on_click(lambda _: stop.request("button"))

    def on_train_begin(self, logs=None):
        self._step, self._rounds = self.checkpoint.step, self.checkpoint.epoch
        self._start, self._shown, self._drawn, self._cost = None, 0.0, 0.0, 0.0
        if self._parts:
            self._parts.button.disabled = self.stop is None
            self._parts.bar.max = self.checkpoint.plan.steps
            if self.display:
                self._parts.show()
        self._status("starting")
        self._draw()

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._step += 1
        if self._start is None:
            # The first step compiles the model, which says nothing about the others.
            self._start, self._from = now, self._step
        if now - self._shown > 0.5:
            self._shown = now
            self._status(self._left(now), f"loss {logs['loss']:.4g}" if "loss" in logs else "")

    def on_epoch_end(self, epoch, logs=None):
        if self.checkpoint.epoch == self._rounds:
            return  # the round was given up
        self._rounds = self.checkpoint.epoch
        left = self._left(time.monotonic())
        self._status(left)
        if self._parts is None and threading.current_thread() is threading.main_thread():
            names = ("loss", self.checkpoint.monitor)
            shown = [f"{name} {logs[name]:.4g}" for name in names if name in logs]
            print(self._line(*shown, left), flush=True)
        # Where a round takes less than the picture, most pictures are left out.
        if time.monotonic() - self._drawn > 20 * self._cost:
            self._draw()

    def on_train_end(self, logs=None):
        reason = self.stop.reason if self.stop else ""
        self._step = self.checkpoint.step
        self._status(f"stopped ({reason})" if reason else "done")
        self._draw()
        if self._parts:
            self._parts.button.disabled = True

    def _left(self, now: float) -> str:
        if self._start is None or self._step <= self._from:
            return ""
        each = (now - self._start) / (self._step - self._from)
        return f"{_duration(each * (self.checkpoint.plan.steps - self._step))} left"

    def _line(self, *parts: str) -> str:
        if best := self.checkpoint.best:
            parts += (f"best {best[self.checkpoint.monitor]:.4f}",)
        if self.persistence is not None:
            parts += (f"persistence {self.persistence:.4f}",)
        parts = (f"step {self._step} of {self.checkpoint.plan.steps}", *parts)
        return " · ".join(part for part in parts if part)

    def _status(self, *parts: str) -> None:
        if self._parts:
            self._parts.bar.value = self._step
            self._parts.line.value = html.escape(self._line(*parts))

    def _draw(self) -> None:
        """Draw the curves, if there is something to see and somewhere to show it."""
        if not (self._parts and self.curves and self.checkpoint.rows):
            return
        start = time.monotonic()
        picture = learning_curves(
            self.checkpoint.table(),
            distance=self.checkpoint.monitor,
            persistence=self.persistence,
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
