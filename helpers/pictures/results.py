"""Curves, bars and the figures of an evaluation: what is measured, beside persistence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from helpers import evaluation
from helpers.pictures.arguments import asked, choice, numbers, some, values
from helpers.pictures.style import FAINT, INK, SERIES, Picture, legend, looks, short, style
from helpers.topology import BETTI

HATCHES = ("", "//", "..", "xx", "\\\\")
BANDS = {
    "spread": "band: 5th to 95th percentile",
    "mean": "band: 95 % interval of the mean",
}
HORIZON = "horizon (steps ahead)"
DISTANCE = "Jaccard distance"
# What is compared in a table of results: its column, colour and line.
COMPARISONS = {
    "prediction to truth": ("prediction_jaccard", SERIES[0], "-"),
    "persistence to truth": ("persistence_jaccard", "black", "--"),
    "prediction to input": ("input_jaccard", SERIES[1], ":"),
}
TRUTH = {"color": INK, "ls": ":", "lw": 1, "marker": "D", "ms": 5, "mfc": "white"}


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
    shares = {name: values(array, name) for name, array in sequences.items()}
    for name, array in shares.items():
        shares[name] = array.mean(axis=(-3, -2, -1)) if array.ndim >= 4 else array
    return _curves(shares, times, band, "time t", "share of filled voxels")


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
    groups = {name: numbers(array, name) for name, array in groups.items()}
    if horizons is None and groups:
        horizons = range(1, next(iter(groups.values())).shape[-1] + 1)
    return _curves(groups, horizons, band, HORIZON, label, marks=True)


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
    figure = _curves(groups, x, band, xlabel, ylabel)
    lowest = min(np.min(array) for array in groups.values())
    if lowest < 0:
        figure.axes[0].set_ylim(bottom=1.05 * lowest)
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
        persistence: the distance of persistence, drawn as a line.

    Raises:
        ValueError: no `step`, none of the other columns, a NaN, or columns of unequal length.
    """
    wanted = {"loss": "training", "val_loss": "validation", distance: "validation"}
    columns = [name for name in wanted if name in table]
    if "step" not in table or not columns:
        raise ValueError(
            f"Expected the column step and one of {', '.join(wanted)}; found "
            f"{', '.join(map(str, table)) or 'none'}."
        )
    found = {name: numbers(table[name], name) for name in ("step", *columns)}
    if len({array.shape for array in found.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"The columns must be of one length; found {shapes}.")
    parts = {"loss": [name for name in columns if name != distance]}
    parts[DISTANCE] = [name for name in columns if name == distance]
    drawn = looks(wanted.values())

    def draw(axes, title):
        axes.set(title="", ylabel=title)
        for name in parts[title]:
            _line(axes, found["step"], found[name], wanted[name], drawn[wanted[name]])
        if title == DISTANCE and persistence is not None:
            name = f"persistence {persistence:.3g}"
            axes.axhline(persistence, label=name, **looks([name])[name])

    titles = [title for title, part in parts.items() if part]
    options = {"wide": 3.5, "tall": 1.9, "xlabel": "step"}
    figure = _panels("How a training went.", titles, draw, **options)
    legend(figure)
    return figure


@style()
def loss_curves(
    runs: Mapping,
    *,
    columns: Sequence[str] = ("loss", "val_loss"),
    xlabel: str = "step",
) -> Picture:
    """Draw the losses of several trainings, a panel per column, a line per training.

    Args:
        runs: name -> the log of a training: column -> (N,) values, one per round, `step` among
            them, for example a DataFrame.
        columns: what to draw; a panel names the trainings that lack its column.
        xlabel: what `step` counts.

    Raises:
        ValueError: no runs, a run without `step`, a column that no run has, a NaN, or columns of
            unequal length.
    """
    runs = {name: dict(log) for name, log in some(runs).items()}
    for name, log in runs.items():
        if "step" not in log:
            raise ValueError(
                f"{name} has no column step; found {', '.join(map(str, log)) or 'none'}."
            )
    drawn = looks(runs)

    def draw(axes, column):
        lacking = [name for name in runs if column not in runs[name]]
        if len(lacking) == len(runs):
            raise ValueError(f"No training has the column {column!r}.")
        for name in [name for name in runs if name not in lacking]:
            steps, losses = (numbers(runs[name][key], f"{name}, {key}") for key in ("step", column))
            if steps.shape != losses.shape:
                raise ValueError(f"{name}: {column} has shape {losses.shape}, step {steps.shape}.")
            _line(axes, steps, losses, name, drawn[name])
        return lacking

    options = {"tall": 2.0, "xlabel": xlabel, "note_above": True}
    figure = _panels("How trainings went.", columns, draw, **options)
    legend(figure)
    return figure


@style()
def bars(table: Mapping, *, label: str = "samples", category_label: str = "") -> Picture:
    """Draw a table as grouped bars, for example the class balance of the splits.

    Args:
        table: group -> (category -> number), all groups with the same categories. A pandas
            `DataFrame.to_dict()` has this form: its columns become the groups.
        label, category_label: what the numbers and the categories are.

    Raises:
        ValueError: no groups, a NaN, or categories that differ between groups.
    """
    groups = {name: dict(column) for name, column in some(table).items()}
    categories = list(next(iter(groups.values())))
    for name, column in groups.items():
        if list(column) != categories:
            raise ValueError(
                f"All groups need the same categories in the same order: expected {categories}, "
                f"found {list(column)} in {name!r}."
            )
    figure, axes = _axes(category_label, label, wide=max(4.0, min(9.0, 0.5 * len(categories) + 2)))
    width, said = 0.8 / len(groups), []
    for n, (name, column) in enumerate(groups.items()):
        places = np.arange(len(categories)) + (n - (len(groups) - 1) / 2) * width
        heights = numbers(list(column.values()), name)
        colour, hatch = SERIES[n % len(SERIES)], HATCHES[n % len(HATCHES)]
        axes.bar(places, heights, width, color=colour, hatch=hatch, edgecolor="white", label=name)
        pairs = (f"{category} {short(height)}" for category, height in zip(categories, heights))
        said.append(f"{name}: " * bool(name) + ", ".join(pairs))
    axes.set_xticks(range(len(categories)), [str(category) for category in categories])
    if len(groups) > 1:
        legend(figure)
    figure.about = f"Bars, {label}" + f" by {category_label}" * bool(category_label)
    figure.about += f". {'; '.join(said)}."
    return figure


@style()
def result_distributions(
    table,
    *,
    kind: str = "box",
    protocol: str | None = None,
    horizon: int = 1,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
) -> Picture:
    """Draw how the distances of samples are distributed: a row per model, a column per format.

    Args:
        table: from `helpers.evaluation`, one row for each sample.
        kind: `"histogram"` or `"box"` (box: quartiles, whiskers: 5th and 95th percentile).
        protocol: which one, where the table holds several.
        horizon: steps ahead.
        models, formats: what to show, in this order; what the table holds when None. A panel
            without results says so.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`; an unknown kind.
    """
    choice("kind", kind, ("histogram", "box"))
    table = evaluation.one_protocol(table, protocol)
    evaluation.check_same_samples(table)
    models, formats = asked(models, table["model"]), asked(formats, table["format"])
    table = table[table["horizon"] == horizon]
    shown = table[table["model"].isin(models) & table["format"].isin(formats)]
    if shown.empty:
        raise ValueError(f"The table has nothing of {models} in {formats} at horizon {horizon}.")
    columns = [column for column, *_ in COMPARISONS.values()]
    # All formats share the axis, so that each has a part of the bins only.
    bins = min(40, round(len(formats) * np.sqrt(shown["sample"].nunique())))
    edges = np.linspace(0, shown[columns].max(axis=None) or 1, bins + 1)
    panels = {f"{model} · {name}": (model, name) for model in models for name in formats}
    ticks, said = range(1, len(columns) + 1), []

    def draw(axes, title):
        model, name = panels[title]
        found = shown[(shown["model"] == model) & (shown["format"] == name)]
        if found.empty:
            text = f"{model}\nwas not judged\nin {name}"
            place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
            axes.text(0.5, 0.5, text, fontsize=9, style="italic", color=INK, **place)
            axes.spines[:].set(color=FAINT, visible=True)
        for place, (what, (column, colour, line)) in zip(ticks, COMPARISONS.items()):
            if found.empty:
                continue
            said.append(f"{title}, {what} {found[column].median():.3g}")
            if kind == "histogram":
                look = {"histtype": "step", "lw": 1.5, "color": colour, "ls": line}
                axes.hist(found[column], edges, **look)
                continue
            look = {"facecolor": to_rgba(colour, 0.5), "linestyle": line}
            options = {"orientation": "horizontal", "patch_artist": True, "manage_ticks": False}
            options |= {"whis": (5, 95), "widths": 0.6, "showfliers": False}
            middle = {"color": INK, "lw": 1.5}
            axes.boxplot(
                found[column], positions=[place], boxprops=look, medianprops=middle, **options
            )
        if kind == "box":
            axes.set_yticks(ticks, COMPARISONS)
            axes.set_ylim(ticks[-1] + 0.5, 0.5)
            axes.tick_params(axis="y", length=0)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    size = {"columns": len(formats), "wide": 2.7, "tall": 1.7 if kind == "box" else 2.05}
    labels = {"xlabel": DISTANCE, "ylabel": "samples" if kind == "histogram" else ""}
    options = {"whole": False, "sharex": True, "sharey": kind == "box"}
    figure = _panels("", list(panels), draw, **size, **labels, **options)
    handles = [
        Patch(color=colour, alpha=0.5) if kind == "box" else Line2D([], [], color=colour, ls=line)
        for _, colour, line in COMPARISONS.values()
    ]
    title = f"horizon {horizon}" if table["protocol"].eq(evaluation.ROLLOUT).all() else None
    figure.legend(handles, COMPARISONS, loc="outside upper center", ncols=3, title=title)
    figure.about = f"How the {DISTANCE} of samples is distributed; medians: {'; '.join(said)}."
    return figure


@style()
def long_term_curves(
    table,
    *,
    difference: bool = False,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    moving_null: bool = True,
    band: bool = True,
) -> Picture:
    """Draw the distance over the horizon, a panel per format, with the thesis's published figures.

    Filled marks are ours, hollow marks the thesis's; its models have the colour of ours of the
    same kind. Persistence, the solid black line, repeats the last observed frame; the moving null,
    which the thesis calls null, is told the true frame before each target.

    Args:
        table: rollouts from `helpers.evaluation`.
        difference: draw prediction - persistence, taken sample by sample, in place of both; below
            0 is better than persistence. The thesis has no such figures.
        models, formats: what to show, in this order; what the table holds when None. What is not
            there is named in its panel.
        moving_null: draw it.
        band: around each mean of ours, its 95 % bootstrap interval.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`; the table is not of rollouts.
    """
    table = evaluation.one_protocol(table)
    if not table["protocol"].eq(evaluation.ROLLOUT).all():
        raise ValueError(
            "The table is of next frames; curves over the horizon need rollouts, from long_term."
        )
    found, label = _averages(table, difference)
    found = found[found["kind"].ne("moving null") | moving_null]
    formats = asked(formats, table["format"])
    models = asked(models, found.loc[found["kind"] == "model", "name"])
    found = found[found["kind"].ne("model") | found["name"].isin(models)]
    drawn = looks([*models, *found.loc[found["kind"] != "model", "name"]])

    def draw(axes, name):
        if difference:
            axes.axhline(0, color="black", lw=1.2)
        here = found[found["format"] == name].set_index("name")
        for model in drawn:
            for _, rows in here[here.index == model].groupby("history"):
                # Missing horizons become a gap in the line.
                rows = rows.set_index("horizon").reindex(range(1, rows["horizon"].max() + 1))
                ends = (rows["low"], rows["high"]) if band else ()
                _line(axes, rows.index, rows["mean"], model, drawn[model], *ends)
        return [model for model in models if model not in here.index]

    about = "Rollouts beside persistence, a panel for each format."
    options = {"ylabel": label, "xlabel": HORIZON, "sharey": True}
    figure = _panels(about, formats, draw, tall=2.9, **options)
    if not difference:
        figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    legend(figure, BANDS["mean"] if band else None)
    return figure


@style()
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
    units = {"counts": "mean number", "errors": "mean absolute error", "surface": "voxels"}
    choice("kind", kind, tuple(units))
    table = evaluation.one_protocol(table)
    evaluation.check_same_samples(table)
    if format is None and table["format"].nunique() > 1:
        known = ", ".join(dict.fromkeys(table["format"]))
        raise ValueError(f"The table holds the formats {known}; choose one with format=...")
    rows = table if format is None else table[table["format"] == format]
    if rows.empty:
        raise ValueError(f"The table has nothing in the format {format!r}.")
    found = evaluation.shape_means(rows, ("model", "horizon")).set_index(["model", "measure"])
    nulls, judged = evaluation.null_models(table), set(rows["model"])
    models = [name for name in asked(models, rows["model"]) if name not in nulls]
    measures = {what: f"{what}{'_error' * (kind == 'errors')}" for what in BETTI}
    share = "share without a distance"
    if kind == "surface":
        measures = {"mean surface distance": "surface_mean", "95 % Hausdorff": "surface_95"}
        measures[share] = "surface_mean"
    first = rows["model"].iloc[0]
    series = {"persistence": (first, "persistence")}
    series |= {model: (model, "prediction") for model in models if model in judged}
    if kind == "counts":  # last, so that it lies on top
        series["truth"] = (first, "truth")
    drawn = looks(["persistence", *models]) | {"truth": TRUTH}

    def draw(axes, title):
        for name, (model, who) in series.items():
            part = found.loc[(model, f"{who}_{measures[title]}")]
            mean, ends = part["mean"], (part["low"], part["high"])
            if title == share:
                mean, ends = part["undefined"] / (part["undefined"] + part["n"]), ()
            if name == "truth":  # two grey bands over each other say nothing
                ends = ()
            _line(axes, part["horizon"], mean, name, drawn[name], *ends)
        axes.set_ylim(bottom=0, top=1.02 if title == share else None)
        return [model for model in models if model not in judged]

    about = "What rollouts do to the shape of frames."
    options = {"xlabel": HORIZON, "ylabel": units[kind], "note_above": True}
    figure = _panels(about, list(measures), draw, tall=2.7, **options)
    legend(figure, BANDS["mean"])
    return figure


@style()
def comparison(
    table,
    *,
    horizon: int = 1,
    protocol: str | None = None,
    difference: bool = False,
    models: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
) -> Picture:
    """Draw all models below each other: the mean with its 95 % interval, a panel per format.

    Args:
        table: from `helpers.evaluation`.
        horizon: steps ahead.
        protocol, models, formats: see `result_distributions`.
        difference: prediction - persistence, taken sample by sample, below 0 is better; then
            without null models and thesis.

    The panels share one scale.

    Raises:
        TypeError, ValueError: see `helpers.evaluation.overview`.
    """
    table = evaluation.one_protocol(table, protocol)
    found, label = _averages(table, difference)
    found = found[found["horizon"] == horizon]
    if found.empty:
        raise ValueError(f"The table has nothing at horizon {horizon}.")
    names = asked(models, found.loc[found["kind"] == "model", "name"])
    names += dict.fromkeys(found.loc[found["kind"] != "model", "name"])
    rollouts = table["protocol"].eq(evaluation.ROLLOUT).all()
    where = f"{horizon} steps ahead" if rollouts else f"next frame, {table['protocol'].iloc[0]}"
    found = found.assign(text=found["mean"].map("{:.3f}".format), left=False)
    label = f"{label}, {where} (bars: 95 % interval of the mean)"
    figure = _intervals(found, names, asked(formats, table["format"]), label, sharex=True)
    first = figure.axes[0]
    if difference:
        for axes in figure.axes:
            axes.axvline(0, color="black", lw=1.2, zorder=0)
    else:
        first.set_xlim(0, 1.06 * first.get_xlim()[1])
    return figure


@style()
def summary_curves(
    summary, *, models: Sequence[str] | None = None, formats: Sequence[str] | None = None
) -> Picture:
    """Draw a table of means: rollouts over the horizon, a column per format.

    What starts from as many frames shares a row with persistence and the thesis's model that
    starts from them: ours have filled marks, the thesis's hollow ones.

    Args:
        summary: as in data/results/summary.csv, see `helpers.evaluation.course_results`.
        models, formats: what to show, in this order; what the table holds when None. What is not
            there is named in its panel.

    Raises:
        ValueError: the table has no rollouts of these models in these formats.
    """
    table = summary[summary["protocol"] == evaluation.ROLLOUT]
    models, formats = asked(models, table["model"]), asked(formats, table["format"])
    table = table[table["model"].isin(models) & table["format"].isin(formats)]
    if table.empty:
        raise ValueError(f"The table has no rollouts of {models} in {formats}.")
    published = evaluation.thesis_figures()
    published = published[published["protocol"] == evaluation.ROLLOUT]
    published = published[published["measure"] == "prediction_jaccard"]
    published = published.assign(model="thesis: " + published["model"], jaccard=published["mean"])
    drawn = looks([*models, *published["model"]])
    panels = {}
    for history in sorted(set(table["history"]), reverse=True):
        for name in formats:
            start = "one frame" if history == 1 else f"{history} frames"
            panels[f"{name}, from {start}"] = (name, history)

    def draw(axes, title):
        ours, theirs = (
            part[(part["format"] == panels[title][0]) & (part["history"] == panels[title][1])]
            for part in (table, published)
        )
        null = ours.drop_duplicates("horizon").sort_values("horizon")
        look = looks(["persistence"])["persistence"]
        axes.plot(null["horizon"], null["persistence"], label="persistence", **look)
        for who in drawn:
            for part in (ours, theirs):
                rows = part[part["model"] == who].sort_values("horizon")
                if len(rows):
                    axes.plot(rows["horizon"], rows["jaccard"], label=who, **drawn[who])
        expected = set(table.loc[table["history"] == panels[title][1], "model"])
        return [model for model in models if model in expected - set(ours["model"])]

    options = {"columns": len(formats), "tall": 2.1, "sharex": "row", "sharey": True}
    about = "Rollouts of all models beside persistence."
    labels = {"xlabel": HORIZON, "ylabel": DISTANCE}
    figure = _panels(about, list(panels), draw, **options, **labels)
    figure.axes[0].set_ylim(bottom=0)  # shared by all panels
    legend(figure)
    return figure


@style()
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
    formats, models = asked(formats, found["format"]), asked(models, found["model"])
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
    drawn = looks(differs[differs].index)
    said = []

    def draw(axes, name):
        axes.axvline(0, color="black", lw=1.2)
        part = rows[rows["property"] == name]
        groups = list(dict.fromkeys(part["group"]))
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

    properties = list(dict.fromkeys(rows["property"]))
    options = {"columns": min(3, len(properties)), "tall": 1.9, "whole": False, "sharex": True}
    figure = _panels("", properties, draw, **options)
    label = f"Jaccard distance: model - persistence, {format}, {horizon} steps ahead"
    figure.supxlabel(label, fontsize=9)
    legend(figure, "bars: 95 % interval of the mean")
    figure.about = f"{label}. {'; '.join(said)}."
    return figure


def _panels(
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
    note_above: bool = False,
    **options,
) -> Picture:
    """Make a panel for each title, let `draw` fill it, and say in it what is missing.

    Args:
        draw: gets the axes and the title; returns the names that its panel lacks, if any.
        columns: panels side by side; all of them unless told.
        wide, tall: inches of a panel.
        whole: the axis across counts something.
        note_above: say what is missing above, not below.
        options: of `Figure.subplots`.
    """
    columns = columns or len(titles)
    rows = -(-len(titles) // columns)
    size = (0.9 + wide * max(columns, 1.4), 0.7 + tall * rows)
    figure = Picture(about=about, figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    for axes in grid.flat[len(titles) :]:
        axes.set_visible(False)
    for axes, title in zip(grid.flat, titles):
        axes.set_title(title)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        lacking = draw(axes, title)
        if lacking:
            place = (0.98, 0.98, "top") if note_above else (0.98, 0.02, "bottom")
            look = {"ha": "right", "fontsize": 8, "style": "italic", "color": INK}
            text = "missing: " + ", ".join(lacking)
            axes.text(*place[:2], text, transform=axes.transAxes, va=place[2], **look)
    return figure


def _intervals(found, names: list[str], formats: list[str], label: str, **options) -> Picture:
    """Draw means below each other, each with its interval and its text, a panel per format.

    Args:
        found: a table with `name`, `format`, `mean`, `low`, `high`, `text`, and `left` where the
            text stands left of the mean, not above it.
    """
    drawn, said = looks(names), []

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
        said.append(f"{title}: {', '.join(pairs)}")

    tall = 0.1 + 0.27 * len(names)
    figure = _panels("", formats, draw, tall=tall, whole=False, sharey=True, **options)
    figure.supxlabel(label, fontsize=9)
    figure.about = f"{label}. {'; '.join(said)}."
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


def _line(axes, x, y, name: str, look: dict, *ends) -> None:
    """Draw a line with not too many marks, and the band between `ends`, if there are any."""
    axes.plot(x, y, label=name, markevery=max(1, len(x) // 15), **look)
    if ends:
        axes.fill_between(x, *ends, alpha=0.2, lw=0, color=look["color"])


@style()
def _curves(
    groups: Mapping, x, band: str, xlabel: str, ylabel: str, *, marks: bool = False
) -> Picture:
    """Draw lines, with a band around the mean of many."""
    choice("band", band, tuple(BANDS))
    figure, axes = _axes(xlabel, ylabel)
    title = None
    drawn = looks(some(groups))
    for name, array in groups.items():
        array = numbers(array, name)
        if array.ndim not in (1, 2):
            raise ValueError(
                f"{name}: expected one row, or one row per sample; found shape {array.shape}."
            )
        places = np.arange(array.shape[-1]) if x is None else np.asarray(x)
        if len(places) != array.shape[-1]:
            raise ValueError(
                f"{name} has {array.shape[-1]} values for {len(places)} places on "
                f"the axis {xlabel!r}."
            )
        ends = ()
        if array.ndim == 2 and len(array) > 1:
            title = BANDS[band]
            half = 1.96 * array.std(axis=0, ddof=1) / np.sqrt(len(array))
            ends = (array.mean(axis=0) - half, array.mean(axis=0) + half)
            if band == "spread":
                ends = np.percentile(array, (5, 95), axis=0)
        look = drawn[name] if marks else drawn[name] | {"marker": ""}
        _line(axes, places, array if array.ndim == 1 else array.mean(axis=0), name, look, *ends)
    axes.set_ylim(bottom=0)
    if marks:
        axes.set_xticks(places)
    legend(figure, title)
    return figure


def _axes(xlabel: str, ylabel: str, *, wide: float = 6.0):
    """Make a figure with one pair of axes, whose text is larger than that of panels."""
    figure = Picture(figsize=(wide, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.tick_params(labelsize=10)
    return figure, axes
