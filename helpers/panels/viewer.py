"""The 3D viewer: step through a sequence, turn it, and compare a forecast with the truth."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Sequence

import ipywidgets
import numpy as np

from helpers import metrics, pictures
from helpers.rollout import check_frames

SHOWN = ("truth", "prediction", "difference")
TURN, TILT = 24, 24  # degrees; about pictures.VIEW
UNSEEN = "position: absolute; width: 1px; height: 1px; overflow: hidden"  # read aloud, not shown
SIZE = 285  # pixels of each of the two pictures: both fit beside JupyterLab's file list


def viewer(
    truth,
    prediction=None,
    *,
    times: Sequence[int] | None = None,
    name: str = "prediction",
    mouse: bool | None = None,
) -> Viewer:
    """Return a panel that steps through a sequence in 3D and in a slice.

    It is made of images and sliders, so it needs no server and works wherever widgets do. The
    camera is two sliders, and stays where it is while time goes on. With *mouse* on, the frame is
    also shown as a scene that is turned by hand; a new frame starts it anew.

    Args:
        truth: (T, D, H, W), values 0…1; filled means 0.5 or above.
        prediction: probabilities of the same shape; only the truth is shown when None.
        times: the time of each frame; 0…T-1 unless told.
        name: of what has forecast.
        mouse: whether the scene is shown from the start; unless told, if the environment variable
            `WORKSHOP_3D` is `html`.

    Raises:
        TypeError, ValueError: see `helpers.rollout.check_frames`; the shapes differ; there is not
            one time for each frame.
    """
    return Viewer(truth, prediction, times, name, mouse)


class Viewer(ipywidgets.VBox):
    """The panel of `viewer`.

    Attributes:
        truth, prediction: (T, D, H, W); the latter may be None.
        controls: name -> widget: `time`, `shown`, `threshold`, `axis`, `slice`, `turn`, `tilt` and
            `mouse`. Set their `value` to steer the panel from code.
        play: the widget that steps through time.
    """

    def __init__(self, truth, prediction, times, name, mouse):
        self.truth = _sequence(truth, "truth")
        self.prediction = None
        if prediction is not None:
            self.prediction = _sequence(prediction, "prediction")
            if self.prediction.shape != self.truth.shape:
                raise ValueError(
                    f"truth has shape {self.truth.shape}, prediction {self.prediction.shape}; "
                    "expected the same: a forecast for each frame."
                )
        count = len(self.truth)
        self.times = list(range(count)) if times is None else [int(time) for time in times]
        if len(self.times) != count:
            raise ValueError(f"times has {len(self.times)} entries for {count} frames.")
        self.name = name
        self._build(os.environ.get("WORKSHOP_3D") == "html" if mouse is None else bool(mouse))
        self._draw()

    def _build(self, mouse: bool) -> None:
        w, last = ipywidgets, len(self.truth) - 1
        wide = {"layout": {"width": f"{SIZE - 15}px"}, "style": {"description_width": "70px"}}
        whole = functools.partial(w.IntSlider, continuous_update=True, **wide)
        shown = SHOWN if self.prediction is not None else SHOWN[:1]
        depth = self.truth.shape[1]
        self.controls = {
            "time": whole(0, 0, last, description="frame"),
            "shown": w.Dropdown(options=shown, value=shown[-1], description="show", **wide),
            "threshold": w.FloatSlider(
                0.5, min=0.05, max=0.95, step=0.05, description="threshold", **wide
            ),
            "axis": w.Dropdown(options=("D", "H", "W"), value="D", description="across", **wide),
            "slice": whole(depth // 2, 0, depth - 1, description="slice"),
            "turn": whole(TURN, -180, 180, step=6, description="turn, °"),
            "tilt": whole(TILT, -84, 84, step=6, description="tilt, °"),
            "mouse": w.Checkbox(mouse, description="turn with the mouse, too", indent=False),
        }
        self.controls["threshold"].disabled = self.prediction is None
        self.play = w.Play(min=0, max=last, interval=600, description="play the frames")
        w.jslink((self.play, "value"), (self.controls["time"], "value"))
        self._text, self._words = w.HTML(), w.HTML()
        image = {"format": "png", "layout": {"width": f"{SIZE}px", "object_fit": "contain"}}
        self._solid, self._flat = w.Image(**image), w.Image(**image)
        self._solid.add_class("viewer-solid")
        self._flat.add_class("viewer-slice")
        self._scene = w.HTML()
        for control in self.controls.values():
            control.observe(self._changed, "value")
        box = {"layout": {"flex_flow": "row wrap", "align_items": "flex-start"}}
        left = [self.controls[name] for name in ("time", "shown", "threshold")]
        right = [self.controls[name] for name in ("axis", "slice", "turn", "tilt")]
        super().__init__(
            [
                w.HBox([w.VBox([self.play, *left, self.controls["mouse"]]), w.VBox(right)], **box),
                self._text,
                self._words,
                w.HBox([self._solid, self._flat], **box),
                self._scene,
            ],
            layout={"max_width": "100%"},
        )
        self.add_class("viewer")

    def _changed(self, change) -> None:
        if change["owner"] is self.controls["axis"]:
            # The other axes may be longer or shorter.
            edge = self.truth.shape[1 + "DHW".index(change["new"])]
            control = self.controls["slice"]
            if control.max != edge - 1:
                control.max = edge - 1
        self._draw()

    def _draw(self) -> None:
        chosen = {name: control.value for name, control in self.controls.items()}
        time = chosen["time"]
        label = f"t = {self.times[time]}"
        options = {"threshold": chosen["threshold"]}
        view = (chosen["turn"], chosen["tilt"])
        solid = functools.partial(self._in_3d, time, chosen["shown"], view, options)
        flat = self._in_a_slice(time, chosen)
        shown = (self._solid, solid(captions=[label])), (self._flat, flat)
        for image, picture in shown:
            image.value = picture.png()
        # An image widget takes no alternative text, and a tooltip breaks it in JupyterLab.
        words = html.escape(" ".join(picture.alt for _, picture in shown))
        self._words.value = f'<div style="{UNSEEN}">{words}</div>'
        self._text.value = self.distances(time, chosen["threshold"])
        self._scene.value = ""
        if chosen["mouse"]:
            scene = solid(captions=[label], backend="html")
            # Where PyVista cannot draw, there is no scene.
            found = isinstance(scene, pictures.Scene)
            self._scene.value = scene._repr_html_() if found else "PyVista cannot draw here."

    def _in_3d(self, time: int, shown: str, view, options: dict, **more):
        # An environment variable would win over `backend`; the picture has to stay a picture.
        kept = os.environ.pop("WORKSHOP_3D", None)
        try:
            if kept == "matplotlib":
                more["backend"] = kept
            more = {"view": view, "size": SIZE, **more}
            if shown == "difference":
                return pictures.compare_3d(
                    self.truth[time], self.prediction[time], **options, **more
                )
            if shown == "prediction":
                return pictures.view_3d(self.prediction[time], **options, **more)
            return pictures.view_3d(self.truth[time], **more)
        finally:
            if kept is not None:
                os.environ["WORKSHOP_3D"] = kept

    def _in_a_slice(self, time: int, chosen: dict) -> pictures.Picture:
        index = min(chosen["slice"], self.truth.shape[1 + "DHW".index(chosen["axis"])] - 1)
        options = {"axis": chosen["axis"], "index": index, "times": [self.times[time]]}
        if chosen["shown"] == "difference":
            pair = self.truth[time : time + 1], self.prediction[time : time + 1]
            return pictures.compare_slices(*pair, threshold=chosen["threshold"], **options)
        frames = self.truth if chosen["shown"] == "truth" else self.prediction
        return pictures.slices(frames[time : time + 1], size=260, **options)

    def distances(self, time: int, threshold: float) -> str:
        """Return a line of HTML on one frame: its time, and distances if there is a forecast."""
        text = f"frame {time} of {len(self.truth)}, t = {self.times[time]}"
        if self.prediction is None:
            return f"{text}: {int((self.truth[time] >= 0.5).sum())} filled voxels"
        # The truth is the truth, wherever the forecast is cut.
        true = self.truth >= 0.5
        found = metrics.jaccard_distance(true, self.prediction >= threshold)
        mean = f"mean over the frames {found.mean():.3f}"
        name = html.escape(self.name)
        return f"{text}: Jaccard distance of the {name} {found[time]:.3f}; {mean}"


def _sequence(frames, what: str) -> np.ndarray:
    """Return frames (T, D, H, W) if they are that."""
    if np.ndim(frames) != 4:
        raise ValueError(f"{what} has shape {np.shape(frames)}; expected (T, D, H, W).")
    return check_frames(np.asarray(frames)[np.newaxis], None, 1, what)[0]
