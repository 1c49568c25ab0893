"""Every figure of the course: slices, curves and bars with matplotlib, 3D scenes with PyVista.

All functions return the figure and show nothing by themselves; a notebook shows it when it is the
last line of a cell. In slices W points to the right and H upward (D upward where the slice is
across H or W); in 3D x is W, y is H, z is D, and z points up.

PyVista draws in one separate process. Its software OpenGL and TensorFlow each bring their own
LLVM, and the two don't get along in one process; a crash there can't take the notebook down.
"""

from __future__ import annotations

import atexit
import functools
import html
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# Okabe & Ito's palette, told apart with every common kind of colour blindness.
FILLED = "#009E73"
HIT, MISS, FALSE_ALARM = "#A6A6A6", "#D55E00", "#0072B2"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#333333", "#BBBBBB"

AXES = {"D": -3, "H": -2, "W": -1}
BACKENDS = ("static", "html", "trame", "matplotlib")
SECONDS_TO_DRAW = 120.0
# From the side of small H, a little from large W and from above: W runs to the right, D upward.
VIEW = np.array([0.45, -1.0, 0.5])


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot, exactly once."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        return buffer.getvalue()


class Scene:
    """An interactive 3D scene that needs neither a server nor a network: drag, zoom, pan.

    The page brings its own viewer (about 1 MB), so it is for live use: don't commit it.

    Attributes:
        page: the whole HTML page of the scene.
        size: width and height in pixels.
        legend: an HTML fragment shown below the scene.
    """

    def __init__(self, page: str, size: tuple[int, int], legend: str = ""):
        self.page, self.size, self.legend = page, size, legend

    def _repr_html_(self) -> str:
        width, height = self.size
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" width="{width}" height="{height}" '
            f'style="border: 1px solid {FAINT}; max-width: 100%"></iframe>{self.legend}'
        )

    def save(self, path: str | Path) -> Path:
        """Write the scene as an HTML page that any browser opens; return its path."""
        path = Path(path)
        path.write_text(self.page, encoding="utf-8")
        return path


def outcomes(truth, prediction, *, threshold: float = 0.5) -> tuple[np.ndarray, ...]:
    """Sort voxels into hits, misses and false alarms.

    Args:
        truth, prediction: the same shape, values 0…1; filled means value >= threshold.

    Returns:
        Three boolean arrays of that shape: filled in both, in truth only, in prediction only.

    Raises:
        ValueError: the shapes disagree, or a value is NaN or outside 0…1.
    """
    truth, prediction = _values(truth, "truth"), _values(prediction, "prediction")
    _same_shape(truth, prediction)
    true, predicted = truth >= threshold, prediction >= threshold
    return true & predicted, true & ~predicted, ~true & predicted


def slices(
    frames,
    prediction=None,
    *,
    times: Sequence[int] | None = None,
    count: int = 18,
    axis: str = "D",
    index: int | str = "max",
    names: tuple[str, str] = ("truth", "prediction"),
) -> Picture:
    """Draw equally spaced frames of a sequence as small panels, the time under each.

    Args:
        frames: (T, D, H, W), values 0…1.
        prediction: the same shape; it becomes a second row below each row of frames.
        times: the time of each of the T frames; 0…T-1 unless told.
        count: at most so many frames, the first and the last among them.
        axis: the slice is across this axis, `"D"`, `"H"` or `"W"`.
        index: which slice, or `"max"` for the maximum over that axis.
        names: what to call the two rows.

    Raises:
        ValueError: a wrong shape, value, axis or index.
    """
    frames = _values(frames, "frames", ("T", "D", "H", "W"))
    rows = [frames]
    if prediction is not None:
        rows.append(_values(prediction, "prediction", ("T", "D", "H", "W")))
        _same_shape(frames, rows[1], "frames")
    times = _times(times, len(frames))
    chosen = _equally_spaced(len(frames), count)
    columns = min(9, len(chosen))
    blocks = -(-len(chosen) // columns)
    figure, panels = _grid(blocks * len(rows), columns, 1.0, gap=0.32, top=0.35)
    where = f"maximum over {axis}" if index == "max" else f"slice {axis} = {index}"
    figure.suptitle(where, fontsize=9, x=0.5, y=1 - 0.06 / figure.get_figheight(), va="top")
    for n, t in enumerate(chosen):
        for r, sequence in enumerate(rows):
            panel = panels[(n // columns) * len(rows) + r, n % columns]
            _image(panel, _slice(sequence[t], axis, index), FILLED_MAP, 1.0)
            last = r == len(rows) - 1
            _decorate(panel, axis, ticks=n == 0 and r == 0)
            if last:
                panel.set_title(f"t = {times[t]}", fontsize=8, y=-0.3, pad=0)
            if n % columns == 0 and len(rows) > 1:
                _row_name(panel, names[r], 0.3 if n == 0 and r == 0 else 0.08)
    for panel in panels.flat[blocks * 0 :]:
        panel.set_visible(bool(panel.images))
    return figure


def orthogonal_slices(
    frame, position: tuple[int, int, int] | None = None, *, title: str = ""
) -> Picture:
    """Draw the three slices across D, H and W that meet in one voxel of a frame.

    Args:
        frame: (D, H, W), values 0…1.
        position: (d, h, w) of that voxel; on each axis the fullest slice unless told.
        title: shown above.

    Raises:
        ValueError: a wrong shape or value, or a position outside the frame.
    """
    frame = _values(frame, "frame", ("D", "H", "W"))
    position = position or tuple(_fullest(frame, axis) for axis in AXES)
    figure, panels = _grid(1, 3, 2.2, gap=0.75, top=0.65 if title else 0.4, left=0.6)
    figure.suptitle(title, fontsize=10)
    for panel, axis in zip(panels.flat, AXES):
        index = position["DHW".index(axis)]
        _image(panel, _slice(frame, axis, index), FILLED_MAP, 1.0)
        _decorate(panel, axis, ticks=True)
        panel.set_title(f"slice {axis} = {index}", fontsize=9)
        across, up = (name for name in "WHD" if name != axis)
        lines = {name: position["DHW".index(name)] + 0.5 for name in (across, up)}
        panel.axvline(lines[across], color=INK, lw=0.8, ls=":")
        panel.axhline(lines[up], color=INK, lw=0.8, ls=":")
    return figure
