"""Every figure of the course: slices, curves and bars with matplotlib, 3D scenes with PyVista.

All functions return the figure and show nothing by themselves; a notebook shows it when it is the
last line of a cell. In a slice across D, W points right and H upward; in slices across H and W, D
points upward. In 3D x is W, y is H and z is D, which points up.

PyVista draws in a separate process: its software OpenGL and TensorFlow bring two LLVMs, which
crash in one process (see `helpers/__init__.py`), and a crash there leaves the notebook alive.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import html
import io
import itertools
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
from matplotlib.ticker import MaxNLocator
from PIL import Image

from helpers import evaluation
from helpers.topology import BETTI

# Okabe and Ito's palette, which readers with any common colour blindness can tell apart.
FILLED = "#009E73"
HIT, MISS, FALSE_ALARM = "#B3B3B3", "#D55E00", "#0072B2"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#333333", "#BBBBBB"
# Series differ in more than colour.
LINES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\")

AXES = {"D": -3, "H": -2, "W": -1}
OUTCOMES = ("hit", "miss", "false alarm")
BANDS = ("spread", "mean")
DISTANCES = {"jaccard": "Jaccard distance", "mse": "mean squared error"}
# What is compared in a table of results: its name, colour and line.
COMPARISONS = {
    "prediction": ("prediction to truth", SERIES[0], "-"),
    "persistence": ("persistence to truth", "#000000", "--"),
    "input": ("prediction to input", SERIES[1], ":"),
    "moving_null": ("moving null to truth", "#777777", "-."),
    "moving_input": ("prediction to frame before", SERIES[3], "-."),
}
# Which of our models the thesis's are kin to: they share colour and mark.
KIN = {
    "thesis: ConvLSTM3D": ("ConvLSTM",),
    "thesis: AEncGAN3D single-frame": ("WGAN-GP, one frame",),
    "thesis: AEncGAN3D three-frame": ("WGAN-GP, three frames", "WGAN-GP"),
}
BACKENDS = ("static", "html", "trame", "matplotlib")
SECONDS_TO_DRAW = 120.0
# Where the camera is, seen from the centre: W runs to the right, H away from us, D upward.
VIEW = (0.45, -1.0, 0.5)


class Picture(Figure):
    """A matplotlib figure that a notebook shows without pyplot, exactly once."""

    def png(self) -> bytes:
        """Return the picture as a PNG file, for example for an `ipywidgets.Image`."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        # A palette makes a third of the size, and a notebook may hold twenty pictures.
        small = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(buffer := io.BytesIO(), format="png", optimize=True)
        return buffer.getvalue()

    _repr_png_ = png


class Scene:
    """An interactive 3D scene that needs neither a server nor a network: drag, zoom, pan.

    The page brings its own viewer (about 1 MB), so it is for live use, not to be committed.

    Attributes:
        page: the whole HTML page of the scene.
        size: width and height in pixels.
        captions: HTML shown below the scene.
    """

    def __init__(self, page: str, size: tuple[int, int], captions: str = ""):
        self.page, self.size, self.captions = page, size, captions

    def _repr_html_(self) -> str:
        width, height = self.size
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" width="{width}" height="{height}" '
            f'style="border: 1px solid {FAINT}; max-width: 100%"></iframe>{self.captions}'
        )

    def save(self, path: str | Path) -> Path:
        """Write the scene as an HTML page for any browser; return its path."""
        path = Path(path)
        path.write_text(f'<!DOCTYPE html><meta charset="utf-8">{self._repr_html_()}', "utf-8")
        return path


def outcomes(truth, prediction, *, threshold: float = 0.5) -> tuple[np.ndarray, ...]:
    """Sort voxels into hits, misses and false alarms.

    Args:
        truth, prediction: arrays of one shape, values 0…1; filled means value >= threshold.

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
    size: int = 98,
) -> Picture:
    """Draw equally spaced frames of a sequence as small panels, the time under each.

    Args:
        frames: (T, D, H, W), values 0…1, drawn as shades.
        prediction: the same shape; becomes a second row below each row of frames.
        times: the time of each of the T frames; 0…T-1 unless told.
        count: at most so many frames, the first and the last among them.
        axis: the slice is across this axis, `"D"`, `"H"` or `"W"`.
        index: which slice, or `"max"` for the maximum over that axis.
        names: what to call the two rows.
        size: pixels along the edge of a panel.

    Raises:
        ValueError: a wrong shape, value, axis or index.
    """
    sequences = [_values(frames, "frames", "TDHW")]
    if prediction is not None:
        sequences.append(_values(prediction, "prediction", "TDHW"))
        _same_shape(*sequences)
    times = _times(times, len(frames))
    chosen = _equally_spaced(len(frames), count)
    columns = min(9, len(chosen))
    blocks = -(-len(chosen) // columns)
    shift = 0.0 if prediction is None else 0.3
    top = 0.3 - shift
    figure, panels = _grid(
        blocks * len(sequences), columns, size / 100, gap=(0.06, 0.36), edges=(0.42, top, 0.36)
    )
    where = f"maximum over {axis}" if index == "max" else f"slice {axis} = {index}"
    _title(figure, where)
    for (row, column), panel in np.ndenumerate(panels):
        block, which = divmod(row, len(sequences))
        n = block * columns + column
        if n >= len(chosen):
            panel.set_visible(False)
            continue
        cut = _slice(sequences[which][chosen[n]], axis, index)
        last = which == len(sequences) - 1
        _image(panel, cut, _shades(), 1, axis, ticks=last and n == 0)
        if last:
            _below(panel, f"t = {times[chosen[n]]}")
        else:
            # Close to the prediction below it.
            place = panel.get_position()
            panel.set_position(place.translated(0, -shift / figure.get_figheight()))
        if column == 0 and prediction is not None:
            panel.annotate(
                names[which],
                (0, 0.5),
                (-24, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                rotation=90,
                va="center",
                ha="center",
                fontsize=8,
            )
    return figure


def orthogonal_slices(
    frame, position: tuple[int, int, int] | None = None, *, title: str = ""
) -> Picture:
    """Draw the three slices across D, H and W that meet in one voxel of a frame.

    Dotted lines in each slice show where the other two are.

    Args:
        frame: (D, H, W), values 0…1, drawn as shades.
        position: (d, h, w) of that voxel; the fullest slice of each axis unless told.
        title: shown above.

    Raises:
        ValueError: a wrong shape or value, or a position outside the frame.
    """
    frame = _values(frame, "frame", "DHW")
    position = position or tuple(_fullest(frame, axis) for axis in AXES)
    places = dict(zip(AXES, position))
    figure, panels = _grid(1, 3, 2.3, gap=(0.5, 0), edges=(0.4, 0.55 if title else 0.3, 0.35))
    _title(figure, title)
    for panel, (axis, index) in zip(panels.flat, places.items()):
        _image(panel, _slice(frame, axis, index), _shades(), 1, axis, ticks=True)
        panel.set_title(f"slice {axis} = {index}", fontsize=9)
        across, up = _directions(axis)
        panel.axvline(places[across] + 0.5, color=INK, lw=0.8, ls=":")
        panel.axhline(places[up] + 0.5, color=INK, lw=0.8, ls=":")
    return figure


def compare_slices(
    truth,
    prediction,
    *,
    times: Sequence[int] | None = None,
    count: int = 6,
    axis: str = "D",
    index: int | None = None,
    threshold: float = 0.5,
) -> Picture:
    """Draw hits, misses and false alarms of a prediction in one slice, frame by frame.

    The numbers under each panel count the three in that slice.

    Args:
        truth, prediction: (D, H, W) or (T, D, H, W), values 0…1; filled means >= threshold.
        times: the time of each of the T frames; 0…T-1 unless told.
        count: at most so many equally spaced frames.
        axis: the slice is across this axis, `"D"`, `"H"` or `"W"`.
        index: which slice; the fullest one unless told.

    Raises:
        ValueError: shapes disagree, or a wrong value, axis or index.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    single = truth.ndim == prediction.ndim == 3
    if single:
        truth, prediction = truth[None], prediction[None]
    truth, prediction = _values(truth, "truth", "TDHW"), _values(prediction, "prediction", "TDHW")
    _same_shape(truth, prediction)
    captions = _captions(None, times, len(truth), single=single)
    chosen = _equally_spaced(len(truth), count)
    if index is None:
        index = _fullest(np.maximum(truth, prediction)[chosen].sum(axis=0), axis)
    columns = min(6, len(chosen))
    inches = 1.6 if columns > 2 else 2.6
    figure, panels = _grid(
        -(-len(chosen) // columns), columns, inches, gap=(0.08, 0.52), edges=(0.4, 0.34, 0.8)
    )
    _title(figure, f"slice {axis} = {index}")
    symbols = (
        (MISS, {"marker": "x", "color": MISS}),
        (FALSE_ALARM, {"marker": "o", "color": "white"}),
    )
    for n, panel in enumerate(panels.flat):
        if n >= len(chosen):
            panel.set_visible(False)
            continue
        t = chosen[n]
        parts = outcomes(
            _slice(truth[t], axis, index), _slice(prediction[t], axis, index), threshold=threshold
        )
        hit, miss, false_alarm = parts
        colours = ListedColormap(["white", HIT, "#F6D9C4", FALSE_ALARM])
        codes = hit + 2 * miss + 3 * false_alarm
        _image(panel, codes, colours, 3, axis, ticks=n == 0)
        points = inches * 72 / max(hit.shape)
        # Where voxels are tiny, every so many of them carry a symbol.
        step = int(np.ceil(4 / points))
        for part, (_, symbol) in zip(parts[1:], symbols):
            up, across = (step * places + step / 2 for places in np.nonzero(part[::step, ::step]))
            panel.plot(across, up, ls="", ms=0.5 * step * points, **symbol)
        _below(panel, "\n".join(filter(None, (captions[t], _counts(parts)))))
    handles = [Patch(facecolor=HIT)] + [
        (Patch(facecolor=colour), Line2D([], [], ls="", ms=5, **symbol))
        for colour, symbol in (("#F6D9C4", symbols[0][1]), symbols[1])
    ]
    figure.legend(handles, OUTCOMES, loc="lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def occupancy(sequences: Mapping, *, times=None, band: str = "spread") -> Picture:
    """Draw the share of filled voxels over time.

    Args:
        sequences: name -> (T, D, H, W) for one sequence or (N, T, D, H, W) for many, values 0…1;
            or the shares themselves, (T,) or (N, T).
        times: the T times; 0…T-1 unless told.
        band: around the mean of many, `"spread"` (5th to 95th percentile) or `"mean"` (95 %
            interval of the mean).

    Raises:
        ValueError: a wrong shape, value or band.
    """
    shares = {}
    for name, values in sequences.items():
        values = _values(values, name)
        shares[name] = values.mean(axis=(-3, -2, -1)) if values.ndim >= 4 else values
    return _curves(shares, times, band, "time t", "share of filled voxels", marks=False)


def over_horizon(
    groups: Mapping,
    *,
    horizons: Sequence[int] | None = None,
    band: str = "spread",
    label: str = "Jaccard distance",
) -> Picture:
    """Draw a distance over the horizon (steps ahead), one line for each model.

    Args:
        groups: name -> (H,) means or (N, H) one row per sample.
        horizons: the H horizons; 1…H unless told.
        band: around the mean of N samples, `"spread"` (5th to 95th percentile) or `"mean"` (95 %
            interval of the mean).
        label: what the distance is called.

    Raises:
        ValueError: a wrong shape, a NaN or an unknown band.
    """
    groups = {name: _numbers(values, name) for name, values in groups.items()}
    if horizons is None and groups:
        horizons = range(1, next(iter(groups.values())).shape[-1] + 1)
    return _curves(groups, horizons, band, "horizon (steps ahead)", label, marks=True)


def curves(
    groups: Mapping, x: Sequence[float], *, xlabel: str, ylabel: str, band: str = "spread"
) -> Picture:
    """Draw functions of one variable, for example an activation or a memory that fades.

    Args:
        groups: name -> (X,) values, or (N, X) one row per sample.
        x: the X places on the axis.
        xlabel, ylabel: what the axes show.
        band: around the mean of N samples, `"spread"` (5th to 95th percentile) or `"mean"` (95 %
            interval of the mean).

    Raises:
        ValueError: no groups, a wrong shape, a NaN or an unknown band.
    """
    figure = _curves(groups, x, band, xlabel, ylabel, marks=False)
    lowest = min(np.min(values) for values in groups.values())
    if lowest < 0:
        figure.axes[0].set_ylim(bottom=1.05 * lowest)
    return figure


def learning_curves(
    table: Mapping,
    *,
    losses: Sequence[str] = ("loss", "val_loss"),
    distance: str = "val_jaccard_pooled",
    persistence: float | None = None,
    label: str = "Jaccard distance",
) -> Picture:
    """Draw how a training went: its losses, and the distance in validation beside persistence.

    Args:
        table: column -> (N,) values, one per round, for example a DataFrame: `step`, and whichever
            of the columns below there are.
        losses: columns for the left panel; those starting with `val_` are called validation.
        distance: the column for the right panel.
        persistence: the distance of persistence, drawn as a line.
        label: what the distance is called.

    Raises:
        ValueError: no `step`, none of the other columns, a NaN, or columns of unequal length.
    """
    columns = [name for name in (*losses, distance) if name in table]
    if "step" not in table or not columns:
        raise ValueError(
            f"Expected the column step and one of {', '.join((*losses, distance))}; found "
            f"{', '.join(map(str, table)) or 'none'}."
        )
    values = {name: _numbers(table[name], name) for name in ("step", *columns)}
    if len({array.shape for array in values.values()}) > 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in values.items())
        raise ValueError(f"The columns must be of one length; found {found}.")
    panels = [[name for name in losses if name in values]] + [[distance]] * (distance in values)
    panels = [names for names in panels if names]
    figure = Picture(figsize=(3.5 * len(panels), 2.6), dpi=100, layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="step", ylabel=label if names == [distance] else "loss")
        for n, name in enumerate(names):
            part = "validation" if name.startswith("val_") else "training"
            named = name.removeprefix("val_")
            text = part if named in ("loss", distance.removeprefix("val_")) else f"{part}: {named}"
            k = 1 if name == distance else n % len(LINES)  # validation looks alike in both panels
            style = {"color": SERIES[k], "ls": LINES[n % len(LINES)], "lw": 1.5}
            style |= {"marker": MARKS[k], "ms": 3}
            axes.plot(values["step"], values[name], label=text, **style)
        if names == [distance] and persistence is not None:
            text = f"persistence {persistence:.3g}"
            axes.axhline(persistence, color="black", lw=1.5, ls="--", label=text)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    return figure


def distances(
    groups: Mapping,
    *,
    kind: str = "histogram",
    reference: float | None = None,
    reference_label: str = "reference",
    label: str = "Jaccard distance",
) -> Picture:
    """Draw how distances are distributed, beside a reference line.

    Args:
        groups: name -> (N,) distances.
        kind: `"histogram"` or `"box"` (box: quartiles, whiskers: 5th and 95th percentile).
        reference: a value to compare with, for example the mean of persistence.

    Raises:
        ValueError: no groups, an empty group, a NaN or an unknown kind.
    """
    groups = {name: _numbers(values, name).ravel() for name, values in _some(groups).items()}
    if kind not in ("histogram", "box"):
        raise ValueError(f"kind is {kind!r}; choose 'histogram' or 'box'.")
    tall = 3.2 if kind == "histogram" else 0.9 + 0.45 * len(groups)
    figure, axes = _axes(label, "samples" if kind == "histogram" else "", tall=tall)
    if kind == "histogram":
        edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins=40)
        for n, (name, values) in enumerate(groups.items()):
            style = {"color": SERIES[n % len(SERIES)], "ls": LINES[n % len(LINES)]}
            axes.hist(values, edges, histtype="stepfilled", alpha=0.2, color=style["color"])
            axes.hist(values, edges, histtype="step", lw=1.5, label=name, **style)
    else:
        boxes = axes.boxplot(
            list(groups.values()),
            orientation="horizontal",
            whis=(5, 95),
            widths=0.55,
            patch_artist=True,
            showfliers=False,
            tick_labels=list(groups),
            medianprops={"color": INK, "lw": 1.5},
        )
        for n, box in enumerate(boxes["boxes"]):
            box.set(facecolor=SERIES[n % len(SERIES)], alpha=0.6)
        axes.invert_yaxis()
    if reference is not None:
        text = f"{reference_label} {reference:.3g}"
        axes.axvline(reference, color="black", lw=1.5, ls="--", label=text)
    if kind == "histogram" or reference is not None:
        _legend_above(figure)
    return figure


