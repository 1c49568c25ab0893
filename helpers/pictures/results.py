"""The figures of an evaluation: models beside persistence and the thesis, a panel per format."""

from __future__ import annotations

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
from helpers.topology import BETTI

# What is compared in a table of results: its column, colour and line.
COMPARISONS = {
    "prediction to truth": ("prediction_jaccard", SERIES[0], "-"),
    "persistence to truth": ("persistence_jaccard", "black", "--"),
    "prediction to input": ("input_jaccard", SERIES[1], ":"),
}
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
        models: a row for each, in this order; what the table holds when None. There is a column
            for each format; a panel without results says so.
    """
    choice("kind", kind, ("histogram", "box"))
    table = evaluation.one_protocol(table, protocol)
    evaluation.check_same_samples(table)
    models, formats = _asked(models, table["model"]), list(table["format"].unique())
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
        said = []
        if found.empty:
            text = f"{model}\nwas not judged\nin {name}"
            place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
            axes.text(0.5, 0.5, text, fontsize=9, style="italic", color=INK, **place)
            axes.spines[:].set(color=FAINT, visible=True)
        for place, (what, (column, colour, stroke)) in zip(ticks, COMPARISONS.items()):
            if found.empty:
                continue
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
    which the thesis calls null, is told the true frame before each target. A panel names the
    models that it lacks.

    Args:
        table: rollouts from `helpers.evaluation`.
        difference: draw prediction - persistence, taken sample by sample, in place of both; below
            0 is better than persistence. The thesis has no such figures.
        moving_null: draw it.
        band: around each mean of ours, its 95 % bootstrap interval.

    Raises:
        ValueError: the table is not of rollouts, or not all models were judged on its samples.
    """
    table = evaluation.one_protocol(table)
    choice("The table's protocol", table["protocol"].iloc[0], [evaluation.ROLLOUT])
    found, label = _averages(table, difference)
    found = found[found["kind"].ne("moving null") | moving_null]
    models = list(found.loc[found["kind"] == "model", "name"].unique())
    panels = dict.fromkeys(table["format"].unique(), models)
    about = "Rollouts beside persistence, a panel for each format."
    found, drawn = found.assign(panel=found["format"]), looks(found["name"])
    figure = _rollouts(about, found, panels, drawn, band=band, tall=2.9, ylabel=label)
    for axes in figure.axes if difference else ():
        axes.axhline(0, color="black", lw=1.2, zorder=1.5)
    if not difference:
        figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    return figure


@style()
def shape_curves(table, *, kind: str = "errors", format: str) -> Picture:
    """Draw over the horizon what rollouts do to the shape of frames.

    Args:
        table: rollouts from `helpers.evaluation.long_term` with shape=True.
        kind: `"counts"`, how many components, tunnels and voids there are, beside the truth;
            `"errors"`, by how many they are off; or `"surface"`, how far the surface is off, its
            mean and 95 % Hausdorff distance, and the share of samples without such a distance,
            since the forecast is empty and the truth is not, or the reverse.
        format: which rows.
    """
    units = {"counts": "mean number", "errors": "mean absolute error", "surface": "voxels"}
    choice("kind", kind, tuple(units))
    table = evaluation.one_protocol(table)
    evaluation.check_same_samples(table)
    rows = table[table["format"] == choice("format", format, table["format"].unique())]
    found = evaluation.shape_means(rows, ("model", "horizon")).set_index(["model", "measure"])
    measures = {what: f"{what}{'_error' * (kind == 'errors')}" for what in BETTI}
    share = "share without a distance"
    if kind == "surface":
        measures = {"mean surface distance": "surface_mean", "95 % Hausdorff": "surface_95"}
        measures[share] = "surface_mean"
    first, nulls = rows["model"].iloc[0], evaluation.null_models(table)
    series = {"persistence": (first, "persistence")}
    series |= {model: (model, "prediction") for model in rows["model"] if model not in nulls}
    drawn = looks(series)
    if kind == "counts":  # last, so that it lies on top
        series["truth"], drawn["truth"] = (first, "truth"), TRUTH

    def draw(axes, title):
        for name, (model, who) in series.items():
            part = found.loc[(model, f"{who}_{measures[title]}")]
            mean, ends = part["mean"], (part["low"], part["high"])
            if title == share:
                mean, ends = part["undefined"] / (part["undefined"] + part["n"]), ()
            if name == "truth":  # two grey bands over each other say nothing
                ends = ()
            line(axes, part["horizon"], mean, name, drawn[name], *ends)
        axes.set_ylim(bottom=0, top=1.02 if title == share else None)

    about = "What rollouts do to the shape of frames."
    options = {"tall": 2.7, "xlabel": HORIZON, "ylabel": units[kind]}
    figure = panel_grid(about, list(measures), draw, **options)
    legend(figure, BAND)
    return figure


