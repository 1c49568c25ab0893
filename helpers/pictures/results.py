"""The figures of an evaluation: models beside persistence and the thesis, a panel per format."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from helpers import evaluation, published
from helpers._checks import choice
from helpers.pictures.curves import BAND, DISTANCE, HORIZON, line, panel_grid, say_missing
from helpers.pictures.style import FAINT, INK, SERIES, Picture, legend, looks, style

# What is compared in a table of results: its column, colour and line.
COMPARISONS = {
    "prediction to truth": ("prediction_jaccard", SERIES[0], "-"),
    "persistence to truth": ("persistence_jaccard", "black", "--"),
    "prediction to input": ("input_jaccard", SERIES[1], ":"),
}
FEWEST = 5  # samples for which `breakdown` draws an interval
TRUTH = {"color": INK, "ls": ":", "lw": 1, "marker": "D", "ms": 5, "mfc": "white"}


@style()
def result_distributions(
    table, *, kind: str = "box", protocol: str | None = None, models: Sequence[str] | None = None
) -> Picture:
    """Draw how the distances of samples one step ahead are distributed.

    Args:
        table: from `helpers.evaluation`, one row for each sample.
        kind: `"histogram"` or `"box"` (box: quartiles, whiskers: 5th and 95th percentile).
        protocol: which one, where the table holds several.
        models: a row of panels for each, in this order; all when None.
    """
    choice("kind", kind, ("histogram", "box"))
    table = evaluation.one_protocol(table, protocol)
    evaluation.check_same_samples(table)
    known, formats = list(table["model"].unique()), list(table["format"].unique())
    models = [choice("A model", name, known) for name in models or known]
    shown = table[table["model"].isin(models) & (table["horizon"] == 1)]
    columns = [column for column, *_ in COMPARISONS.values()]
    # All formats share the axis, so that each has a part of the bins only.
    bins = min(40, round(len(formats) * np.sqrt(shown["sample"].nunique())))
    edges = np.linspace(0, shown[columns].max(axis=None) or 1, bins + 1)
    panels = {f"{model} · {name}": (model, name) for model in models for name in formats}
    ticks = range(1, len(columns) + 1)

    def draw(axes, title):
        model, name = panels[title]
        found = shown[(shown["model"] == model) & (shown["format"] == name)]
        say_missing(axes, [model] if found.empty else [])
        said = []
        compared = () if found.empty else COMPARISONS.items()
        for place, (what, (column, colour, stroke)) in zip(ticks, compared):
            said.append(f"{title}, {what} {found[column].median():.3g}")
            if kind == "histogram":
                look = {"histtype": "step", "lw": 1.5, "color": colour, "ls": stroke}
                axes.hist(found[column], edges, **look)
                continue
            look = {"facecolor": to_rgba(colour, 0.5), "linestyle": stroke}
            options = {"orientation": "horizontal", "patch_artist": True, "manage_ticks": False}
            options |= {"whis": (5, 95), "widths": 0.6, "showfliers": False}
            options |= {"boxprops": look, "medianprops": {"color": INK, "lw": 1.5}}
            axes.boxplot(found[column], positions=[place], **options)
        if kind == "box":
            axes.set_yticks(ticks, COMPARISONS)
            axes.set_ylim(ticks[-1] + 0.5, 0.5)
            axes.tick_params(axis="y", length=0)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return "; ".join(said)

    size = {"columns": len(formats), "wide": 2.7, "tall": 1.7 if kind == "box" else 2.05}
    labels = {"xlabel": DISTANCE, "ylabel": "samples" if kind == "histogram" else ""}
    options = {"whole": False, "sharex": True, "sharey": kind == "box"}
    about = f"How the {DISTANCE} of samples is distributed; medians:"
    figure = panel_grid(about, list(panels), draw, **size, **labels, **options)
    handles = [
        Patch(color=colour, alpha=0.5) if kind == "box" else Line2D([], [], color=colour, ls=stroke)
        for _, colour, stroke in COMPARISONS.values()
    ]
    figure.legend(handles, COMPARISONS, loc="outside upper center", ncols=3)
    return figure


@style()
def long_term_curves(
    table, *, difference: bool = False, moving_null: bool = True, band: bool = True
) -> Picture:
    """Draw the distance over the horizon, a panel per format, with the thesis's published figures.

    Filled marks are ours, hollow marks the thesis's; its models have the colour of ours of the
    same kind. Persistence, the solid black line, repeats the last observed frame; the moving null,
    which the thesis calls null, is told the true frame before each target. Below the dotted line
    a forecast is trusted. A panel names the models that it lacks.

    Args:
        table: rollouts from `helpers.evaluation`, or a table of means as data/results/summary.csv
            (see `helpers.published.course_results`), of which rollouts from equally many frames
            are drawn.
        difference: draw prediction - persistence, taken sample by sample, in place of both; below
            0 is better than persistence. The thesis has no such figures.
        moving_null: draw it, where the table has it.
        band: around each mean of ours, its 95 % bootstrap interval.

    Raises:
        ValueError: the table is not of rollouts, or not all models were judged on its samples; a
            table of means has several cuts or histories.
    """
    label = f"{DISTANCE}: model - persistence" if difference else DISTANCE
    if "jaccard" in table and not difference:
        found = _of_summary(table)
    else:
        table = evaluation.one_protocol(table)
        choice("The table's protocol", table["protocol"].iloc[0], [evaluation.ROLLOUT])
        found = _differences(table) if difference else evaluation.lines(table)
        found = found[found["history"].isin(table["history"])]  # the thesis's of the same task
    found = found[found["kind"].ne("moving null") | moving_null]
    models = list(found.loc[found["kind"] == "model", "name"].unique())
    drawn = looks(found["name"])

    def draw(axes, title):
        here = found[found["format"] == title]
        for name, look in drawn.items():
            for _, rows in here[here["name"] == name].groupby("history"):
                # Of null models as well they would lie over each other as one grey slab.
                ends = (rows["low"], rows["high"]) if band and name in models else ()
                line(axes, rows["horizon"], rows["mean"], name, look, *ends)
        if difference:
            axes.axhline(0, color="black", lw=1.2, zorder=1.5)
        else:
            name = f"trusted below {evaluation.TRUSTED}"
            axes.axhline(evaluation.TRUSTED, color=INK, lw=1, ls=":", zorder=1.5, label=name)
        if tinc := re.search(r"_TINC(\d+)", title):
            step = int(tinc[1])
            convert = (lambda steps: steps * step), (lambda points: points / step)
            top = axes.secondary_xaxis("top", functions=convert)
            top.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            top.set_xlabel("time points", fontsize=8)
        say_missing(axes, [name for name in models if name not in set(here["name"])])

    about = "Rollouts beside persistence, a panel for each format."
    options = {"tall": 2.9, "xlabel": HORIZON, "ylabel": label, "sharey": True}
    figure = panel_grid(about, list(found["format"].unique()), draw, **options)
    legend(figure, BAND if band else None)
    if not difference:
        figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    return figure


@style()
def shape_curves(table, *, format: str) -> Picture:
    """Draw over the horizon what rollouts do to the shape of frames.

    There are four panels: how many pieces there are, beside the truth; by how many they are off;
    the mean distance of the surface; and the share of samples without such a distance, since the
    forecast is empty and the truth is not, or the reverse. (Tunnels and voids are too rare for
    curves over a few samples.)

    Args:
        table: rollouts from `helpers.evaluation.long_term` with shape=True.
        format: which rows.
    """
    table = evaluation.one_protocol(table)
    evaluation.check_same_samples(table)
    rows = table[table["format"] == choice("format", format, table["format"].unique())]
    found = evaluation.shape_means(rows, ("model", "horizon")).set_index(["model", "measure"])
    share = "share without a distance"
    measures = {
        "pieces": "components",
        "error in pieces": "components_error",
        "surface distance, voxels": "surface_mean",
        share: "surface_mean",
    }
    first, nulls = rows["model"].iloc[0], evaluation.null_models(table)
    series = {"persistence": (first, "persistence")}
    series |= {model: (model, "prediction") for model in rows["model"] if model not in nulls}
    drawn = looks(series) | {"truth": TRUTH}

    def draw(axes, title):
        truth = {"truth": (first, "truth")} if title == "pieces" else {}
        for name, (model, who) in (series | truth).items():
            part = found.loc[(model, f"{who}_{measures[title]}")]
            mean = part["mean"]
            if title == share:
                mean = part["undefined"] / (part["undefined"] + part["n"])
            line(axes, part["horizon"], mean, name, drawn[name])
        axes.set_ylim(bottom=0, top=1.02 if title == share else None)

    about = f"What rollouts do to the shape of frames in {format}."
    figure = panel_grid(about, list(measures), draw, wide=2.2, tall=2.2, xlabel=HORIZON)
    legend(figure)
    return figure


@style()
def comparison(table, *, horizon: int = 1) -> Picture:
    """Draw all models below each other: the mean with its 95 % interval, a panel per format.

    The table is from `helpers.evaluation`, of one protocol; the panels share one scale.
    """
    table = evaluation.one_protocol(table)
    found = evaluation.lines(table)
    found = found[found["horizon"] == choice("horizon", horizon, found["horizon"].unique())]
    rollouts = table["protocol"].eq(evaluation.ROLLOUT).all()
    where = f"{horizon} steps ahead" if rollouts else f"next frame, {table['protocol'].iloc[0]}"
    found = found.assign(text=found["mean"].map("{:.3f}".format))
    label = f"{DISTANCE}, {where} (bars: 95 % interval of the mean)"
    names, drawn = list(found["name"].unique()), looks(found["name"])

    def draw(axes, title):
        here = found[found["format"] == title].set_index("name")
        for n, (name, look) in enumerate(drawn.items()):
            if name not in here.index:
                place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
                axes.annotate("missing", (0.5, n), style="italic", fontsize=8, color=INK, **place)
                continue
            row = here.loc[name]
            axes.plot((row["low"], row["high"]), [n, n], color=look["color"], lw=2)
            axes.plot(row["mean"], n, **look | {"ls": "", "ms": 6, "marker": look["marker"] or "|"})
            place = {"textcoords": "offset points", "ha": "center", "xytext": (0, 4)}
            axes.annotate(row["text"], (row["mean"], n), fontsize=7, color=INK, **place)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.5, -0.75)
        axes.grid(axis="y", color=FAINT, lw=0.5)
        pairs = (f"{name} {here['text'].get(name, 'missing')}" for name in names)
        return f"{title}: {', '.join(pairs)}"

    options = {"tall": 0.1 + 0.27 * len(names), "whole": False, "sharex": True, "sharey": True}
    figure = panel_grid(f"{label}.", list(table["format"].unique()), draw, **options)
    figure.supxlabel(label, fontsize=9)
    first = figure.axes[0]
    first.set_xlim(0, 1.06 * first.get_xlim()[1])
    return figure


@style()
def breakdown(found, *, format: str, horizon: int = 1) -> Picture:
    """Draw what a model gains over persistence by what is in the samples, a panel per property.

    `found` is from `helpers.evaluation.breakdown`, of one protocol.
    """
    choice("The number of protocols", found["protocol"].nunique(), [1])
    rows = found[found["format"] == choice("format", format, found["format"].unique())]
    rows = rows[rows["horizon"] == choice("horizon", horizon, rows["horizon"].unique())]
    # A model that is persistence differs from it nowhere.
    differs = rows["difference"].ne(0).groupby(rows["model"], sort=False).any()
    drawn = looks(differs[differs].index)

    def draw(axes, name):
        axes.axvline(0, color="black", lw=1.2)
        part = rows[rows["property"] == name]
        groups = list(part["group"].unique())
        said = []
        for n, (model, look) in enumerate(drawn.items()):
            own = part[part["model"] == model]
            places = own["group"].map(groups.index) + (n - (len(drawn) - 1) / 2) * 0.6 / len(drawn)
            several = own["n"] >= FEWEST
            ends = own.loc[several, "low"], own.loc[several, "high"]
            axes.hlines(places[several], *ends, color=look["color"], lw=1.8)
            mark = {"color": look["color"], "marker": look["marker"], "s": 25, "zorder": 2}
            axes.scatter(own["difference"], places, label=model, **mark)
            pairs = (f"{group} {gain:+.3f}" for group, gain in zip(own["group"], own["difference"]))
            said.append(f"{name}, {model}: {', '.join(pairs)}")
        counted = part.groupby("group", sort=False)["n"].max()
        axes.set_yticks(range(len(groups)), [f"{group}  (n {counted[group]})" for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        return "; ".join(said)

    properties = list(rows["property"].unique())
    options = {"columns": min(3, len(properties)), "tall": 1.9, "whole": False, "sharex": True}
    label = f"Jaccard distance: model - persistence, {format}, {horizon} steps ahead"
    figure = panel_grid(f"{label}.", properties, draw, **options)
    figure.supxlabel(label, fontsize=9)
    legend(figure, f"bars: 95 % interval of the mean, from {FEWEST} samples on")
    return figure


@style()
def floor_curves(found) -> Picture:
    """Draw how far models stay above the ideal forecaster, by the frames seen: a panel per format.

    `found` has the columns of data/results/floor.csv; `history` are the frames seen.
    """
    drawn = looks(found["model"])
    if "ideal" in drawn:
        drawn["ideal"] = TRUTH

    def draw(axes, title):
        here = found[found["format"] == title]
        for name, look in drawn.items():
            rows = here[here["model"] == name]
            line(axes, rows["history"], rows["mean"], name, look, rows["low"], rows["high"])
        say_missing(axes, [name for name in drawn if name not in set(here["model"])])

    about = "The next frame of single balls, beside the ideal forecaster."
    options = {"tall": 2.4, "xlabel": "frames seen", "ylabel": DISTANCE, "sharey": True}
    figure = panel_grid(about, list(found["format"].unique()), draw, **options)
    figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    legend(figure, BAND)
    return figure


def _differences(table):
    """Return what `evaluation.lines` does, of the paired differences to persistence."""
    evaluation.check_same_samples(table)
    found = evaluation.skill(table, ("model", "format", "history", "horizon"))
    found = found[found["measure"] == "jaccard"]
    found = found[~found["model"].isin(evaluation.null_models(table))]
    return found.assign(name=found["model"], kind="model")


def _of_summary(summary):
    """Return what `evaluation.lines` does, from a table of means."""
    rollouts = summary[summary["protocol"] == evaluation.ROLLOUT]
    for column in ("cut", "history"):
        if rollouts[column].nunique() != 1:
            raise ValueError(f"summary needs rollouts of one {column}; choose one.")
    ours = rollouts.assign(mean=rollouts["jaccard"], name=rollouts["model"], kind="model")
    null = ours.drop_duplicates(["format", "horizon"])
    named = {"mean": "persistence", "low": "persistence_low", "high": "persistence_high"}
    null = null.assign(**{new: null[old] for new, old in named.items()}, name="persistence")
    theirs = published.thesis_figures().query("measure == 'prediction_jaccard'")
    for column in ("protocol", "format", "history"):
        theirs = theirs[theirs[column].isin(rollouts[column])]
    theirs = theirs.assign(
        name="thesis: " + theirs["model"], kind="thesis", low=np.nan, high=np.nan
    )
    return pd.concat([null.assign(kind="persistence"), ours, theirs], ignore_index=True)