def bars(table: Mapping, *, label: str = "samples", category_label: str = "") -> Picture:
    """Draw a table as grouped bars, for example the class balance of the splits.

    Args:
        table: group -> (category -> number), all groups with the same categories. A pandas
            `DataFrame.to_dict()` has this form: its columns become the groups.
        label, category_label: what the numbers and the categories are.

    Raises:
        ValueError: no groups, a NaN, or categories that differ between groups.
    """
    groups = {name: dict(column) for name, column in _some(table).items()}
    categories = list(next(iter(groups.values())))
    for name, column in groups.items():
        if list(column) != categories:
            raise ValueError(
                f"All groups need the same categories in the same order: expected {categories}, "
                f"found {list(column)} in {name!r}."
            )
    figure, axes = _axes(category_label, label, wide=max(4.0, min(9.0, 0.5 * len(categories) + 2)))
    width = 0.8 / len(groups)
    for n, (name, column) in enumerate(groups.items()):
        places = np.arange(len(categories)) + (n - (len(groups) - 1) / 2) * width
        heights = _numbers(list(column.values()), name)
        colour, hatch = SERIES[n % len(SERIES)], HATCHES[n % len(HATCHES)]
        axes.bar(places, heights, width, color=colour, hatch=hatch, edgecolor="white", label=name)
    axes.set_xticks(range(len(categories)), [str(category) for category in categories])
    if len(groups) > 1:
        _legend_above(figure)
    return figure


