"""Curves, bars and how trainings went, and the panels that all figures of results share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from helpers._checks import finite
from helpers.pictures.style import INK, Picture, legend, looks, style

BAND = "band: 95 % interval of the mean"
HORIZON = "horizon (steps ahead)"
DISTANCE = "Jaccard distance"


@style()
def curves(
    groups: Mapping,
    x: Sequence[float],
    *,
    xlabel: str,
    ylabel: str,
    marks: bool = False,
) -> Picture:
    """Draw functions of one variable, for example an activation or a memory that fades.

    Args:
        groups: name -> (X,) values, or (N, X) one row per sample: then their mean, and a band from
            the 5th to the 95th percentile.
        marks: mark each place, for few of them.
    """
    figure, axes = _axes(xlabel, ylabel)
    title, lowest = None, 0.0
    drawn, places = looks(groups), np.asarray(x)
    for name, array in groups.items():
        array = finite(name, array)
        lowest, ends = min(lowest, array.min()), ()
        mean = array if array.ndim == 1 else array.mean(axis=0)
        if array.ndim == 2 and len(array) > 1:
            title, ends = "band: 5th to 95th percentile", np.percentile(array, (5, 95), axis=0)
        look = drawn[name] if marks else drawn[name] | {"marker": ""}
        line(axes, places, mean, name, look, *ends)
    axes.set_ylim(bottom=1.05 * lowest)
    if marks:
        axes.set_xticks(places)
    legend(figure, title)
    return figure


@style()
def differences(groups: Mapping, x: Sequence[float], *, ylabel: str) -> Picture:
    """Draw paired differences beside a line at zero: each mean with its 95 % interval as a bar.

    Args:
        groups: name -> (N, X) one row per sample; what is subtracted was judged on the same ones.
        x: the X horizons; at each of them the names stand side by side.
    """
    figure, axes = _axes(HORIZON, ylabel)
    axes.axhline(0, color=INK, lw=1)
    drawn, places = looks(groups), np.asarray(x)
    for n, (name, array) in enumerate(groups.items()):
        array = finite(name, array)
        if array.ndim != 2 or len(array) < 2 or array.shape[1] != len(places):
            raise ValueError(
                f"{name} has shape {array.shape}; expected a row for each of two or more samples, "
                f"with one value for each of the {len(places)} horizons."
            )
        aside = (n - (len(groups) - 1) / 2) / 8  # inches
        place = axes.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans)
        mean, half = array.mean(axis=0), 1.96 * array.std(axis=0, ddof=1) / np.sqrt(len(array))
        mark = {"ls": "", "ms": 5, "marker": drawn[name]["marker"] or "_", "transform": place}
        axes.plot(places, mean, label=name, **drawn[name] | mark)
        bar = {"color": drawn[name]["color"], "lw": 1.8, "transform": place}
        axes.vlines(places, mean - half, mean + half, **bar)
        for end in (mean - half, mean + half):  # lines that are set aside don't do it themselves
            axes.update_datalim(np.column_stack([places, end]))
    axes.autoscale_view()
    axes.set_xticks(places)
    legend(figure, "bars: 95 % interval of the mean difference")
    return figure


@style()
def learning_curves(
    table: Mapping, *, distance: str = "val_jaccard_pooled", persistence: float | None = None
) -> Picture:
    """Draw how a training went: its losses, and the distance in validation beside persistence.

    Args:
        table: column -> (N,) values, one per round, for example a DataFrame: `step`, and one or
            more of `loss`, `val_loss` and the distance.
        distance: the column for the right panel.
    """
    panels = {"loss": {"training": "loss", "validation": "val_loss"}}
    panels[DISTANCE] = {"validation": distance}
    titles = [title for title in panels if any(name in table for name in panels[title].values())]
    drawn = looks(panels["loss"])

    def draw(axes, title):
        axes.set(title="", ylabel=title)
        for name, column in panels[title].items():
            if column in table:
                line(axes, *_log("The log", table, column), name, drawn[name])
        if title == DISTANCE and persistence is not None:
            name = f"persistence {persistence:.3g}"
            axes.axhline(persistence, label=name, **looks([name])[name])

    if not titles:
        raise ValueError(f"Expected one of loss, val_loss, {distance}; found {list(table)}.")
    options = {"wide": 3.5, "tall": 1.9, "xlabel": "step"}
    figure = panel_grid("How a training went.", titles, draw, **options)
    legend(figure)
    return figure


@style()
def loss_curves(
    runs: Mapping, *, columns: Sequence[str] = ("loss", "val_loss"), xlabel: str = "step"
) -> Picture:
    """Draw the losses of several trainings, a panel per column, a line per training.

    Args:
        runs: name -> the log of a training: column -> (N,) values, one per round, `step` among
            them, for example a DataFrame.
        columns: what to draw; a panel names the trainings that lack its column.
        xlabel: what `step` counts.
    """
    drawn = looks(runs)

    def draw(axes, column):
        lacking = [name for name, log in runs.items() if column not in log]
        for name in [name for name in runs if name not in lacking]:
            line(axes, *_log(name, runs[name], column), name, drawn[name])
        say_missing(axes, lacking, above=True)

    figure = panel_grid("How trainings went.", columns, draw, tall=2.0, xlabel=xlabel)
    legend(figure)
    return figure


@style()
def seeds(
    groups: Mapping, *, xlabel: str, ylabel: str, persistence: float | None = None
) -> Picture:
    """Draw runs over the value of a knob: a mark for each seed, a dash at their mean.

    Where the knob is a number, a line joins the means.

    The axis across has steps of equal ratio where the values lie far apart; the axis upward shows
    what the runs span, with persistence where it is near.

    Args:
        groups: name -> (x, y), (N,) each: the values of the knob, numbers or words, and a figure
            of each run.
    """
    figure, axes = _axes(xlabel, ylabel)
    figure.about = "Runs as marks, with dashes at the means over their seeds."
    drawn = looks(groups)
    values = list(dict.fromkeys(value for x, _ in groups.values() for value in x))
    numbers = not any(isinstance(value, str) for value in values)
    values = sorted(values) if numbers else values  # words come in the order in which they are told
    places = dict(zip(values, map(float, values if numbers else range(len(values)))))
    if numbers and values[0] > 0 and values[-1] >= 8 * values[0]:
        axes.set_xscale("log")
    axes.set_xticks(list(places.values()), [f"{v:g}" if numbers else v for v in values])
    axes.minorticks_off()
    for name, (x, y) in groups.items():
        y = finite(name, y)
        table = pd.DataFrame({"x": [places[value] for value in x], "y": y})
        look, means = drawn[name], table.groupby("x")["y"].mean()
        axes.plot(table["x"], y, **look | {"ls": "", "ms": 7, "alpha": 0.6})
        line = look["ls"] if numbers else ""  # there is nothing between two words
        axes.plot(means.index, means, label=name, **look | {"marker": "_", "ms": 14, "ls": line})
    axes.margins(0.1 if len(values) > 1 else 0.5)
    low, high = axes.get_ylim()
    if persistence is not None:
        name = f"persistence {persistence:.3g}"
        if low - (high - low) < persistence < high + (high - low):
            axes.axhline(persistence, label=name, **looks([name])[name])
        else:
            say = {"transform": axes.transAxes, "ha": "right", "fontsize": 9, "color": INK}
            above = persistence > high
            axes.text(0.99, 0.95 if above else 0.02, f"{name} {'↑' if above else '↓'}", **say)
            figure.about += f" What is shown lies {'below' if above else 'above'} {name}."
    legend(figure, "marks: seeds; dashes: their mean")
    return figure


def panel_grid(
    about: str,
    titles: Sequence[str],
    draw: Callable,
    *,
    columns: int | None = None,
    wide: float = 2.9,
    tall: float,
    xlabel: str = "",
    ylabel: str = "",
    whole: bool = True,
    **options,
) -> Picture:
    """Make a panel for each title, let `draw` fill it, and put what it says into words.

    Args:
        draw: gets the axes and the title; returns what is seen there, where lines don't tell.
        wide, tall: inches of a panel.
        whole: the axis across counts something.
        options: of `Figure.subplots`.
    """
    columns = columns or len(titles)
    rows = -(-len(titles) // columns)
    size = (0.9 + wide * max(columns, 1.4), 0.7 + tall * rows)
    figure = Picture(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    for axes in grid.flat[len(titles) :]:
        axes.set_visible(False)
    said = []
    for axes, title in zip(grid.flat, titles):
        axes.set_title(title)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        said.append(draw(axes, title))
    words = "; ".join(filter(None, said))
    figure.about = f"{about} {words}." if words else about
    return figure


def say_missing(axes, names: Sequence[str], *, above: bool = False) -> None:
    """Write into a panel what it lacks, if anything: below, or above where lines end below."""
    if names:
        place = {"y": 0.98, "va": "top"} if above else {"y": 0.02, "va": "bottom"}
        look = {"ha": "right", "fontsize": 8, "style": "italic", "color": INK}
        text = "missing: " + ", ".join(names)
        axes.text(0.98, s=text, transform=axes.transAxes, **place, **look)


def line(axes, x, y, name: str, look: dict, *ends) -> None:
    """Draw a line with not too many marks, and the band between `ends`, if there are any."""
    axes.plot(x, y, label=name, markevery=max(1, len(x) // 15), **look)
    if ends:
        axes.fill_between(x, *ends, alpha=0.2, lw=0, color=look["color"])


def _log(name: str, log: Mapping, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of a training's log and a column of it, checked."""
    return tuple(finite(f"{name}, {key}", log[key]) for key in ("step", column))


def _axes(xlabel: str, ylabel: str):
    """Make a figure with one pair of axes, whose text is larger than that of panels."""
    figure = Picture(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.tick_params(labelsize=10)
    return figure, axes