@style()
def comparison(
    table, *, horizon: int = 1, protocol: str | None = None, difference: bool = False
) -> Picture:
    """Draw all models below each other: the mean with its 95 % interval, a panel per format.

    The panels share one scale.

    Args:
        table: from `helpers.evaluation`.
        horizon: steps ahead.
        protocol: which one, where the table holds several.
        difference: prediction - persistence, taken sample by sample, below 0 is better; then
            without null models and thesis.
    """
    table = evaluation.one_protocol(table, protocol)
    found, label = _averages(table, difference)
    found = found[found["horizon"] == choice("horizon", horizon, found["horizon"].unique())]
    rollouts = table["protocol"].eq(evaluation.ROLLOUT).all()
    where = f"{horizon} steps ahead" if rollouts else f"next frame, {table['protocol'].iloc[0]}"
    found = found.assign(text=found["mean"].map("{:.3f}".format), left=False)
    label = f"{label}, {where} (bars: 95 % interval of the mean)"
    names, formats = list(found["name"].unique()), list(table["format"].unique())
    figure = _intervals(found, names, formats, label, sharex=True)
    first = figure.axes[0]
    if difference:
        for axes in figure.axes:
            axes.axvline(0, color="black", lw=1.2, zorder=0)
    else:
        first.set_xlim(0, 1.06 * first.get_xlim()[1])
    return figure


@style()
def summary_curves(summary, *, models: Sequence[str] | None = None) -> Picture:
    """Draw a table of means: rollouts over the horizon, a column per format.

    What starts from as many frames shares a row with persistence and the thesis's model that
    starts from them: ours have filled marks, the thesis's hollow ones. A panel names the models
    that it lacks.

    Args:
        summary: as in data/results/summary.csv, see `helpers.published.course_results`.
        models: what to show, in this order; what the table holds when None.
    """
    if summary["cut"].nunique() > 1:
        raise ValueError("summary has several cuts; choose one with summary[summary['cut'] == …].")
    table = summary[summary["protocol"] == evaluation.ROLLOUT]
    models, formats = _asked(models, table["model"]), list(table["format"].unique())
    table = table[table["model"].isin(models)]
    theirs = published.thesis_figures().rename(columns={"model": "name"})
    theirs = theirs[theirs["protocol"] == evaluation.ROLLOUT]
    theirs = theirs[theirs["measure"] == "prediction_jaccard"]
    theirs = theirs.assign(name="thesis: " + theirs["name"])
    null = table.drop_duplicates(["format", "history", "horizon"])
    parts = [null.assign(name="persistence", mean=null["persistence"]), theirs]
    parts.append(table.assign(name=table["model"], mean=table["jaccard"]))
    found = pd.concat(parts)
    histories = table.groupby("history")["model"].agg(set)[::-1]
    starts = {n: "one frame" if n == 1 else f"{n} frames" for n in histories.index}
    found = found.assign(panel=found["format"] + ", from " + found["history"].map(starts))
    panels = {
        f"{name}, from {start}": [model for model in models if model in histories[n]]
        for n, start in starts.items()
        for name in formats
    }
    about = "Rollouts of all models beside persistence."
    options = {"columns": len(formats), "tall": 2.1, "sharex": "row", "ylabel": DISTANCE}
    drawn = looks(["persistence", *models, *theirs["name"]])
    figure = _rollouts(about, found, panels, drawn, **options)
    figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    return figure


@style()
def skill_horizons(found, *, models: Sequence[str] | None = None) -> Picture:
    """Draw up to which step each model beats persistence, with the interval, a panel per format.

    "Or more" marks a model that still does at the longest horizon that was judged.

    Args:
        found: from `helpers.evaluation.skill_horizon`.
        models: what to show, in this order; what `found` holds when None.
    """
    if not len(found) or found.duplicated(["model", "format"]).any():
        raise ValueError("Expected each model once for a format; choose one of its histories.")
    formats, models = list(found["format"].unique()), _asked(models, found["model"])
    more = found["steps"] == found["longest"]
    text = found["steps"].map("{:.0f}".format) + more.map({True: " or more", False: ""})
    rows = found.assign(name=found["model"], mean=found["steps"], text=text, left=more)
    label = "skill horizon: steps up to which the model beats persistence (dotted: longest judged)"
    figure = _intervals(rows, models, formats, label)
    for axes, name in zip(figure.axes, formats):
        longest = rows[rows["format"] == name].set_index("model")["longest"]
        for n, model in enumerate(models):
            if model in longest.index:
                axes.vlines(longest[model], n - 0.5, n + 0.5, color=FAINT, ls=":", lw=1, zorder=0)
        axes.set_xlim(-0.4, longest.max() + 0.8 if len(longest) else 1.8)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