def result_distributions(
    table,
    *,
    kind: str = "both",
    measure: str = "jaccard",
    protocol: str | None = None,
    horizon: int = 1,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    comparisons: Sequence[str] = ("prediction", "persistence", "input"),
    bins: int | None = None,
) -> Picture:
    """Draw how the distances of samples are distributed: a row per model, a column per format.

    Args:
        table: from `helpers.evaluation`, one row for each sample.
        kind: `"histogram"`, `"box"` (box: quartiles, whiskers: 5th and 95th percentile) or
            `"both"`, the boxes above the histogram.
        measure: `"jaccard"` or `"mse"`.
        protocol: which one, where the table holds several.
        horizon: steps ahead.
        models, formats: what to show, in this order; what the table holds when None. A panel
            without results says so.
        comparisons: which of `"prediction"`, `"persistence"`, `"input"`, and in rollouts
            `"moving_null"` and `"moving_input"`.
        bins: so many from 0 to the largest distance of all panels; √N for each format, at most
            40, when None.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`; an unknown kind or comparison;
            no bins.
    """
    _check_choice("kind", kind, ("both", "histogram", "box"))
    label = _distance_name(measure)
    table = evaluation.one_protocol(table, protocol)
    evaluation.check_same_samples(table)
    models, formats = _asked(models, table["model"]), _asked(formats, table["format"])
    table = table[table["horizon"] == horizon]
    known = [column[: -len(measure) - 1] for column in table if column.endswith(f"_{measure}")]
    for name in comparisons:
        _check_choice("comparison", name, known)
    columns = [f"{name}_{measure}" for name in comparisons]
    shown = table[table["model"].isin(models) & table["format"].isin(formats)]
    if shown.empty or not columns:
        raise ValueError(f"The table has nothing of {models} in {formats} at horizon {horizon}.")
    if bins is None:
        # All formats share the axis, so that each has a part of it only.
        bins = min(40, round(len(formats) * np.sqrt(shown["sample"].nunique())))
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least one is needed.")
    edges = np.linspace(0, shown[columns].max(axis=None) or 1, bins + 1)
    strip = 0.2 + 0.2 * len(columns)
    heights = {"both": [strip, 1.5], "histogram": [1.7], "box": [strip + 0.3]}[kind]
    figure = Picture(
        figsize=(1.1 + 2.7 * len(formats), 0.9 + (sum(heights) + 0.35) * len(models)),
        dpi=100,
        layout="constrained",
    )
    panels = figure.subplots(
        len(models) * len(heights),
        len(formats),
        squeeze=False,
        sharex=True,
        gridspec_kw={"height_ratios": heights * len(models)},
    )
    for row, model in enumerate(models):
        for column, name in enumerate(formats):
            cell = panels[row * len(heights) : (row + 1) * len(heights), column]
            values = shown[(shown["model"] == model) & (shown["format"] == name)]
            cell[0].set_title(f"{model} · {name}", fontsize=9)
            if values.empty:
                _missing(cell, f"{model} was not judged\nin {name}")
                continue
            if kind != "histogram":
                _boxes(cell[0], values[columns], comparisons, ticks=column == 0)
            if kind != "box":
                _histogram(cell[-1], values[columns], comparisons, edges)
                if column == 0:
                    cell[-1].set_ylabel("samples", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel(label, fontsize=9)
    handles = [
        (Patch(color=colour, alpha=0.25),) * (kind != "histogram")
        + (Line2D([], [], color=colour, ls=line, lw=1.5),)
        for _, colour, line in (COMPARISONS[name] for name in comparisons)
    ]
    names = [COMPARISONS[name][0] for name in comparisons]
    title = f"horizon {horizon}" if table["protocol"].eq(evaluation.ROLLOUT).all() else None
    figure.legend(
        handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize=9, title=title
    )
    return figure


def long_term_curves(
    table,
    *,
    measure: str = "jaccard",
    difference: bool = False,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    thesis: bool | Sequence[str] = True,
    moving_null: bool = True,
    band: bool = True,
) -> Picture:
    """Draw the distance over the horizon, a panel per format, with the thesis's published figures.

    Filled marks are ours, hollow marks the thesis's; its models have the colour of ours of the
    same kind, see `KIN`. Persistence, the solid black line, repeats
    the last observed frame; the moving null, which the thesis calls null, is told the true frame
    before each target.

    Args:
        table: rollouts from `helpers.evaluation`.
        measure: `"jaccard"` or `"mse"`.
        difference: draw prediction - persistence, taken sample by sample, in place of both; below
            0 is better than persistence. The thesis has no such figures.
        models, formats: what to show, in this order; what the table holds when None. What is not
            there is named in its panel.
        thesis: its three models, none, or those in the list. They start from 5, 1 and 3 frames.
        moving_null: draw it.
        band: around each mean of ours, its 95 % bootstrap interval.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`; the table is not of rollouts.
    """
    label = _distance_name(measure)
    table = evaluation.one_protocol(table)
    if not table["protocol"].eq(evaluation.ROLLOUT).all():
        raise ValueError(
            "The table is of next frames; curves over the horizon need rollouts, from long_term."
        )
    if difference:
        found = _paired_differences(table, measure)
    else:
        found = evaluation.lines(table, measure, thesis=thesis)
        found = found[found["kind"].ne("moving null") | moving_null]
    formats = _asked(formats, table["format"])
    models = _asked(models, found.loc[found["kind"] == "model", "name"])
    found = found[found["kind"].ne("model") | found["name"].isin(models)]
    figure, panels = _row(len(formats), 3.6)
    looks = _looks(found, models)
    for axes, name in zip(panels, formats):
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("horizon (steps ahead)", fontsize=9)
        if difference:
            axes.axhline(0, color="black", lw=1.2)
        for model, look in looks.items():
            rows = found[(found["name"] == model) & (found["format"] == name)]
            if rows.empty:
                continue
            for _, group in rows.groupby("history"):
                # Missing horizons become a gap in the line.
                every = range(1, group["horizon"].max() + 1)
                group = group.set_index("horizon").reindex(every)
                style = look | {"markevery": max(1, len(group) // 15)}
                axes.plot(group.index, group["mean"], label=model, **style)
                if band:
                    colour = style["color"]
                    axes.fill_between(
                        group.index, group["low"], group["high"], alpha=0.2, lw=0, color=colour
                    )
        _note_missing(
            axes,
            [m for m in models if not ((found["name"] == m) & (found["format"] == name)).any()],
        )
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if not difference:
        panels[0].set_ylim(bottom=0)  # shared by all panels
    panels[0].set_ylabel(f"{label}: model - persistence" if difference else label, fontsize=9)
    _shared_legend(figure, panels, "band: 95 % interval of the mean" if band else None)
    return figure


def shape_curves(
    table,
    *,
    kind: str = "errors",
    format: str | None = None,
    models: Sequence[str] | None = None,
) -> Picture:
    """Draw over the horizon what rollouts do to the shape of frames.

    Args:
        table: rollouts from `helpers.evaluation.long_term` with shape=True.
        kind: `"counts"`, how many components, tunnels and voids there are, beside the truth;
            `"errors"`, by how many they are off; or `"surface"`, how far the surface is off, its
            mean and 95 % Hausdorff distance, and the share of samples without such a distance,
            since the forecast is empty and the truth is not, or the reverse.
        format: which one, where the table holds several.
        models: what to show, in this order; what the table holds when None.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.shape_means`; an unknown kind; several
            formats and none chosen; two models were judged on other samples.
    """
    _check_choice("kind", kind, ("counts", "errors", "surface"))
    table = evaluation.one_protocol(table)
    evaluation.check_same_samples(table)
    if format is None and table["format"].nunique() > 1:
        known = ", ".join(dict.fromkeys(table["format"]))
        raise ValueError(f"The table holds the formats {known}; choose one with format=...")
    rows = table if format is None else table[table["format"] == format]
    if rows.empty:
        raise ValueError(f"The table has nothing in the format {format!r}.")
    found = evaluation.shape_means(rows, ("model", "horizon"))
    nulls = evaluation.null_models(table)
    models = [name for name in _asked(models, rows["model"]) if name not in nulls]
    if kind == "surface":
        measures = {"surface_mean": "mean surface distance", "surface_95": "95 % Hausdorff"}
        measures["undefined"] = "share without a distance"
    else:
        measures = {f"{what}{'_error' * (kind == 'errors')}": what for what in BETTI}
    first = rows["model"].iloc[0]
    series = [("persistence", first, "persistence")]
    series += [(model, model, "prediction") for model in models if model in set(rows["model"])]
    series += [("truth", first, "truth")] * (kind == "counts")  # last, so that it lies on top
    figure, panels = _row(len(measures), 3.4, share=False)
    for axes, (measure, title) in zip(panels, measures.items()):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("horizon (steps ahead)", fontsize=9)
        for name, model, who in series:
            column = "surface_mean" if measure == "undefined" else measure
            part = found[(found["model"] == model) & (found["measure"] == f"{who}_{column}")]
            if name in models:
                style = _style("model", models.index(name))
            elif name == "persistence":
                style = _style("persistence", 0)
            else:
                style = {"color": INK, "ls": ":", "lw": 1, "marker": "D", "ms": 5, "mfc": "white"}
            if measure == "undefined":
                share = part["undefined"] / (part["undefined"] + part["n"])
                axes.plot(part["horizon"], share, label=name, **style)
            else:
                axes.plot(part["horizon"], part["mean"], label=name, **style)
                if name != "truth":  # two grey bands over each other say nothing
                    ends = part["low"], part["high"]
                    colour = style["color"]
                    axes.fill_between(part["horizon"], *ends, alpha=0.2, lw=0, color=colour)
        _note_missing(axes, [m for m in models if m not in set(rows["model"])], top=True)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylim(bottom=0, top=1.02 if measure == "undefined" else None)
    unit = {"counts": "mean number", "errors": "mean absolute error", "surface": "voxels"}[kind]
    panels[0].set_ylabel(unit, fontsize=9)
    _shared_legend(figure, panels, "band: 95 % interval of the mean")
    return figure


def comparison(
    table,
    *,
    horizon: int = 1,
    measure: str = "jaccard",
    protocol: str | None = None,
    difference: bool = False,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    thesis: bool | Sequence[str] = True,
) -> Picture:
    """Draw all models below each other: the mean with its 95 % interval, a panel per format.

    Args:
        table: from `helpers.evaluation`.
        horizon: steps ahead.
        measure, protocol, models, formats, thesis: see `result_distributions` and
            `long_term_curves`.
        difference: prediction - persistence, taken sample by sample, below 0 is better; then
            without null models and thesis.

    The panels share one scale.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`.
    """
    label = _distance_name(measure)
    table = evaluation.one_protocol(table, protocol)
    if difference:
        found = _paired_differences(table, measure)
    else:
        found = evaluation.lines(table, measure, thesis=thesis)
    found = found[found["horizon"] == horizon]
    if found.empty:
        raise ValueError(f"The table has nothing at horizon {horizon}.")
    formats = _asked(formats, table["format"])
    asked = _asked(models, found.loc[found["kind"] == "model", "name"])
    null = found[found["kind"] != "model"]
    names = [*asked, *dict.fromkeys(null["name"])]
    looks = _looks(found, asked)
    figure, panels = _row(len(formats), 0.75 + 0.27 * len(names))
    for axes, name in zip(panels, formats):
        if axes is not panels[0]:
            axes.sharex(panels[0])
        axes.set_title(name, fontsize=9)
        if difference:
            axes.axvline(0, color="black", lw=1.2)
        for n, model in enumerate(names):
            rows = found[(found["name"] == model) & (found["format"] == name)]
            if rows.empty:
                _gap(axes, n)
            for row in rows.itertuples():
                ends = row.low, row.high
                _interval(axes, n, row.mean, ends, looks[model], f"{row.mean:.3f}")
        _rows(axes, names, named=axes is panels[0])
    if not difference:
        panels[0].set_xlim(0, 1.06 * panels[0].get_xlim()[1])
    label += ": model - persistence" if difference else ""
    rollouts = table["protocol"].eq(evaluation.ROLLOUT).all()
    where = f"{horizon} steps ahead" if rollouts else f"next frame, {table['protocol'].iloc[0]}"
    figure.supxlabel(f"{label}, {where} (bars: 95 % interval of the mean)", fontsize=9)
    return figure


def summary_curves(
    summary, *, models: Sequence[str] | None = None, formats: Sequence[str] | None = None
) -> Picture:
    """Draw a table of means: rollouts over the horizon, a column per format.

    What starts from as many frames shares a row with persistence and the thesis's model that
    starts from them: ours have filled marks, the thesis's hollow ones.

    Args:
        summary: as in data/results/summary.csv, see `helpers.results.read`.
        models, formats: what to show, in this order; what the table holds when None. What is not
            there is named in its panel.

    Raises:
        ValueError: the table has no rollouts of these models in these formats.
    """
    table = summary[summary["protocol"] == evaluation.ROLLOUT]
    models, formats = _asked(models, table["model"]), _asked(formats, table["format"])
    table = table[table["model"].isin(models) & table["format"].isin(formats)]
    if table.empty:
        raise ValueError(f"The table has no rollouts of {models} in {formats}.")
    published = evaluation.thesis_figures()
    published = published[published["protocol"] == evaluation.ROLLOUT]
    published = published[published["measure"] == "prediction_jaccard"]
    published = published.assign(
        name="thesis: " + published["model"], kind="thesis", jaccard=published["mean"]
    )
    histories = sorted(set(table["history"]), reverse=True)
    rows, columns = len(histories), len(formats)
    figure = Picture(figsize=(0.9 + 2.9 * columns, 0.9 + 2.1 * rows), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey=True)
    looks = _looks(published, models)
    for (row, column), axes in np.ndenumerate(panels):
        history, name = histories[row], formats[column]
        count = "one frame" if history == 1 else f"{history} frames"
        axes.set_title(f"{name}, from {count}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        here = table[(table["format"] == name) & (table["history"] == history)]
        null = here.drop_duplicates("horizon").sort_values("horizon")
        axes.plot(
            null["horizon"], null["persistence"], label="persistence", **_style("persistence", 0)
        )
        theirs = published[(published["format"] == name) & (published["history"] == history)]
        parts = [here.assign(name=here["model"]), theirs]
        for who, look in looks.items():
            for part in parts:
                drawn = part[part["name"] == who].sort_values("horizon")
                if len(drawn):
                    axes.plot(drawn["horizon"], drawn["jaccard"], label=who, **look)
        expected = set(table.loc[table["history"] == history, "model"])
        lacking = expected - set(here["model"])
        _note_missing(axes, [model for model in models if model in lacking])
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if row == rows - 1:
            axes.set_xlabel("horizon (steps ahead)", fontsize=9)
    panels[0, 0].set_ylim(bottom=0)  # shared by all panels
    for axes in panels[:, 0]:
        axes.set_ylabel("Jaccard distance", fontsize=9)
    _shared_legend(figure, panels.ravel())
    return figure


def skill_horizons(
    found, *, formats: Sequence[str] | None = None, models: Sequence[str] | None = None
) -> Picture:
    """Draw up to which step each model beats persistence, with the interval, a panel per format.

    "Or more" marks a model that still does at the longest horizon that was judged.

    Args:
        found: from `helpers.evaluation.skill_horizon`.
        models, formats: what to show, in this order; what `found` holds when None.

    Raises:
        ValueError: nothing to show, or a model is there twice for one format.
    """
    if not len(found):
        raise ValueError("There are no skill horizons to draw; the table is empty.")
    if found.duplicated(["model", "format"]).any():
        raise ValueError("A model is there twice for one format, with other histories; choose one.")
    formats, models = _asked(formats, found["format"]), _asked(models, found["model"])
    figure, panels = _row(len(formats), 0.85 + 0.3 * len(models))
    for axes, name in zip(panels, formats):
        axes.set_title(name, fontsize=9)
        rows = found[found["format"] == name].set_index("model")
        longest = rows["longest"].max() if len(rows) else 1
        for n, model in enumerate(models):
            if model not in rows.index:
                _gap(axes, n)
                continue
            row, style = rows.loc[model], _style("model", n)
            axes.vlines(row["longest"], n - 0.5, n + 0.5, color=FAINT, ls=":", lw=1)
            more = bool(row["steps"] == row["longest"])
            text = f"{row['steps']:.0f}" + " or more" * more
            ends = row["low"], row["high"]
            _interval(axes, n, row["steps"], ends, style, text, left=more)
        _rows(axes, models, named=axes is panels[0])
        axes.set_xlim(-0.4, longest + 0.8)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    figure.supxlabel(
        "skill horizon: steps up to which the model beats persistence (dotted: longest judged)",
        fontsize=9,
    )
    return figure


def breakdown(found, *, format: str | None = None, horizon: int = 1) -> Picture:
    """Draw what a model gains over persistence by what is in the samples, a panel per property.

    Args:
        found: from `helpers.evaluation.breakdown`.
        format, horizon: which rows; the format may be left out where there is one only.

    Raises:
        ValueError: no such rows, several formats or several protocols.
    """
    if format is None and found["format"].nunique() == 1:
        format = found["format"].iloc[0]
    rows = found[(found["format"] == format) & (found["horizon"] == horizon)]
    if rows.empty or rows["protocol"].nunique() > 1:
        known = ", ".join(dict.fromkeys(found["format"]))
        raise ValueError(
            f"Expected results of one protocol in format {format!r} at horizon {horizon}; the "
            f"formats are {known}, the protocols {', '.join(dict.fromkeys(found['protocol']))}."
        )
    # A model that is persistence differs from it nowhere.
    differs = rows["difference"].ne(0).groupby(rows["model"], sort=False).any()
    properties, models = list(dict.fromkeys(rows["property"])), list(differs[differs].index)
    columns = min(3, len(properties))
    height = -(-len(properties) // columns)
    figure = Picture(
        figsize=(2.9 * columns + 0.4, 1.9 * height + 0.7), dpi=100, layout="constrained"
    )
    panels = figure.subplots(height, columns, squeeze=False, sharex=True).ravel()
    for axes in panels[len(properties) :]:
        axes.set_visible(False)
    for axes, name in zip(panels, properties):
        axes.set_title(name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.axvline(0, color="black", lw=1.2)
        part = rows[rows["property"] == name]
        groups = list(dict.fromkeys(part["group"]))
        for n, model in enumerate(models):
            shift = (n - (len(models) - 1) / 2) * 0.6 / len(models)
            own = part[part["model"] == model].set_index("group")
            places = [groups.index(group) + shift for group in own.index]
            style = _style("model", n) | {"ls": "", "ms": 5}
            axes.hlines(places, own["low"], own["high"], color=style["color"], lw=1.8)
            axes.plot(own["difference"], places, label=model, **style)
        counts = part.groupby("group", sort=False)["n"].max()
        axes.set_yticks(
            range(len(groups)), [f"{group}  (n {counts[group]})" for group in groups], fontsize=8
        )
        axes.set_ylim(len(groups) - 0.5, -0.5)
    figure.supxlabel(
        f"Jaccard distance: model - persistence, {format}, {horizon} steps ahead", fontsize=9
    )
    _shared_legend(figure, panels[: len(properties)], "bars: 95 % interval of the mean")
    return figure


def loss_curves(
    runs: Mapping,
    *,
    columns: Sequence[str] = ("loss", "val_loss"),
    xlabel: str = "step",
    logarithmic: bool = False,
) -> Picture:
    """Draw the losses of several trainings, a panel per column, a line per training.

    Args:
        runs: name -> the log of a training: column -> (N,) values, one per round, `step` among
            them, for example a DataFrame.
        columns: what to draw; a panel names the trainings that lack its column.
        xlabel: what `step` counts.
        logarithmic: for losses above 0 only.

    Raises:
        ValueError: no runs, a run without `step`, a column that no run has, a NaN, columns of
            unequal length, or a loss of 0 or below on a logarithmic axis.
    """
    runs = {name: dict(log) for name, log in _some(runs).items()}
    for name, log in runs.items():
        if "step" not in log:
            raise ValueError(
                f"{name} has no column step; found {', '.join(map(str, log)) or 'none'}."
            )
    figure, panels = _row(len(columns), 2.7, share=False)
    for axes, column in zip(panels, columns):
        axes.set_title(column, fontsize=9)
        axes.set_xlabel(xlabel, fontsize=9)
        having = [name for name in runs if column in runs[name]]
        if not having:
            raise ValueError(f"No training has the column {column!r}.")
        for n, name in enumerate(runs):
            if name not in having:
                continue
            steps, values = (
                _numbers(runs[name][key], f"{name}, {key}") for key in ("step", column)
            )
            if steps.shape != values.shape:
                raise ValueError(f"{name}: {column} has shape {values.shape}, step {steps.shape}.")
            if logarithmic and values.min() <= 0:
                raise ValueError(f"{name}: {column} falls to {values.min():g}; no logarithm of it.")
            style = _style("model", n) | {
                "ms": 3,
                "markevery": max(1, len(steps) // 12),
            }
            axes.plot(steps, values, label=name, **style)
        if logarithmic:
            axes.set_yscale("log")
            axes.tick_params(which="both", labelsize=8)
        _note_missing(axes, [name for name in runs if name not in having], top=True)
    _shared_legend(figure, panels)
    return figure


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
    view: Sequence[float] = VIEW,
    backend: str | None = None,
):
    """Draw frames in 3D side by side, seen from the same place, the time under each.

    Args:
        frames: (D, H, W), (T, D, H, W), or a list of (D, H, W) frames whose sizes may differ;
            values 0…1, filled means value >= threshold.
        prediction: frames of the same shapes, drawn as a second row.
        times: the time of each frame.
        captions: a text for each frame, instead of its time.
        count: at most so many equally spaced frames.
        surface: smoothed surface instead of cubes; one answer, or one for each frame.
        names: what to call the two rows.
        size: pixels of one panel; 150 to 380 unless told, fewer where there are many.
        view: where the camera is, seen from the centre: (W, H, D); see `camera`.
        backend: `"static"` (an image), `"html"` (interactive, needs no server), `"trame"`
            (interactive, drawn by this process) or `"matplotlib"`. The environment variable
            `WORKSHOP_3D`, where it is set, wins.

    Returns:
        Picture, Scene or, for trame, a widget. Where PyVista can't draw, a warning says so and
        the answer is a matplotlib Picture.

    Raises:
        ValueError: a wrong shape or value, or an unknown backend.
        RuntimeError: trame is asked for outside a Jupyter kernel.
    """
    rows = [_frames(frames, "frames")]
    if prediction is not None:
        rows.append(_frames(prediction, "prediction"))
        _same_shape(*rows)
    captions = _captions(captions, times, len(rows[0]), single=np.ndim(frames[0]) == 2)
    smooth = [surface] * len(rows[0]) if isinstance(surface, bool) else list(surface)
    if len(smooth) != len(rows[0]):
        raise ValueError(f"surface has {len(smooth)} entries for {len(rows[0])} frames.")
    panels = []
    for row, sequence in enumerate(rows):
        for n in _equally_spaced(len(sequence), count):
            filled = sequence[n] >= threshold
            look = "surface" if smooth[n] else "cubes"
            panels.append(
                {
                    "layers": [(filled, look)],
                    "shape": filled.shape,
                    "caption": captions[n] if row == len(rows) - 1 else "",
                    "empty": not filled.any(),
                }
            )
    scene = _scene(panels, len(rows), size, names if len(rows) > 1 else (), view=view)
    return _draw(scene, backend)


def compare_3d(
    truth,
    prediction,
    *,
    times: Sequence[int] | None = None,
    captions: Sequence[str] | None = None,
    count: int = 4,
    threshold: float = 0.5,
    truth_above: bool = False,
    names: tuple[str, str] = ("truth", "prediction"),
    size: int | None = None,
    view: Sequence[float] = VIEW,
    backend: str | None = None,
):
    """Draw truth against prediction in one scene: hits, misses and false alarms.

    Hits are grey cubes, misses orange outlines, false alarms small blue cubes. The numbers under
    each frame count the three.

    Args:
        truth, prediction: (D, H, W) or (T, D, H, W), values 0…1; filled means >= threshold.
        truth_above: draw the truth by itself in a row above.
        times, captions, count, names, size, view, backend: as in `view_3d`.

    Raises:
        ValueError: shapes disagree, a wrong value, or an unknown backend.
    """
    true, predicted = _frames(truth, "truth"), _frames(prediction, "prediction")
    _same_shape(true, predicted)
    captions = _captions(captions, times, len(true), single=np.ndim(truth[0]) == 2)
    panels = []
    chosen = _equally_spaced(len(true), count)
    if truth_above:
        panels += [_truth_panel(true[n] >= threshold) for n in chosen]
    for n in chosen:
        panels.append(_difference_panel(true[n], predicted[n], threshold, captions[n]))
    names = names if truth_above else ()
    scene = _scene(panels, 1 + truth_above, size, names, legend=True, view=view)
    return _draw(scene, backend)


def camera(turn: float, tilt: float) -> tuple[float, float, float]:
    """Return the direction (W, H, D) to a camera, for `view`.

    Args:
        turn: degrees around the upward axis D; 0 looks along H, from its small end.
        tilt: degrees above the middle, -89 to 89.

    Raises:
        ValueError: an angle is no number, or the tilt is out of range.
    """
    if not (np.isfinite(turn) and np.isfinite(tilt) and -89 <= tilt <= 89):
        raise ValueError(f"turn is {turn}, tilt is {tilt}; expected degrees, the tilt -89 to 89.")
    around, above = np.radians(turn), np.radians(tilt)
    flat = np.cos(above)
    return float(flat * np.sin(around)), float(-flat * np.cos(around)), float(np.sin(above))


class Animation:
    """A moving picture that plays in a notebook and opens in any browser.

    Attributes:
        gif: the file, as bytes.
        frames: how many pictures it has.
    """

    def __init__(self, gif: bytes, frames: int):
        self.gif, self.frames = gif, frames

    def _repr_html_(self) -> str:
        # As HTML: a GIF output of its own is not shown everywhere where notebooks are browsed.
        code = base64.b64encode(self.gif).decode()
        return f'<img src="data:image/gif;base64,{code}" alt="{self.frames} frames over time"/>'

    def save(self, path: str | Path) -> Path:
        """Write the GIF; return its path."""
        path = Path(path)
        path.write_bytes(self.gif)
        return path


def animate_3d(
    truth,
    prediction=None,
    *,
    times: Sequence[int] | None = None,
    threshold: float = 0.5,
    seconds: float = 0.5,
    size: int = 230,
    backend: str | None = None,
) -> Animation:
    """Let frames in 3D play one after the other, and beside them how a prediction differs.

    Args:
        truth: (T, D, H, W), values 0…1; filled means value >= threshold.
        prediction: the same shape; drawn as in `compare_3d`.
        times: the time of each frame; 0…T-1 unless told.
        seconds: how long each frame stays; the last one stays three times as long.
        size: pixels of one panel.
        backend: `"static"` or `"matplotlib"`.

    Raises:
        ValueError: shapes disagree, a wrong value, no time at all for a frame, or another backend.
    """
    true = _frames(_values(truth, "truth", "TDHW"), "truth")
    predicted = None if prediction is None else _frames(prediction, "prediction")
    if predicted is not None:
        _same_shape(true, predicted)
    if not 0.02 <= seconds <= 60:
        raise ValueError(f"seconds is {seconds!r}; a GIF can show a frame for 0.02 to 60 s.")
    if (os.environ.get("WORKSHOP_3D") or backend) in ("html", "trame"):
        backend = "static"  # what turns by itself cannot be turned by hand
    times, images = _times(times, len(true)), []
    for n, frame in enumerate(true):
        panels = [_truth_panel(frame >= threshold, f"truth, t = {times[n]}")]
        if predicted is not None:
            panels[0]["caption"] += "\n"  # as many lines as beside it
            text = f"prediction, t = {times[n]}"
            panels.append(_difference_panel(frame, predicted[n], threshold, text))
        scene = _scene(panels, 1, size, (), legend=predicted is not None)
        drawn = _draw(scene, backend)
        images.append(Image.open(io.BytesIO(drawn.png())).convert("RGB"))
    # One palette for all frames: what stands still does not flicker.
    sheet = Image.fromarray(np.concatenate([np.asarray(image) for image in images]))
    palette = sheet.quantize(64, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    stay = [round(1000 * seconds)] * (len(images) - 1) + [round(3000 * seconds)]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=stay, loop=0, optimize=True
    )
    return Animation(buffer.getvalue(), len(images))


def _truth_panel(filled: np.ndarray, caption: str = "") -> dict:
    """Describe a panel with one frame as cubes."""
    layers = [(filled, "cubes")]
    return {"layers": layers, "shape": filled.shape, "caption": caption, "empty": not filled.any()}


def _difference_panel(true: np.ndarray, predicted: np.ndarray, threshold, caption: str) -> dict:
    """Describe a panel with the hits, misses and false alarms of one frame."""
    parts = outcomes(true, predicted, threshold=threshold)
    return {
        "layers": list(zip(parts, OUTCOMES)),
        "shape": true.shape,
        "caption": "\n".join(filter(None, (caption, _counts(parts)))),
        "empty": not any(part.any() for part in parts),
    }


def cavity_mesh(frame, *, surface: bool = False, threshold: float = 0.5):
    """Make a PyVista mesh of the filled voxels of a frame.

    Voxel (d, h, w) is the cube w…w+1, h…h+1, d…d+1 in x, y, z.

    Args:
        frame: (D, H, W), values 0…1; filled means value >= threshold.
        surface: smoothed surface (marching cubes, then Taubin's filter) instead of cubes.

    Returns:
        pyvista.PolyData; without points for an empty frame.
    """
    import pyvista

    filled = _values(frame, "frame", "DHW") >= threshold
    if not filled.any():
        return pyvista.PolyData()
    if surface:
        # Points at the voxel centres, with an empty margin that closes the surface at the walls.
        padded = np.pad(filled.astype(np.float32), 1)
        grid = pyvista.ImageData(dimensions=padded.shape[::-1], origin=(-0.5, -0.5, -0.5))
        grid.point_data["filled"] = padded.ravel()
        mesh = grid.contour([0.5], scalars="filled")
        mesh.clear_data()
        return mesh.smooth_taubin(n_iter=20, pass_band=0.08)
    cubes = _cubes(filled).extract_surface(algorithm="dataset_surface")
    cubes.clear_data()
    return cubes


def closed_mesh(frame, *, surface: bool = False, threshold: float = 0.5):
    """Make a PyVista mesh of the filled voxels that is closed, for export and for measuring.

    Every edge belongs to two triangles and normals point outward, so that the mesh bounds a body.
    Where cubes touch along an edge or in a corner only, they are drawn apart by a fiftieth of a
    voxel. Without `surface` the volume is the number of filled voxels, but for these gaps.

    Args:
        frame, surface, threshold: as in `cavity_mesh`. Smoothing takes volume from small pieces.

    Returns:
        pyvista.PolyData of triangles; without points for an empty frame.

    Raises:
        ValueError: a wrong shape or value.
    """
    import pyvista

    filled = _values(frame, "frame", "DHW") >= threshold
    if not filled.any():
        return pyvista.PolyData()
    if not surface:
        return pyvista.PolyData.from_regular_faces(*_closed_cubes(filled))
    mesh = cavity_mesh(filled, surface=True).triangulate()
    points, triangles = np.asarray(mesh.points), mesh.regular_faces
    if _signed_volume(points, triangles) < 0:
        triangles = triangles[:, ::-1]
    return pyvista.PolyData.from_regular_faces(points, triangles)


def export_meshes(
    frames: Mapping,
    folder: str | Path,
    *,
    kind: str = "stl",
    surface: bool = False,
    threshold: float = 0.5,
) -> dict[str, Path | None]:
    """Write frames as meshes that other programs open: one file for each, closed, in voxels.

    Args:
        frames: file name without ending -> (D, H, W), for example truth and prediction.
        folder: where to; made where it is missing.
        kind: `"stl"` or `"ply"`, both binary.
        surface, threshold: see `closed_mesh`.

    Returns:
        Name -> path. An empty frame has no surface, so its path is None, and a file that an
        earlier export left under that name is removed.

    Raises:
        ValueError: no frames, a wrong shape or value, an unknown kind, or a name with a folder.
        OSError: a file cannot be written.
    """
    _check_choice("kind", kind, ("stl", "ply"))
    frames = {name: _values(frame, name, "DHW") for name, frame in _some(frames).items()}
    for name in frames:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{name!r} is not a file name; give one without a folder.")
    folder, written = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        path = folder / f"{name}.{kind}"
        mesh = closed_mesh(frame, surface=surface, threshold=threshold)
        if mesh.n_points:
            mesh.save(path)
        else:
            path.unlink(missing_ok=True)
        written[name] = path if mesh.n_points else None
    return written


def _closed_cubes(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points (x, y, z) and triangles of the closed surface of cubes, seen from outside."""
    points, triangles = _separated_cubes(filled)
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    if (np.unique(edges, axis=0, return_counts=True)[1] == 2).all():
        return points, triangles
    # Two cubes meet in an edge and are joined by others at both of its ends. With half the edge
    # length there is a point in the middle of it, where they can be drawn apart.
    points, triangles = _separated_cubes(filled.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    return points / 2, triangles


def _separated_cubes(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points and triangles of cubes that are joined through faces only."""
    group, centre = _joined_octants()
    padded = np.pad(filled, 1)
    # Which of the eight voxels around each grid point are filled, one bit for each.
    around = np.zeros(np.add(filled.shape, 1), np.uint8)
    for bit, (d, h, w) in enumerate(itertools.product((0, 1), repeat=3)):
        box = (slice(o, o + n) for o, n in zip((d, h, w), around.shape))
        around |= padded[tuple(box)].astype(np.uint8) << bit
    corners = []
    for axis in range(3):
        for side in (0, 1):
            beyond = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
            voxels = np.argwhere(filled & ~beyond)
            others = [(0, 0), (1, 0), (1, 1), (0, 1)]
            quad = np.zeros((4, 3), np.int64)
            quad[:, axis] = side
            quad[:, [(axis + 1) % 3, (axis + 2) % 3]] = others
            # Points are (x, y, z) = (W, H, D): the reverse order mirrors, and so turns them over.
            quad = quad[::-1] if side else quad
            places = voxels[:, None] + quad  # (faces, 4, 3)
            octant = (1 - quad) @ (4, 2, 1)
            flat = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), around.shape)
            corners.append(4 * flat + group[around.ravel()[flat], octant])
    vertices, index = np.unique(np.concatenate(corners), return_inverse=True)
    quads = index.reshape(-1, 4)
    places, number = np.divmod(vertices, 4)
    points = np.stack(np.unravel_index(places, around.shape), axis=1).astype(np.float64)
    points += 0.02 * centre[around.ravel()[places], number]
    return points[:, ::-1], quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


@functools.cache
def _joined_octants() -> tuple[np.ndarray, np.ndarray]:
    """Tell which of the voxels around a grid point are joined there through faces.

    Returns:
        For each pattern of filled voxels the number of the group of each, int64 (256, 8); and the
        direction from the point to the middle of each group, (256, 4, 3), 0 if there is one only.
    """
    octants = np.array(list(itertools.product((0, 1), repeat=3)))
    near = np.abs(octants[:, None] - octants).sum(axis=-1) <= 1
    group, centre = np.zeros((256, 8), np.int64), np.zeros((256, 4, 3))
    for pattern in range(256):
        left = {bit for bit in range(8) if pattern >> bit & 1}
        groups = []
        while left:
            members = {left.pop()}
            while joined := {bit for bit in left if near[bit, list(members)].any()}:
                members |= joined
                left -= joined
            groups.append(sorted(members))
        for number, members in enumerate(groups):
            group[pattern, members] = number
            if len(groups) > 1:
                centre[pattern, number] = octants[members].mean(axis=0) - 0.5
    return group, centre


def _signed_volume(points: np.ndarray, triangles: np.ndarray) -> float:
    """Return the volume that triangles enclose, negative if they are seen from inside."""
    a, b, c = np.moveaxis(points[triangles].astype(np.float64), 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def serve() -> None:
    """Draw the scenes that arrive on stdin and answer on stdout, until stdin ends.

    This is what the separate process runs; both directions carry pickles between the notebook
    and its own child.
    """
    # An interrupt of the notebook reaches its children too; the notebook decides what to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between the answers.
    os.dup2(2, 1)
    while True:
        try:
            scene, backend = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = ("drawn", _export(scene) if backend == "html" else _screenshot(scene))
        except Exception:  # told to the notebook, which falls back
            answer = ("failed", traceback.format_exc().strip().splitlines()[-1])
        pickle.dump(answer, answers)
        answers.flush()


class _Worker:
    """The process that draws: started at the first picture, one picture at a time.

    A worker that never drew anything isn't tried again; one that drew before is started anew.
    """

    def __init__(self, command: Sequence[str], seconds: float = SECONDS_TO_DRAW):
        self.command, self.seconds = command, seconds
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._drew = self._given_up = False

    def draw(self, scene: dict, backend: str):
        """Return the image (H, W, 3) or the HTML page of a scene, or None after a warning."""
        with self._lock:
            if self._given_up:
                return None
            try:
                if self.process is None or self.process.poll() is not None:
                    self.start()
                outcome, answer = self._ask(scene, backend)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                outcome, answer = "failed", self._why(error)
                self.stop()
            except BaseException:
                # Interrupted half-way: the answer would be taken for that of the next picture.
                self.stop()
                raise
            if outcome == "drawn":
                self._drew = True
                return answer
            self._given_up = not self._drew
        warnings.warn(
            f"PyVista can't draw here ({answer}), so matplotlib draws instead. On Linux PyVista "
            "needs OpenGL libraries (Debian and Ubuntu: libgl1, libegl1). WORKSHOP_3D=matplotlib "
            "asks for these pictures without this message.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None

    def start(self) -> None:
        """Start the process."""
        self.stop()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # VTK says that it found no screen, which is as it should be.
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parent.parent,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the process, if there is one."""
        atexit.unregister(self.stop)
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process = None

    def _ask(self, scene: dict, backend: str):
        process = self.process
        timer = threading.Timer(self.seconds, process.kill)
        timer.start()
        try:
            pickle.dump((scene, backend), process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        finally:
            timer.cancel()

    def _why(self, error: Exception) -> str:
        if self.process is None:
            return f"its process did not start: {error}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=5)
            return f"its process ended with code {code}, or was stopped after {self.seconds:g} s"
        return f"its process answered nonsense: {error!r}"


@functools.cache
def _worker() -> _Worker:
    return _Worker([sys.executable, "-c", "from helpers.pictures import serve; serve()"])


def _draw(scene: dict, backend: str | None):
    """Draw a scene with the backend asked for, or with matplotlib where PyVista can't."""
    backend = os.environ.get("WORKSHOP_3D") or backend or "static"
    if backend not in BACKENDS:
        raise ValueError(
            f"There is no 3D backend {backend!r}; choose one of {', '.join(BACKENDS)} (as the "
            "argument backend or in the environment variable WORKSHOP_3D)."
        )
    if backend == "trame":
        return _trame(scene)
    drawn = None if backend == "matplotlib" else _worker().draw(scene, backend)
    if drawn is None:
        return _with_matplotlib(scene)
    if backend == "html":
        return Scene(drawn, _window(scene), _html_captions(scene))
    return _compose(scene, drawn)


def _scene(
    panels: list[dict],
    rows: int,
    size: int | None,
    names: Sequence[str],
    legend: bool = False,
    view: Sequence[float] = VIEW,
) -> dict:
    """Collect what a picture in 3D shows; panels go row by row."""
    columns = len(panels) // rows
    view = np.array(view, np.float64)
    if view.shape != (3,) or not np.isfinite(view).all() or not view[:2].any():
        raise ValueError(
            f"view is {view.tolist()}; expected the three numbers (W, H, D) of a direction from "
            "the centre to the camera, not straight from above."
        )
    return {
        "view": view,
        "panels": panels,
        "rows": rows,
        "columns": columns,
        "size": size or int(np.clip(1100 // columns, 150, 380)),
        "names": tuple(names),
        "legend": legend,
    }


def _window(scene: dict) -> tuple[int, int]:
    return scene["columns"] * scene["size"], scene["rows"] * scene["size"]


def _plotter(scene: dict, *, labels: bool, **options):
    """Build the PyVista scene: one linked view for each panel, every box scaled to edge 1."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    plotter = pyvista.Plotter(
        shape=(scene["rows"], scene["columns"]),
        window_size=_window(scene),
        border=False,
        off_screen=True,
        **options,
    )
    plotter.set_background("white")
    for n, panel in enumerate(scene["panels"]):
        plotter.subplot(*divmod(n, scene["columns"]))
        shape = np.array(panel["shape"])
        scale = 1 / shape.max()
        depth, height, width = shape * scale
        box = pyvista.Box((0, width, 0, height, 0, depth)).extract_all_edges()
        plotter.add_mesh(box, color=FAINT, line_width=1)
        for filled, look in panel["layers"]:
            if filled.any():
                _add(plotter, filled, look, scale)
        if labels:
            # Letters as geometry: the viewer in the browser has no text of its own.
            for letter, where in (
                ("W", (width / 2, -0.12, 0)),
                ("H", (width + 0.12, height / 2, 0)),
                ("D", (-0.12, 0, depth / 2)),
            ):
                plotter.add_mesh(_letter(letter, where), color=INK, lighting=False)
        plotter.enable_parallel_projection()
    plotter.link_views()
    view = scene["view"]
    centre, (toward, _, _), half = np.array([0.5, 0.5, 0.5]), _camera(view), _half_height(view)
    # The viewer in the browser knows perspective only; further away it shows as much.
    distance = (1.25 if labels else 1) * half / np.tan(np.radians(15))
    plotter.camera_position = [centre + toward * distance, centre, (0, 0, 1)]
    plotter.camera.parallel_scale = half
    for renderer in plotter.renderers:
        renderer.reset_camera_clipping_range()
    return plotter


def _add(plotter, filled: np.ndarray, look: str, scale: float) -> None:
    """Add voxels to a plotter in one of the looks cubes, surface, hit, miss and false alarm."""
    light = {"ambient": 0.45, "diffuse": 0.7}
    if look == "surface":
        mesh, style = cavity_mesh(filled, surface=True), {"color": FILLED, "smooth_shading": True}
    elif look == "false alarm":
        mesh = _cubes(filled).shrink(0.6).extract_surface(algorithm="dataset_surface")
        mesh.clear_data()
        style = {"color": FALSE_ALARM}
    elif look == "miss":
        mesh, style = cavity_mesh(filled), {"color": MISS, "style": "wireframe", "line_width": 2}
    else:
        mesh = cavity_mesh(filled)
        style = {"color": HIT if look == "hit" else FILLED, "show_edges": True}
        style |= {"edge_color": INK, "line_width": 1}
    mesh.points = mesh.points * scale
    plotter.add_mesh(mesh, **style, **light)


def _cubes(filled: np.ndarray):
    """Return one cube for each filled voxel, as a PyVista UnstructuredGrid."""
    import pyvista

    grid = pyvista.ImageData(dimensions=tuple(n + 1 for n in filled.shape[::-1]))
    # VTK counts cells with x fastest; so does C order, where the last axis is W.
    return grid.extract_cells(np.flatnonzero(filled))


def _letter(text: str, where: Sequence[float]):
    import pyvista

    mesh = pyvista.Text3D(text, depth=0.001, height=0.09)
    # Upright, facing the side of small H, where the camera starts.
    mesh.rotate_x(90, inplace=True)
    mesh.translate(np.array(where) - mesh.center, inplace=True)
    return mesh


def _screenshot(scene: dict) -> np.ndarray:
    plotter = _plotter(scene, labels=False)
    plotter.enable_anti_aliasing("msaa", multi_samples=8)
    image = plotter.screenshot(return_img=True)
    plotter.close()
    return np.ascontiguousarray(image[..., :3])


def _export(scene: dict) -> str:
    plotter = _plotter(scene, labels=True)
    page = plotter.trame.export_html(None).getvalue()
    plotter.close()
    return page


def _trame(scene: dict):
    """Show a scene through a trame server in this process."""
    from IPython import get_ipython

    if not hasattr(get_ipython(), "kernel"):
        raise RuntimeError(
            "The 3D backend 'trame' needs a running Jupyter kernel; choose 'static' or 'html' here."
        )
    import ipywidgets

    # TensorFlow must come before the first drawing in this process, see helpers/__init__.py.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.suppress(ImportError):
        import tensorflow  # noqa: F401
    plotter = _plotter(scene, labels=True, notebook=True)
    widget = plotter.show(jupyter_backend="trame", return_viewer=True)
    return ipywidgets.VBox([widget, ipywidgets.HTML(_html_captions(scene))])


def _camera(view: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors from the scene to the camera, and rightward and upward in the image."""
    toward = view / np.linalg.norm(view)
    right = np.cross([0, 0, 1], toward)
    right /= np.linalg.norm(right)
    return toward, right, np.cross(toward, right)


def _half_height(view: Sequence[float]) -> float:
    """Return half the height of a view that holds the unit cube and its labels."""
    _, right, up = _camera(view)
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    return 1.16 * max(np.abs(corners @ right).max(), np.abs(corners @ up).max())


def _project(points: np.ndarray, size: int, view: Sequence[float]) -> np.ndarray:
    """Return the pixels (right, down) where points (N, 3) of the unit cube are in a panel."""
    _, right, up = _camera(view)
    plane = (np.asarray(points) - 0.5) @ np.stack([right, -up], axis=1)
    return size / 2 * (1 + plane / _half_height(view))


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
        for letter, length, start, end in (
            ("W", panel["shape"][2], (0, -gap, -gap / 2), (width, -gap, -gap / 2)),
            ("H", panel["shape"][1], (width + gap, 0, 0), (width + gap, height, 0)),
            ("D", panel["shape"][0], (-gap, 0, 0), (-gap, 0, depth)),
        ):
            ends = _project(np.array([start, end]), size, scene["view"])
            middle = ends.mean(axis=0)
            axes.text(*middle, letter, ha="center", va="center", fontsize=9, color=INK)
            if n == 0 or panel["shape"] != scene["panels"][n - 1]["shape"]:
                axes.text(
                    *(ends[1] * 0.9 + ends[0] * 0.1),
                    length,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=INK,
                )
    return figure


def _with_matplotlib(scene: dict) -> Picture:
    """Draw a scene as cubes with matplotlib: slower and plainer, but it works everywhere."""
    figure, places = _layout(scene)
    looks = {
        "hit": {"facecolor": HIT, "edgecolor": INK},
        # Matplotlib 3.10 cannot draw cubes without any face, so these are transparent.
        "miss": {"facecolor": (1.0, 1.0, 1.0, 0.0), "edgecolor": MISS},
        "false alarm": {"facecolor": FALSE_ALARM, "edgecolor": "white"},
    }
    for panel, place in zip(scene["panels"], places):
        axes = figure.add_axes(place, projection="3d", proj_type="ortho")
        for filled, look in panel["layers"]:
            style = looks.get(look, {"facecolor": FILLED, "edgecolor": INK})
            # Cubes of more than 16 a side would take minutes.
            factor = -(-max(filled.shape) // 16)
            if factor > 1:
                axes.set_title(f"maximum of {factor}³ voxels", fontsize=7, y=1.0)
            axes.voxels(_pooled(filled, factor).transpose(2, 1, 0), **style, linewidth=0.4)
        right, behind, above = scene["view"]
        axes.view_init(
            elev=np.degrees(np.arctan2(above, np.hypot(right, behind))),
            azim=np.degrees(np.arctan2(behind, right)),
        )
        depth, height, width = (-(-n // factor) for n in panel["shape"])
        axes.set(xlim=(0, width), ylim=(0, height), zlim=(0, depth))
        axes.set_box_aspect((width, height, depth), zoom=0.95)
        axes.set_xlabel("W", labelpad=-9)
        axes.set_ylabel("H", labelpad=-9)
        axes.set_zlabel("D", labelpad=-9)
        for letter, length, end in zip("xyz", panel["shape"][::-1], (width, height, depth)):
            getattr(axes, f"set_{letter}ticks")([0, end], ["", str(length)], fontsize=7)
    return figure


def _layout(scene: dict) -> tuple[Picture, list[tuple[float, ...]]]:
    """Make a figure with captions, names and legend; return it and the place of each panel."""
    size, rows, columns = scene["size"], scene["rows"], scene["columns"]
    lines = max(panel["caption"].count("\n") + bool(panel["caption"]) for panel in scene["panels"])
    left = 22 if scene["names"] else 0
    bottom = 17 * lines + (26 if scene["legend"] else 0)
    width, height = left + columns * size, bottom + rows * size
    figure = Picture(figsize=(width / 100, height / 100), dpi=100)
    places = []
    for n, panel in enumerate(scene["panels"]):
        row, column = divmod(n, columns)
        x, y = left + column * size, bottom + (rows - 1 - row) * size
        places.append((x / width, y / height, size / width, size / height))
        middle = (x + size / 2) / width
        figure.text(middle, y / height, panel["caption"], ha="center", va="top", fontsize=9)
        if panel["empty"]:
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
        figure.legend(handles, OUTCOMES, loc="lower center", ncols=3, frameon=False, fontsize=9)
    return figure, places


def _html_captions(scene: dict) -> str:
    """Write the captions of the last row, and the legend, for below an interactive scene."""
    columns = scene["columns"]
    cells = "".join(
        "<div>" + html.escape(panel["caption"] + "\nempty" * panel["empty"]) + "</div>"
        for panel in scene["panels"][-columns:]
    )
    style = (
        f"display: grid; grid-template-columns: repeat({columns}, 1fr); text-align: center; "
        f"white-space: pre; font-size: small; max-width: {_window(scene)[0]}px"
    )
    samples = (
        f"background: {HIT}; border: 1px solid {INK}",
        f"border: 2px solid {MISS}",
        f"background: {FALSE_ALARM}; border: 3px solid white",
    )
    legend = " &emsp; ".join(
        f'<span style="display: inline-block; width: 8px; height: 8px; {sample}"></span> {name}'
        for sample, name in zip(samples, OUTCOMES)
    )
    return f'<div style="{style}">{cells}</div>' + scene["legend"] * f"<div>{legend}</div>"


def _pooled(filled: np.ndarray, factor: int) -> np.ndarray:
    """Take the maximum over blocks of factor³ voxels."""
    for axis in range(3):
        starts = np.arange(0, filled.shape[axis], factor)
        filled = np.maximum.reduceat(filled, starts, axis=axis)
    return filled


def _grid(
    rows: int,
    columns: int,
    inches: float,
    *,
    gap: tuple[float, float],
    edges: tuple[float, float, float],
) -> tuple[Picture, np.ndarray]:
    """Make square panels; gap is (across, down) and edges (left, top, bottom), in inches."""
    left, top, bottom = edges
    across, down = gap
    width = left + columns * inches + (columns - 1) * across + 0.1
    height = top + rows * inches + (rows - 1) * down + bottom
    figure = Picture(figsize=(width, height), dpi=100)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": left / width,
            "right": 1 - 0.1 / width,
            "top": 1 - top / height,
            "bottom": bottom / height,
            "wspace": across / inches,
            "hspace": down / inches,
        },
    )
    return figure, panels


def _image(panel, values: np.ndarray, colours, largest: float, axis: str, *, ticks: bool) -> None:
    """Draw one slice (up, across) with its first row at the bottom, and label its axes."""
    up, across = values.shape
    panel.imshow(
        values,
        cmap=colours,
        vmin=0,
        vmax=largest,
        origin="lower",
        extent=(0, across, 0, up),
        interpolation="none",
        aspect="equal",
    )
    for spine in panel.spines.values():
        spine.set_color(FAINT)
    panel.set_xticks([0, across] if ticks else [])
    panel.set_yticks([0, up] if ticks else [])
    panel.tick_params(labelsize=7, length=2, pad=1, color=FAINT)
    if ticks:
        right, upward = _directions(axis)
        panel.set_xlabel(right, fontsize=8, labelpad=-7)
        panel.set_ylabel(upward, fontsize=8, labelpad=-5, rotation=0, va="center")


def _directions(axis: str) -> tuple[str, str]:
    """Name the axes that point right and upward in a slice across an axis."""
    right, upward = (name for name in "WHD" if name != axis)
    return right, upward


def _counts(parts: Sequence[np.ndarray]) -> str:
    return "{} hit · {} miss · {} false".format(*(np.count_nonzero(part) for part in parts))


def _shades() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("shades", ["white", FILLED])


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=9, y=1 - 0.06 / figure.get_figheight(), va="top")


def _below(panel, text: str) -> None:
    """Write a caption under a panel, clear of its ticks."""
    panel.annotate(
        text,
        (0.5, 0),
        (0, -11),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
    )


def _slice(frame: np.ndarray, axis: str, index: int | str) -> np.ndarray:
    """Cut a frame (D, H, W) across an axis; the result is (up, across)."""
    if axis not in AXES:
        raise ValueError(f"There is no axis {axis!r}; choose one of {', '.join(AXES)}.")
    if index == "max":
        return frame.max(axis=AXES[axis])
    length = frame.shape[AXES[axis]]
    if not isinstance(index, (int, np.integer)) or not 0 <= index < length:
        raise ValueError(f"The slice across {axis} is {index!r}; choose 0…{length - 1} or 'max'.")
    return frame.take(index, axis=AXES[axis])


def _fullest(frame: np.ndarray, axis: str) -> int:
    """Return the index of the slice with most in it, or the middle one of an empty frame."""
    if axis not in AXES:
        raise ValueError(f"There is no axis {axis!r}; choose one of {', '.join(AXES)}.")
    filled = np.moveaxis(frame, AXES[axis], 0).sum(axis=(1, 2))
    return int(filled.argmax()) if filled.any() else len(filled) // 2


def _curves(groups: Mapping, x, band: str, xlabel: str, ylabel: str, *, marks: bool) -> Picture:
    """Draw lines, with a band around the mean of many."""
    if band not in BANDS:
        raise ValueError(f"band is {band!r}; choose one of {', '.join(map(repr, BANDS))}.")
    figure, axes = _axes(xlabel, ylabel)
    banded = False
    for n, (name, values) in enumerate(_some(groups).items()):
        values = _numbers(values, name)
        if values.ndim not in (1, 2):
            raise ValueError(
                f"{name}: expected one row, or one row per sample; found shape {values.shape}."
            )
        places = np.arange(values.shape[-1]) if x is None else np.asarray(x)
        if len(places) != values.shape[-1]:
            raise ValueError(
                f"{name} has {values.shape[-1]} values for {len(places)} places on "
                f"the axis {xlabel!r}."
            )
        style = {"color": SERIES[n % len(SERIES)], "ls": LINES[n % len(LINES)], "lw": 1.8}
        mean = values if values.ndim == 1 else values.mean(axis=0)
        axes.plot(places, mean, marker=MARKS[n % len(MARKS)] if marks else "", label=name, **style)
        if values.ndim == 2 and len(values) > 1:
            axes.fill_between(places, *_band(values, band), alpha=0.2, lw=0, color=style["color"])
            banded = True
    axes.set_ylim(bottom=0)
    if marks:
        axes.set_xticks(places)
    _legend_above(figure, _band_name(band) if banded else None)
    return figure


def _asked(names: Sequence[str] | None, found) -> list[str]:
    """Return the names asked for, or those found, each once."""
    if isinstance(names, str):
        raise ValueError(f"Expected a list of names, found {names!r}; write [{names!r}].")
    return list(dict.fromkeys(found if names is None else names))


def _check_choice(what: str, value, choices: Sequence) -> None:
    if value not in choices:
        raise ValueError(f"{what} is {value!r}; choose one of {', '.join(map(str, choices))}.")


def _distance_name(measure: str) -> str:
    _check_choice("measure", measure, DISTANCES)
    return DISTANCES[measure]


def _row(count: int, tall: float, *, share: bool = True) -> tuple[Picture, np.ndarray]:
    """Make a figure with so many panels side by side."""
    figure = Picture(figsize=(0.9 + 2.9 * max(count, 1.4), tall), dpi=100, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=share)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, panels


def _paired_differences(table, measure: str):
    """Average prediction - persistence of each model, in the columns of `evaluation.lines`."""
    evaluation.check_same_samples(table)
    found = evaluation.skill(table, ("model", "format", "history", "horizon"))
    found = found[found["measure"] == measure]
    found = found[~found["model"].isin(evaluation.null_models(table))]
    return found.assign(name=found["model"], kind="model")


def _looks(found, models: Sequence[str]) -> dict[str, dict]:
    """Return how each line looks: the models asked for, then the others of `evaluation.lines`."""
    looks = {model: _style("model", n) for n, model in enumerate(models)}
    others = found[found["kind"] != "model"].drop_duplicates("name").set_index("name")["kind"]
    free = itertools.count(len(models))
    for name, kind in others.items():
        kin = next((model for model in KIN.get(name, ()) if model in models), None)
        if kind == "thesis":
            looks[name] = _style(kind, next(free) if kin is None else models.index(kin))
        else:
            looks[name] = _style(kind, 0)
    return looks


def _style(kind: str, n: int) -> dict:
    """Return how a line looks: of a model, a null model, or one that the thesis published."""
    if kind == "persistence":
        return {"color": "black", "ls": "-", "lw": 2.2, "marker": ""}
    if kind == "moving null":
        return {"color": "#777777", "ls": ":", "lw": 2.2, "marker": "x", "ms": 4}
    colour, mark = SERIES[:-1][n % (len(SERIES) - 1)], MARKS[n % len(MARKS)]
    if kind == "thesis":
        mark = MARKS[n % 5]  # the others have no hollow form
        return {"color": colour, "ls": "--", "lw": 1, "marker": mark, "ms": 5, "mfc": "white"}
    return {"color": colour, "ls": LINES[n % len(LINES)], "lw": 1.8, "marker": mark, "ms": 4}


def _interval(
    axes,
    n: int,
    mean: float,
    ends: tuple[float, float],
    style: dict,
    text: str,
    *,
    left: bool = False,
) -> None:
    """Draw a mean with its interval in row n, and the number above it or left of that."""
    axes.plot(ends, [n, n], color=style["color"], lw=2)
    axes.plot(mean, n, **style | {"ls": "", "ms": 6, "marker": style["marker"] or "|"})
    axes.annotate(
        text,
        (mean, n),
        (-4 * left, 4),
        textcoords="offset points",
        ha="right" if left else "center",
        fontsize=7,
        color=INK,
    )


def _gap(axes, n: int) -> None:
    """Say in row n that there is nothing to show."""
    place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
    axes.annotate("missing", (0.5, n), color=INK, fontsize=8, style="italic", **place)


def _rows(axes, names: Sequence[str], *, named: bool) -> None:
    """Set up the rows of a panel with intervals."""
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(axis="y", labelleft=named, length=0)
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=FAINT, lw=0.5)


def _missing(cells: Sequence, text: str) -> None:
    """Leave a place of a figure empty and say why."""
    for axes in cells:
        axes.set_yticks([])
        axes.tick_params(labelsize=8)
        axes.spines[:].set_visible(axes is cells[-1])
        axes.spines[:].set_color(FAINT)
    for axes in cells[:-1]:
        axes.tick_params(axis="x", length=0)
    cells[-1].text(
        0.5,
        0.5,
        text,
        transform=cells[-1].transAxes,
        ha="center",
        va="center",
        fontsize=9,
        style="italic",
        color=INK,
    )


def _note_missing(axes, names: Sequence[str], *, top: bool = False) -> None:
    """Name in a corner of a panel what it lacks."""
    if names:
        axes.text(
            0.98,
            0.98 if top else 0.02,
            "missing: " + ", ".join(names),
            transform=axes.transAxes,
            ha="right",
            va="top" if top else "bottom",
            fontsize=8,
            style="italic",
            color=INK,
        )


def _shared_legend(figure: Figure, panels: Sequence, title: str | None = None) -> None:
    """Put one legend for all panels above them."""
    found = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels()):
            found.setdefault(name, handle)
    if found:
        width = figure.get_figwidth()
        columns = max(1, min(len(found), int(width / (0.5 + 0.085 * max(map(len, found))))))
        figure.legend(
            found.values(),
            found.keys(),
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            fontsize=9,
            title=title,
            title_fontsize=9,
        )


def _boxes(axes, values, names: Sequence[str], *, ticks: bool) -> None:
    """Draw a box for each column of a table; box: quartiles, whiskers: 5th and 95th percentile."""
    boxes = axes.boxplot(
        values.to_numpy(),
        orientation="horizontal",
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        showfliers=False,
        tick_labels=[COMPARISONS[name][0] for name in names],
        medianprops={"color": INK, "lw": 1.5},
    )
    for box, name in zip(boxes["boxes"], names):
        box.set(facecolor=COMPARISONS[name][1], alpha=0.5, ls=COMPARISONS[name][2])
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", labelleft=ticks, length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _histogram(axes, values, names: Sequence[str], edges: np.ndarray) -> None:
    """Draw the outlines of the histograms of a table's columns."""
    for name, column in zip(names, values):
        _, colour, line = COMPARISONS[name]
        axes.hist(values[column], edges, histtype="step", lw=1.5, color=colour, ls=line)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _band(values: np.ndarray, band: str) -> np.ndarray:
    """Return the lower and upper edge (2, n) of a band around the mean of (N, n) values."""
    if band == "spread":
        return np.percentile(values, (5, 95), axis=0)
    half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0) + np.stack([-half, half])


def _legend_above(figure: Figure, title: str | None = None) -> None:
    """Put the legend above the axes, where it hides nothing."""
    entries = len(figure.axes[0].get_legend_handles_labels()[1])
    figure.legend(
        loc="outside upper center", ncols=min(entries, 4), frameon=False, title=title, fontsize=9
    )


def _band_name(band: str) -> str:
    return "band: 5th to 95th percentile" if band == "spread" else "band: 95 % interval of the mean"


def _axes(xlabel: str, ylabel: str, *, wide: float = 6.0, tall: float = 3.2):
    """Make a figure with one pair of axes, without the upper and right border."""
    figure = Picture(figsize=(wide, tall), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _values(array, name: str, axes: Sequence[str] = ()) -> np.ndarray:
    """Return an array of values 0…1 with the named axes, or say what is wrong with it."""
    array = _numbers(array, name)
    if axes and array.ndim != len(axes):
        hint = ""
        if array.ndim == len(axes) + 1:
            hint = (
                " Drop the channel axis with [..., 0]."
                if array.shape[-1] == 1
                else " Choose one along the first axis, for example with [0]."
            )
        raise ValueError(
            f"{name}: expected the axes ({', '.join(axes)}), found shape {array.shape}.{hint}"
        )
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name}: expected values in 0…1, found {array.min():g}…{array.max():g}.")
    return array


def _numbers(array, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}.")
    if array.size == 0 or array.ndim == 0:
        raise ValueError(f"{name}: expected a filled array, found shape {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{name}: {np.count_nonzero(~np.isfinite(array))} of {array.size} values are NaN or "
            "infinite. Find where they come from; a picture would hide them."
        )
    return array


def _frames(frames, name: str) -> list[np.ndarray]:
    """Return the frames (D, H, W) of one frame, a sequence or a list of any sizes."""
    if isinstance(frames, (list, tuple)):
        frames = [_values(frame, f"{name}[{n}]", "DHW") for n, frame in enumerate(frames)]
        if not frames:
            raise ValueError(f"{name}: the list is empty; give at least one frame.")
        return frames
    frames = np.asarray(frames)
    return list(_values(frames[None] if frames.ndim == 3 else frames, name, "TDHW"))


def _same_shape(truth, prediction) -> None:
    """Check that two arrays, or two lists of arrays, agree."""
    found = [
        [np.shape(frame) for frame in side] if isinstance(side, list) else np.shape(side)
        for side in (truth, prediction)
    ]
    if found[0] != found[1]:
        raise ValueError(
            f"Truth and prediction must have one shape; truth has {found[0]}, prediction "
            f"{found[1]}."
        )


def _some(groups: Mapping) -> Mapping:
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(f"Expected a mapping name -> values with an entry, found {groups!r}.")
    return groups


def _times(times, count: int) -> list:
    times = list(range(count) if times is None else times)
    if len(times) != count:
        raise ValueError(f"There are {len(times)} times for {count} frames; give one for each.")
    return times


def _equally_spaced(length: int, count: int) -> list[int]:
    """Return at most count indices of 0…length-1, the first and the last among them."""
    if count < 1:
        raise ValueError(f"count is {count}; at least one frame is needed.")
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def _captions(captions, times, count: int, *, single: bool) -> list[str]:
    """Return a text for each frame: the given ones, or the times."""
    if captions is not None:
        if len(captions) != count:
            raise ValueError(f"There are {len(captions)} captions for {count} frames.")
        return [str(caption) for caption in captions]
    if times is None and single:
        return [""]
    return [f"t = {t}" for t in _times(times, count)]
