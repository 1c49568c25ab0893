"""Frames in 3D: as images, as scenes to turn with the mouse, and in motion."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from helpers._checks import choice, number
from helpers.pictures import process
from helpers.pictures.frames import OUTCOMES, counts, outcomes, pick
from helpers.pictures.style import (
    FAINT,
    FALSE_ALARM,
    FILLED,
    HIT,
    INK,
    MISS,
    Picture,
    image_tag,
    style,
)

BACKENDS = ("static", "html", "matplotlib")
# The camera's turn and tilt, which look from W 0.45, H -1, D 0.5 beside the centre.
VIEW = (24.22774531795417, 24.511124164656227)


@dataclass(frozen=True, repr=False)
class Scene:
    """An interactive 3D scene that needs neither a server nor a network: drag, zoom, pan.

    The page brings its own viewer (about 1 MB), so it is for live use, not to be committed.
    """

    page: str  # the whole HTML page of the scene
    size: tuple[int, int]  # width and height in pixels
    alt: str  # what is seen, in words, which stand below the scene

    def _repr_html_(self) -> str:
        (width, height), words = self.size, html.escape(self.alt)
        return (
            f'<iframe title="{words}" srcdoc="{html.escape(self.page)}" width="{width}" '
            f'height="{height}" style="border: 1px solid {FAINT}; max-width: 100%"></iframe>'
            f"<div>{words}</div>"
        )


@dataclass(frozen=True, repr=False)
class Animation:
    """A moving picture that plays in a notebook: the GIF as bytes, and what is seen in words."""

    gif: bytes
    alt: str

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        return image_tag(self.gif, "gif", self.alt)


def view_3d(
    frames,
    prediction=None,
    *,
    times: Sequence[int] | None = None,
    captions: Sequence[str] | None = None,
    count: int = 6,
    surface: bool | Sequence[bool] = False,
    threshold: float = 0.5,
    names: tuple[str, str] = ("truth", "prediction"),
    size: int | None = None,
    view: tuple[float, float] = VIEW,
    backend: str | None = None,
) -> Picture | Scene:
    """Draw frames in 3D side by side, seen from the same place, the time under each.

    Args:
        frames: (D, H, W), (T, D, H, W), or a list of (D, H, W) frames whose sizes may differ;
            values 0…1, filled means value >= threshold.
        prediction: frames of the same shapes, drawn as a second row.
        captions: a text for each frame, instead of its time.
        count: at most so many equally spaced frames.
        surface: smoothed surface instead of cubes; one answer, or one for each frame.
        size: pixels of one panel; 150 to 380 unless told, fewer where there are many.
        view: degrees that the camera is turned around the upward axis D, where 0 looks along H
            from its small end, and degrees above the middle, -89 to 89.
        backend: `"static"` (an image), `"html"` (interactive, needs no server) or
            `"matplotlib"`. The environment variable `WORKSHOP_3D` wins, but `"static"` never
            becomes interactive.

    Returns:
        Picture or Scene. Where PyVista can't draw, a warning says so and the answer is a
        matplotlib Picture.
    """
    rows, captions, chosen = pick(frames, prediction, times=times, captions=captions, count=count)
    smooth = [surface if isinstance(surface, bool) else surface[n] for n in chosen]
    panels, said = [], []
    for row, name in zip(rows, names):
        counted = []
        for frame, surfaced, caption in zip(row, smooth, captions):
            filled = frame >= threshold
            counted.append(_one_line(caption, f"{filled.sum()}"))
            caption = caption if row is rows[-1] else ""
            panels.append(_panel([(filled, "surface" if surfaced else "cubes")], caption))
        said.append(f"{name}: " * (len(rows) > 1) + "; ".join(counted))
    sizes = dict.fromkeys("×".join(map(str, panel["shape"])) for panel in panels)
    about = f"Frames of {' and '.join(sizes)} voxels in 3D. Filled voxels: {'. '.join(said)}."
    how = {"size": size, "view": view, "backend": backend, "about": about}
    return _draw(panels, names if len(rows) > 1 else (), **how)


def compare_3d(
    truth,
    prediction,
    *,
    times: Sequence[int] | None = None,
    captions: Sequence[str] | None = None,
    count: int = 4,
    threshold: float = 0.5,
    truth_above: bool = False,
    size: int | None = None,
    view: tuple[float, float] = VIEW,
    backend: str | None = None,
) -> Picture | Scene:
    """Draw truth against prediction in one scene: hits, misses and false alarms.

    Hits are grey cubes, misses orange outlines, false alarms small blue cubes. The numbers under
    each frame count the three.

    Args:
        truth, prediction: (D, H, W) or (T, D, H, W), values 0…1; filled means >= threshold.
        truth_above: draw the truth by itself in a row above.
        times, captions, count, size, view, backend: as in `view_3d`.
    """
    rows, captions, _ = pick(truth, prediction, times=times, captions=captions, count=count)
    above = [_panel([(frame >= threshold, "cubes")]) for frame in rows[0]] if truth_above else []
    below = [_difference(*pair, threshold, caption) for *pair, caption in zip(*rows, captions)]
    about = "Prediction against truth in 3D" + ", the truth by itself above" * truth_above
    about += f", voxels: {'; '.join(_one_line(panel['caption']) for panel in below)}."
    how = {"size": size, "view": view, "backend": backend, "about": about, "legend": True}
    return _draw(above + below, ("truth", "prediction") if truth_above else (), **how)


def animate_3d(truth, prediction=None, *, times: Sequence[int] | None = None) -> Animation:
    """Let frames in 3D play one after the other, and beside them how a prediction differs.

    Each frame stays for half a second, the last one three times as long.

    Args:
        truth: (T, D, H, W), values 0…1; filled means value >= 0.5.
        prediction: the same shape; drawn as in `compare_3d`.
    """
    rows, captions, _ = pick(truth, prediction, times=times)
    images, said = [], []
    for true, *predicted, caption in zip(*rows, captions):
        panels = [_panel([(true >= 0.5, "cubes")], f"truth, {caption}")]
        said.append(f"{caption}: {np.count_nonzero(true >= 0.5)} filled")
        for frame in predicted:
            panels[0]["caption"] += "\n"  # as many lines as beside it
            panels.append(_difference(true, frame, 0.5, f"prediction, {caption}"))
            said[-1] += f", {panels[1]['caption'].splitlines()[-1]}"
        drawn = _draw(panels, size=230, legend=len(rows) > 1, backend="static")
        images.append(Image.open(io.BytesIO(drawn.png())).convert("RGB"))
    # One palette for all frames: what stands still does not flicker.
    sheet = Image.fromarray(np.concatenate([np.asarray(image) for image in images]))
    palette = sheet.quantize(64, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    stay = [500] * (len(images) - 1) + [1500]  # ms
    options = {"append_images": images[1:], "duration": stay, "loop": 0, "optimize": True}
    images[0].save(buffer := io.BytesIO(), "GIF", save_all=True, **options)
    alt = f"{len(images)} frames in 3D one after the other, voxels: {'; '.join(said)}."
    return Animation(buffer.getvalue(), alt)


def _panel(layers: list, caption: str = "") -> dict:
    """Describe one panel of a scene; layers are pairs of filled voxels (D, H, W) and their look."""
    return {"layers": layers, "shape": layers[0][0].shape, "caption": caption}


def _difference(true: np.ndarray, predicted: np.ndarray, threshold, caption: str) -> dict:
    """Describe a panel with the hits, misses and false alarms of one frame."""
    parts = outcomes(true, predicted, threshold)
    caption = "\n".join(filter(None, (caption, counts(parts))))
    return _panel(list(zip(parts, OUTCOMES)), caption)


def _one_line(*parts: str) -> str:
    """Join what is written below each other, and what is counted, for the alternative text."""
    return ": ".join(filter(None, "\n".join(parts).splitlines()))


def _draw(
    panels: list[dict],
    names: Sequence[str] = (),
    *,
    size: int | None,
    view: tuple[float, float] = VIEW,
    backend: str | None,
    about: str = "",
    legend: bool = False,
) -> Picture | Scene:
    """Draw panels, one row or one for each name; with matplotlib where PyVista can't."""
    chosen = os.environ.get("WORKSHOP_3D") or backend or "static"
    choice("The 3D backend, an argument or WORKSHOP_3D,", chosen, BACKENDS)
    if chosen == "html" and backend == "static":
        chosen = "static"
    turn, tilt = view
    view = (number("The camera's turn", turn), number("The camera's tilt", tilt, -89, 89))
    rows = len(names) or 1
    columns = len(panels) // rows
    size = size or int(np.clip(1100 // columns, 150, 380))
    scene = {"panels": panels, "rows": rows, "columns": columns, "size": size, "view": view}
    scene |= {"names": names, "about": about, "legend": legend}
    drawn = None if chosen == "matplotlib" else process.worker().draw(scene, chosen)
    if drawn is None:
        return _with_matplotlib(scene)
    if chosen == "html":
        key = " Grey: hit. Orange outline: miss. Blue: false alarm." * legend
        return Scene(drawn, (columns * size, rows * size), about + key)
    return _compose(scene, drawn)


@style()
def _compose(scene: dict, image: np.ndarray) -> Picture:
    """Put captions, axis letters and the legend around a screenshot."""
    size, columns = scene["size"], scene["columns"]
    figure, places = _layout(scene)
    for n, (panel, place) in enumerate(zip(scene["panels"], places)):
        row, column = divmod(n, columns)
        axes = figure.add_axes(place)
        axes.set_axis_off()
        part = image[row * size : (row + 1) * size, column * size : (column + 1) * size]
        axes.imshow(part, interpolation="none", aspect="auto")
        depth, height, width = np.array(panel["shape"]) / max(panel["shape"])
        gap = 0.09
        middle = {"ha": "center", "va": "center", "color": INK}
        for letter, length, start, end in (
            ("W", panel["shape"][2], (0, -gap, -gap / 2), (width, -gap, -gap / 2)),
            ("H", panel["shape"][1], (width + gap, 0, 0), (width + gap, height, 0)),
            ("D", panel["shape"][0], (-gap, 0, 0), (-gap, 0, depth)),
        ):
            ends = _project(np.array([start, end]), size, scene["view"])
            axes.text(*ends.mean(axis=0), letter, fontsize=9, **middle)
            if n == 0 or panel["shape"] != scene["panels"][n - 1]["shape"]:
                axes.text(*(ends[1] * 0.9 + ends[0] * 0.1), length, fontsize=7, **middle)
    return figure


def _project(points: np.ndarray, size: int, view: tuple[float, float]) -> np.ndarray:
    """Return the pixels (right, down) where points (N, 3) of the unit cube are in a panel."""
    _, right, up, half = process.lens(view)
    plane = (np.asarray(points) - 0.5) @ np.stack([right, -up], axis=1)
    return size / 2 * (1 + plane / half)


@style()
def _with_matplotlib(scene: dict) -> Picture:
    """Draw a scene as cubes with matplotlib: slower and plainer, but it works everywhere."""
    figure, places = _layout(scene)
    looks = {
        "hit": {"facecolor": HIT, "edgecolor": INK},
        # Matplotlib 3.10 cannot draw cubes without any face, so these are transparent.
        "miss": {"facecolor": (1.0, 1.0, 1.0, 0.0), "edgecolor": MISS},
        "false alarm": {"facecolor": FALSE_ALARM, "edgecolor": "white"},
    }
    turn, tilt = scene["view"]
    for panel, place in zip(scene["panels"], places):
        axes = figure.add_axes(place, projection="3d", proj_type="ortho")
        # Cubes of more than 16 a side would take minutes.
        factor = -(-max(panel["shape"]) // 16)
        if factor > 1:
            axes.set_title(f"maximum of {factor}³ voxels", fontsize=7, y=1.0)
        for filled, look in panel["layers"]:
            for axis in range(3):
                starts = np.arange(0, filled.shape[axis], factor)
                filled = np.maximum.reduceat(filled, starts, axis=axis)
            colours = looks.get(look, {"facecolor": FILLED, "edgecolor": INK})
            axes.voxels(filled.transpose(2, 1, 0), **colours, linewidth=0.4)
        axes.view_init(elev=tilt, azim=turn - 90)
        ends = [-(-n // factor) for n in panel["shape"][::-1]]  # W, H, D
        axes.set_box_aspect(ends, zoom=0.95)
        for axis, letter, end, length in zip("xyz", "WHD", ends, panel["shape"][::-1]):
            axes.set(**{f"{axis}lim": (0, end), f"{axis}label": letter})
            getattr(axes, f"{axis}axis").labelpad = -9
            getattr(axes, f"set_{axis}ticks")([0, end], ["", str(length)], fontsize=7)
    return figure


def _layout(scene: dict) -> tuple[Picture, list[tuple[float, ...]]]:
    """Make a figure with captions, names and legend; return it and the place of each panel."""
    size, rows, columns = scene["size"], scene["rows"], scene["columns"]
    lines = max(panel["caption"].count("\n") + bool(panel["caption"]) for panel in scene["panels"])
    left = 22 if scene["names"] else 0
    bottom = 17 * lines + (26 if scene["legend"] else 0)
    width, height = left + columns * size, bottom + rows * size
    figure = Picture(figsize=(width / 100, height / 100), about=scene["about"])
    places = []
    for n, panel in enumerate(scene["panels"]):
        row, column = divmod(n, columns)
        x, y = left + column * size, bottom + (rows - 1 - row) * size
        places.append((x / width, y / height, size / width, size / height))
        middle = (x + size / 2) / width
        figure.text(middle, y / height, panel["caption"], ha="center", va="top", fontsize=9)
        if not any(filled.any() for filled, _ in panel["layers"]):
            figure.text(middle, (y + size / 2) / height, "empty", ha="center", color=INK, zorder=9)
    for row, name in enumerate(scene["names"]):
        y = bottom + (rows - row - 0.5) * size
        figure.text(4 / width, y / height, name, rotation=90, va="center", fontsize=9)
    if scene["legend"]:
        handles = [
            Patch(facecolor=HIT, edgecolor=INK),
            Patch(facecolor="none", edgecolor=MISS, linewidth=1.5),
            Line2D([], [], color=FALSE_ALARM, marker="s", ls="", ms=5),
        ]
        figure.legend(handles, OUTCOMES, loc="lower center", ncols=3)
    return figure, places