@style()
def breakdown(found, *, format: str, horizon: int = 1) -> Picture:
    """Draw what a model gains over persistence by what is in the samples, a panel per property.

    Args:
        found: from `helpers.evaluation.breakdown`, of one protocol.
        format, horizon: which rows.
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
            axes.hlines(places, own["low"], own["high"], color=look["color"], lw=1.8)
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
    legend(figure, "bars: 95 % interval of the mean")
    return figure


@style()
def floor_curves(found) -> Picture:
    """Draw how far models stay above the ideal forecaster, by the frames seen: a panel per format.

    Args:
        found: as in data/results/floor.csv: `model`, `format`, `history` (frames seen), `mean`,
            `low` and `high`.
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


def _rollouts(about: str, found, panels: dict, drawn: dict, band: bool = False, **options):
    """Draw rollouts over the horizon: a panel for each value of `panel`, a line for each name.

    Args:
        found: a table with `panel`, `name`, `history`, `horizon` and `mean`, and with `low` and
            `high` for bands.
        panels: title -> the models that belong there.
        drawn: name -> how it looks.
        options: of `panel_grid`.
    """

    def draw(axes, title):
        here = found[found["panel"] == title]
        for name, look in drawn.items():
            for _, rows in here[here["name"] == name].groupby("history"):
                # Missing horizons become a gap in the line.
                rows = rows.set_index("horizon").reindex(range(1, rows["horizon"].max() + 1))
                ends = (rows["low"], rows["high"]) if band else ()
                line(axes, rows.index, rows["mean"], name, look, *ends)
        say_missing(axes, [name for name in panels[title] if name not in set(here["name"])])

    figure = panel_grid(about, list(panels), draw, xlabel=HORIZON, sharey=True, **options)
    legend(figure, BAND if band else None)
    return figure


def _intervals(found, names: list[str], formats: list[str], label: str, **options) -> Picture:
    """Draw means below each other, each with its interval and its text, a panel per format.

    Args:
        found: a table with `name`, `format`, `mean`, `low`, `high`, `text`, and `left` where the
            text stands left of the mean, not above it.
    """
    drawn = looks(names)

    def draw(axes, title):
        here = found[found["format"] == title]
        for n, name in enumerate(names):
            rows, look = here[here["name"] == name], drawn[name]
            if rows.empty:
                place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
                axes.annotate("missing", (0.5, n), style="italic", fontsize=8, color=INK, **place)
            for row in rows.itertuples():
                axes.plot((row.low, row.high), [n, n], color=look["color"], lw=2)
                mark = {"ls": "", "ms": 6, "marker": look["marker"] or "|"}
                axes.plot(row.mean, n, **look | mark)
                place = {"textcoords": "offset points", "ha": "right" if row.left else "center"}
                place |= {"xytext": (-4 * row.left, 4), "fontsize": 7, "color": INK}
                axes.annotate(row.text, (row.mean, n), **place)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.5, -0.75)
        axes.grid(axis="y", color=FAINT, lw=0.5)
        texts = here.drop_duplicates("name").set_index("name")["text"]
        pairs = (f"{name} {texts.get(name, 'missing')}" for name in names)
        return f"{title}: {', '.join(pairs)}"

    tall = 0.1 + 0.27 * len(names)
    options |= {"tall": tall, "whole": False, "sharey": True}
    figure = panel_grid(f"{label}.", formats, draw, **options)
    figure.supxlabel(label, fontsize=9)
    return figure


def _averages(table, difference: bool):
    """Average what belongs into one figure, as `evaluation.lines` does, and say what it is."""
    if not difference:
        return evaluation.lines(table), DISTANCE
    evaluation.check_same_samples(table)
    found = evaluation.skill(table, ("model", "format", "history", "horizon"))
    found = found[found["measure"] == "jaccard"]
    found = found[~found["model"].isin(evaluation.null_models(table))]
    return found.assign(name=found["model"], kind="model"), f"{DISTANCE}: model - persistence"


def _asked(models: Sequence[str] | None, found) -> list[str]:
    """Return the models asked for, or those found, each once."""
    known = list(found.unique())
    return known if models is None else [choice("A model", name, known) for name in models]
