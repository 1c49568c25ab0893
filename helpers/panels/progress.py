"""Shows a training while it runs: steps, time left, best figure, curves, a button to stop it."""

from __future__ import annotations

import html
import sys
import threading
import time

from helpers import training, workshop
from helpers.pictures import learning_curves

keras = workshop.keras()


class Display:
    """What shows a training in a notebook: a line of words, a bar, a button, a picture; a `box`."""

    def __init__(self):
        import ipywidgets

        self.line, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.bar = ipywidgets.FloatProgress(
            min=0, max=1, description="steps", tooltip="Steps done", layout={"width": "70%"}
        )
        tip = {"tooltip": "Stop after the step at hand", "layout": {"width": "25%"}}
        self.button = ipywidgets.Button(description="Stop", icon="stop", **tip)
        row = ipywidgets.HBox([self.bar, self.button])
        self.box = ipywidgets.VBox([self.line, row, self.picture])

    def show(self) -> None:
        """Show it below the cell."""
        from IPython.display import display

        bundle = self.box._repr_mimebundle_()
        # What readers see where no widgets run, for example on a web page of the notebook.
        bundle["text/plain"] = "Progress of the training (live only)"
        display(bundle, raw=True)


class Progress(keras.callbacks.Callback):
    """A Keras callback that shows a training, and changes nothing about it.

    In a notebook these are widgets, changed by their traits only, so they also work while the
    training runs in a thread. Elsewhere each round prints one line.

    Args:
        checkpoint: of the training; it comes before this one in the list of callbacks.
        stop: what the button asks to stop the training; without it there is no button.
        persistence: the distance of persistence, drawn beside the curve.
        display: a place that is shown already, whose button somebody else listens to.
    """

    def __init__(
        self,
        checkpoint: training.Checkpoint,
        stop: training.Stop | None = None,
        *,
        persistence: float | None = None,
        display: Display | None = None,
    ):
        super().__init__()
        self.checkpoint, self.stop, self.persistence = checkpoint, stop, persistence
        self._show = display is None and _in_notebook()
        self.display = Display() if self._show else display
        if self._show and stop:
            self.display.button.on_click(lambda _: stop.request("button"))

    def on_train_begin(self, logs=None):
        self._step, self._start = self.checkpoint.step, None
        self._shown, self._drawn = 0.0, None
        if self.display:
            self.display.button.disabled = self.stop is None
            self.display.bar.max = self.checkpoint.plan.steps
        if self._show:
            self.display.show()
        self._status("TensorFlow compiles the model")
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
        if self.checkpoint.step != self._step:
            return  # the round was given up
        left = self._left(time.monotonic())
        self._status(left)
        if self.display is None and threading.current_thread() is threading.main_thread():
            names = ("loss", self.checkpoint.monitor)
            shown = [f"{name} {logs[name]:.4g}" for name in names if name in logs]
            print(self._line(*shown, left), flush=True)
        self._draw()

    def on_train_end(self, logs=None):
        reason = self.stop.reason if self.stop else ""
        self._step = self.checkpoint.step
        self._status(f"stopped ({reason})" if reason else "done")
        self._draw()
        if self.display:
            self.display.button.disabled = True

    def _left(self, now: float) -> str:
        if self._start is None or self._step <= self._from:
            return ""
        each = (now - self._start) / (self._step - self._from)
        left = round(each * (self.checkpoint.plan.steps - self._step))
        return f"{left} s left" if left < 90 else f"{left // 60} min left"

    def _line(self, *parts: str) -> str:
        if best := self.checkpoint.best:
            parts += (f"best {best[self.checkpoint.monitor]:.4f}",)
        if self.persistence is not None:
            parts += (f"persistence {self.persistence:.4f}",)
        parts = (f"step {self._step} of {self.checkpoint.plan.steps}", *parts)
        return " · ".join(part for part in parts if part)

    def _status(self, *parts: str) -> None:
        if self.display:
            self.display.bar.value = self._step
            self.display.line.value = f'<div role="status">{html.escape(self._line(*parts))}</div>'

    def _draw(self) -> None:
        """Draw the curves, if there is something to see and somewhere to show it."""
        if self.display and self._drawn != len(self.checkpoint.rows):
            self._drawn = len(self.checkpoint.rows)
            options = {"distance": self.checkpoint.monitor, "persistence": self.persistence}
            table = self.checkpoint.table()
            picture = learning_curves(table, **options)._repr_html_() if len(table) else ""
            self.display.picture.value = picture


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this, without importing IPython for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
