"""The 3D viewer: step through a sequence, turn it, and compare a forecast with the truth."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Sequence

import ipywidgets

from helpers import metrics, pictures
from helpers._checks import voxels

SHOWN = ("truth", "prediction", "difference")
TURN, TILT = 24, 24  # degrees; about pictures.VIEW
UNSEEN = "position: absolute; width: 1px; height: 1px; overflow: hidden"  # read aloud, not shown
SIZE = 285  # pixels of each of the two pictures: both fit beside JupyterLab's file list


class Viewer(ipywidgets.VBox):
    """A panel that steps through a sequence in 3D and in a slice across D.

    It is made of images and sliders, so it needs no server and works wherever widgets do. The
    camera is two sliders, and stays where it is while time goes on. With the control `mouse` on,
    which it is from the start where the environment variable `WORKSHOP_3D` is `html`, the frame is
    also shown as a scene that is turned by hand; a new frame starts it anew.

    Args:
        truth: (T, D, H, W), values 0…1; filled means 0.5 or above.
        prediction: probabilities of the same shape; only the truth is shown when None.
        times: of each frame; 0…T-1 unless told.

    Attributes:
        controls: name -> widget: `time`, `shown`, `threshold`, `slice`, `turn`, `tilt` and `mouse`.
            Set their `value` to steer the panel from code.
    """

    def __init__(
        self,
        truth,
        prediction=None,
        *,
        times: Sequence[int] | None = None,
        name: str = "prediction",
    ):
        self.truth, self.prediction, self.name = voxels("truth", truth, axes=(4,)), None, name
        if prediction is not None:
            self.prediction = voxels("prediction", prediction, axes=(4,))
            if self.prediction.shape != self.truth.shape:
                raise ValueError(
                    f"truth has shape {self.truth.shape}, prediction {self.prediction.shape}; "
                    "expected the same: a forecast for each frame."
                )
        self.times = [int(t) for t in (range(len(self.truth)) if times is None else times)]
        if len(self.times) != len(self.truth):
            raise ValueError(f"times has {len(self.times)} entries for {len(self.truth)} frames.")
        self._build()
        self._draw()

    def _build(self) -> None:
        w, last, depth = ipywidgets, len(self.truth) - 1, self.truth.shape[1]
        wide = {"layout": {"width": f"{SIZE - 15}px"}, "style": {"description_width": "70px"}}
        whole = functools.partial(w.IntSlider, **wide)
        shown = SHOWN if self.prediction is not None else SHOWN[:1]
        cut = {"min": 0.05, "max": 0.95, "step": 0.05, "disabled": self.prediction is None}
        mouse = os.environ.get("WORKSHOP_3D") == "html"
        self.controls = {
            "time": whole(0, 0, last, description="frame"),
            "shown": w.Dropdown(options=shown, value=shown[-1], description="show", **wide),
            "threshold": w.FloatSlider(0.5, description="threshold", **cut, **wide),
            "slice": whole(depth // 2, 0, depth - 1, description="slice"),
            "turn": whole(TURN, -180, 180, step=6, description="turn, °"),
            "tilt": whole(TILT, -84, 84, step=6, description="tilt, °"),
            "mouse": w.Checkbox(mouse, description="turn with the mouse, too", indent=False),
        }
        play = w.Play(min=0, max=last, interval=600, description="play the frames")
        w.jslink((play, "value"), (self.controls["time"], "value"))
        self._text, self._words, self._scene = w.HTML(), w.HTML(), w.HTML()
        image = {"format": "png", "layout": {"width": f"{SIZE}px", "object_fit": "contain"}}
        self._solid, self._flat = w.Image(**image), w.Image(**image)
        self._solid.add_class("viewer-solid")
        self._flat.add_class("viewer-slice")
        for control in self.controls.values():
            control.observe(lambda _: self._draw(), "value")
        box = {"layout": {"flex_flow": "row wrap", "align_items": "flex-start"}}
        left = [self.controls[name] for name in ("time", "shown", "threshold", "mouse")]
        right = [self.controls[name] for name in ("slice", "turn", "tilt")]
        super().__init__(
            [
                w.HBox([w.VBox([play, *left]), w.VBox(right)], **box),
                self._text,
                self._words,
                w.HBox([self._solid, self._flat], **box),
                self._scene,
            ],
            layout={"max_width": "100%"},
        )
        self.add_class("viewer")

    def _draw(self) -> None:
        chosen = {name: control.value for name, control in self.controls.items()}
        shown = (self._solid, self._in_3d(chosen)), (self._flat, self._in_a_slice(chosen))
        for image, picture in shown:
            image.value = picture.png()
        # An image widget takes no alternative text, and a tooltip breaks it in JupyterLab.
        words = html.escape(" ".join(picture.alt for _, picture in shown))
        self._words.value = f'<div style="{UNSEEN}">{words}</div>'
        self._text.value = self._said(chosen["time"], chosen["threshold"])
        self._scene.value = ""
        if chosen["mouse"]:
            scene = self._in_3d(chosen, "html")
            found = isinstance(scene, pictures.Scene)
            self._scene.value = scene._repr_html_() if found else "PyVista cannot draw here."

    def _in_3d(self, chosen: dict, backend: str = "static"):
        time, cut = chosen["time"], {"threshold": chosen["threshold"]}
        options = {"view": (chosen["turn"], chosen["tilt"]), "size": SIZE, "backend": backend}
        options["captions"] = [f"t = {self.times[time]}"]
        if chosen["shown"] == "difference":
            return pictures.compare_3d(self.truth[time], self.prediction[time], **cut, **options)
        if chosen["shown"] == "prediction":
            return pictures.view_3d(self.prediction[time], **cut, **options)
        return pictures.view_3d(self.truth[time], **options)

    def _in_a_slice(self, chosen: dict) -> pictures.Picture:
        time = chosen["time"]
        options = {"index": chosen["slice"], "times": [self.times[time]]}
        if chosen["shown"] == "difference":
            pair = self.truth[time : time + 1], self.prediction[time : time + 1]
            return pictures.compare_slices(*pair, threshold=chosen["threshold"], **options)
        frames = self.truth if chosen["shown"] == "truth" else self.prediction
        return pictures.slices(frames[time : time + 1], size=260, **options)

    def _said(self, time: int, threshold: float) -> str:
        """Return a line of HTML on one frame: its time, and distances if there is a forecast."""
        text = f"frame {time} of {len(self.truth)}, t = {self.times[time]}"
        true = self.truth >= 0.5  # wherever the forecast is cut
        if self.prediction is None:
            return f"{text}: {true[time].sum()} filled voxels"
        found = metrics.jaccard_distance(true, self.prediction >= threshold)
        mean = f"mean over the frames {found.mean():.3f}"
        return f"{text}: Jaccard distance of the {html.escape(self.name)} {found[time]:.3f}; {mean}"
