"""How good a forecaster is: tables by sample, beside persistence and the thesis."""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from tqdm import tqdm

from helpers import _files, metrics, rollout, topology
from helpers._checks import whole
from helpers.rollout import Forecaster
from helpers.workshop import REPOSITORY

if TYPE_CHECKING:
    from helpers.sequences import FrameFormat

THESIS_RESULTS = REPOSITORY / "data" / "thesis_results.csv"
COURSE_RESULTS = REPOSITORY / "data" / "results"
NEXT_FRAME_PROTOCOLS = {"pooled": metrics.pooled, "per_frame": metrics.per_frame}
ROLLOUT = "rollout"
BY = ("model", "format", "protocol", "horizon")
RESAMPLES = 2000  # of the bootstrap
_TAILS = 0.025, 0.975  # of the intervals
_NAMES = ("model", "format", "protocol")
_COUNTS = ("history", "horizon", "sample")
_IDENTITY = (*BY, "sample")
_KINDS = ("jaccard", "mse")
_AVERAGE = ("measure", "mean", "low", "high", "std", "n")
_COMPARISONS = ("prediction", "persistence", "input")
# What `long_term` adds to a table with shape=True.
_BETTI = tuple(f"{w}_{b}" for w in ("truth", "prediction", "persistence") for b in topology.BETTI)
_SURFACE = tuple(
    f"{w}_{s}" for w in ("prediction", "persistence") for s in ("surface_mean", "surface_95")
)
_ROLLOUT_COMPARISONS = (*_COMPARISONS, "moving_null", "moving_input")
# For each protocol the measures of a batch: (B,), or (B, horizon) in a rollout.
Judgement = dict[str, dict[str, np.ndarray]]


def next_frame(
    forecaster: Forecaster,
    sequences: ArrayLike,
    protocol: str | Sequence[str] = "pooled",
    *,
    first: int = 1,
    frame_format: FrameFormat | str | None = None,
    sample_id: ArrayLike | None = None,
    threshold: float = 0.5,
    batch_size: int = 32,
    name: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Judge the forecasts of frames first…T-1, each one made from the true frames before it.

    Args:
        forecaster: see `helpers.rollout.Forecaster`.
        sequences: (N, T, D, H, W), the true frames; values 0…1, uint8 to save memory.
        protocol: `"pooled"` (the thesis's for the ConvLSTM), `"per_frame"` (its GANs), or both
            in a tuple: each adds its own rows. Figures of the two are not to be compared.
        first: the first frame to forecast; 1, and 3 for the thesis's three-frame GAN.
        frame_format: what the column `format` says; "any" when None.
        sample_id: (N,), different whole numbers; 0…N-1 when None.
        threshold: see `helpers.metrics.jaccard_distance`.
        batch_size: so many sequences at a time.
        name: what the column `model` says; the forecaster's `name` when None.
        progress: show a bar on stderr.

    Returns:
        One row for each protocol and sample. Columns: `model`, `format`, `protocol`, `history`
        (equal to `first`), `horizon` (1), `sample`, and distances, each by Jaccard
        (`…_jaccard`) and as the mean squared error of all voxels of all frames (`…_mse`), 0…1:
        `prediction_…`, forecast against truth; `persistence_…`, the frame before against the
        truth; `input_…`, forecast against the frame before. A model with a smaller distance to
        its input than to the truth has copied more than it forecast.

    Raises:
        TypeError, ValueError: see `helpers.rollout.next_frames`; no such protocol; the sample
            numbers are not N different whole numbers; no name; the sequences have another number
            of frames than the format.
    """
    protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    unknown = [p for p in protocols if p not in NEXT_FRAME_PROTOCOLS]
    if unknown or not protocols or len(set(protocols)) < len(protocols):
        choices = ", ".join(NEXT_FRAME_PROTOCOLS)
        raise ValueError(f"protocol is {protocol!r}; choose {choices}, or both in a tuple.")
    first = whole("first", first, 1)
    sequences = rollout.check_frames(sequences, None, first + 1, "sequences")
    labels = _labels(forecaster, name, frame_format, sequences)
    metrics.check_threshold(threshold)

    def judge(batch: np.ndarray) -> Judgement:
        predicted = rollout.next_frames(forecaster, batch, first=first, batch_size=batch_size)
        truth, before = batch[:, first:], batch[:, first - 1 : -1]
        pairs = {
            "prediction": (truth, predicted),
            "persistence": (truth, before),
            "input": (before, predicted),
        }
        mse = _distances(pairs, "mse", _mean_squared_error, axes=(-4, *metrics.FRAME_AXES))
        return {
            p: _distances(pairs, "jaccard", NEXT_FRAME_PROTOCOLS[p], threshold=threshold) | mse
            for p in protocols
        }

    labels["history"] = first
    return _evaluate(judge, sequences, labels, sample_id, batch_size, progress)


def long_term(
    forecaster: Forecaster,
    sequences: ArrayLike,
    *,
    history: int = 5,
    horizon: int = 5,
    feedback: str = "probability",
    keep: int | None = None,
    frame_format: FrameFormat | str | None = None,
    sample_id: ArrayLike | None = None,
    threshold: float = 0.5,
    batch_size: int = 32,
    name: str | None = None,
    progress: bool = False,
    shape: bool = False,
) -> pd.DataFrame:
    """Judge a rollout: frames history…history+horizon-1, forecast from frames 0…history-1.

    The defaults are the thesis's for the ConvLSTM, except that its loop drops the oldest frame for
    each new one: `keep=5`. Its single-frame GAN starts from 1 frame and keeps 1, its three-frame
    GAN from 3 and keeps 3.

    Args:
        forecaster, sequences, frame_format, sample_id, threshold, batch_size, name, progress: see
            `next_frame`. Frames from history + horizon on are not used.
        history: so many true frames are observed, at least 1.
        horizon: so many frames are forecast, at least 1.
        feedback, keep: see `helpers.rollout.rollout`. To keep two kinds of feedback in one
            table, give them different names.
        shape: count components, tunnels and voids, and measure how far surfaces are off; about
            1 ms more for each forecast frame.

    Returns:
        One row for each sample and horizon. Columns as in `next_frame`, with the protocol
        `"rollout"` (distances of single frames) and another meaning where no truth is known to
        the forecaster: `persistence_…` is the last *observed* frame against the truth, `input_…`
        the forecast against the last observed frame. In addition `moving_null_…`, the true frame
        before against the truth, and `moving_input_…`, the forecast against the true frame
        before: what the thesis calls null and input in its rollouts. With `shape`, for each of
        `truth_…`, `prediction_…` and `persistence_…` the numbers `…_components`, `…_tunnels` and
        `…_voids`, and for the latter two the distance of their surface to that of the truth,
        `…_surface_mean` and `…_surface_95`, in voxels: NaN where just one of the two is empty.
        See `shape_means`.

    Raises:
        TypeError, ValueError: see `helpers.rollout.rollout` and `next_frame`; the sequences have
            fewer than history + horizon frames.
    """
    history, horizon = whole("history", history, 1), whole("horizon", horizon, 1)
    sequences = rollout.check_frames(sequences, None, 1, "sequences")
    if sequences.shape[1] < history + horizon:
        raise ValueError(
            f"sequences has {sequences.shape[1]} frames; a history of {history} and a horizon of "
            f"{horizon} need {history + horizon}. Shorten one of them."
        )

    labels = _labels(forecaster, name, frame_format, sequences)
    metrics.check_threshold(threshold)

    def judge(batch: np.ndarray) -> Judgement:
        observed, truth = batch[:, :history], batch[:, history : history + horizon]
        predicted = rollout.rollout(
            forecaster,
            observed,
            horizon,
            feedback=feedback,
            threshold=threshold,
            keep=keep,
            batch_size=batch_size,
        )
        last = metrics.persistence(observed, horizon)
        before = metrics.moving_null(observed, truth)
        pairs = {
            "prediction": (truth, predicted),
            "persistence": (truth, last),
            "input": (last, predicted),
            "moving_null": (truth, before),
            "moving_input": (before, predicted),
        }
        jaccard = _distances(pairs, "jaccard", metrics.jaccard_distance, threshold=threshold)
        mse = _distances(pairs, "mse", _mean_squared_error, axes=metrics.FRAME_AXES)
        shapes = _shapes(truth, predicted, last, threshold) if shape else {}
        return {ROLLOUT: jaccard | mse | shapes}

    labels["history"] = history
    return _evaluate(judge, sequences, labels, sample_id, batch_size, progress)


def means(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average a table over its samples, with 95 % bootstrap intervals.

    Samples are resampled, not rows: where `by` leaves out a column, the rows of a sample are
    averaged first, since they are not independent. The same table gives the same intervals.

    Args:
        table: from `next_frame`, `long_term`, `combine` or `load`.
        by: the columns that tell groups apart.

    Returns:
        One row for each group and measure. Columns: those of `by`, `measure` (for example
        `prediction_jaccard`), `mean`, `low` and `high` (the percentile interval of the mean; NaN
        for a single sample), `std` (between samples, NaN for a single one) and `n` (samples).

    Raises:
        TypeError, ValueError: see `checked`; no such column in `by`; a group would mix protocols;
            the samples of a group have different numbers of rows.
    """
    table = checked(table)
    return _averages(table, table[_columns(table)], by)


def skill(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average the difference prediction - persistence, taken sample by sample.

    Below 0 the model is better than persistence. The difference has a much smaller spread than
    either distance, since both are large for the same samples: an interval that excludes 0 is
    what says that a model beats persistence.

    Args:
        table, by: see `means`.

    Returns:
        As `means`, with the measures `jaccard` and `mse`.

    Raises:
        TypeError, ValueError: see `means`.
    """
    table = checked(table)
    differences = {k: table[f"prediction_{k}"] - table[f"persistence_{k}"] for k in _KINDS}
    return _averages(table, pd.DataFrame(differences), by)


def thesis_figures() -> pd.DataFrame:
    """Return the thesis's own figures on its test set, in the words used here.

    Measures and protocols are those of `means`, so that the rows can be set side by side (see
    `beside_thesis`). `mean` and `std` are over `n` samples, in the rows `per_frame` over n pairs
    of frames.

    Returns:
        Columns: `model`, `format`, `protocol`, `history`, `horizon`, `measure`, `mean`, `std`, `n`.

    Source: M. Goldgruber, 4D-Predictive-GAN-ConvLSTM (MIT licence, 2024); see data/README.md.
    """
    return pd.read_csv(THESIS_RESULTS)


def course_results(folder: Path = COURSE_RESULTS) -> dict[str, pd.DataFrame]:
    """Return the course's own figures on the thesis's test set, as `make results` wrote them.

    Returns:
        `summary`, the mean distances of each model beside persistence and the thesis, and
        `skill_horizons`; data/results/README.md says what their columns are.
    """
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("summary", "skill_horizons")}


def beside_thesis(table: pd.DataFrame, model: str = "ConvLSTM3D") -> pd.DataFrame:
    """Set the means of a table beside the thesis's figures of one of its models.

    Args:
        table: see `means`; its formats, protocols, histories and horizons are looked up.
        model: the thesis's name of its model.

    Returns:
        The rows of `means` that the thesis has a figure for, by model, format, protocol, history
        and horizon, with the columns `thesis` (its mean) and `difference` (ours - thesis).

    Raises:
        TypeError, ValueError: see `means`; no such model in the thesis; nothing in the table has a
            counterpart.
    """
    figures = thesis_figures()
    _check_choice("model of the thesis", model, figures["model"].unique())
    figures = figures[figures["model"] == model]
    keys = ["format", "protocol", "history", "horizon"]
    ours = means(table, ("model", *keys))
    published = figures[[*keys, "measure", "mean"]].rename(columns={"mean": "thesis"})
    beside = ours.merge(published, on=[*keys, "measure"])
    if beside.empty:
        raise ValueError(
            f"Nothing here has a counterpart among the thesis's figures of {model}: compare the "
            "formats, protocols, histories and horizons with thesis_figures()."
        )
    return beside.assign(difference=beside["mean"] - beside["thesis"])


def shape_means(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average what a rollout does to the shape of frames, with bootstrap intervals.

    Args:
        table: from `long_term` with shape=True.
        by: see `means`; `horizon` must be among them.

    Returns:
        As `means`, with these measures: the numbers of `truth`, `prediction` and `persistence`,
        for example `truth_tunnels`; the absolute errors of the latter two, sample by sample, for
        example `prediction_tunnels_error`; and `prediction_surface_mean` and so on. Surface
        distances are averaged over the samples that have one; the column `undefined` counts the
        others, where the forecast has vanished or the truth has. Where no sample has one, mean
        and interval are NaN and n is 0.

    Raises:
        TypeError, ValueError: see `means`; the table was made without shape=True; `by` lacks
            `horizon`.
    """
    table = checked(table)
    if _BETTI[0] not in table:
        raise ValueError("The table holds no shapes; make it with long_term(..., shape=True).")
    by = [by] if isinstance(by, str) else list(by)
    if "horizon" not in by:
        raise ValueError(f"by is {by}; shapes change over the rollout: add 'horizon'.")
    values = table[list(_BETTI)].copy()
    for who in ("prediction", "persistence"):
        for what in topology.BETTI:
            error = table[f"{who}_{what}"] - table[f"truth_{what}"]
            values[f"{who}_{what}_error"] = error.abs()
    parts = [_averages(table, values, by).assign(undefined=0)]
    keys = parts[0][by].drop_duplicates()
    for column in _SURFACE:
        defined = table[column].notna()
        found = pd.DataFrame(columns=[*by, "mean", "low", "high", "std", "n"])
        if defined.any():
            found = _averages(table[defined], table.loc[defined, [column]], by)
        undefined = (~defined).groupby([table[name] for name in by]).sum().rename("undefined")
        found = keys.merge(found.drop(columns="measure", errors="ignore"), "left", by)
        found = found.merge(undefined.reset_index(), "left", by).assign(measure=column)
        parts.append(found.fillna({"n": 0}).astype({"n": int, "mean": float}))
    return pd.concat(parts, ignore_index=True)[[*by, *_AVERAGE, "undefined"]]


def skill_horizon(table: pd.DataFrame) -> pd.DataFrame:
    """Find the last step up to which a model beats persistence, with a 95 % bootstrap interval.

    At the horizons 1, 2, …, `steps` the mean difference of the Jaccard distances, prediction -
    persistence, taken sample by sample, is below 0; at the next one it is not, whatever comes
    later. For the interval samples are drawn with all their horizons together, and the same is
    asked of every draw.

    Args:
        table: rollouts, from `long_term`, `combine` or `load`.

    Returns:
        One row for each model, format and history. Columns: these three; `steps`; `low` and
        `high`, the interval (NaN for a single sample); `shown`, the steps up to which the whole
        interval of the difference lies below 0, never more than `steps`; `longest`, the longest
        horizon in the table, where `steps` equal to it means "or more"; `n` samples.

    Raises:
        TypeError, ValueError: see `checked`; the table is not of rollouts; the horizons of a model
            are not 1, 2, … without a gap for each of its samples.
    """
    table = checked(table)
    if _comparisons(table) != _ROLLOUT_COMPARISONS:
        raise ValueError("The table is of next frames; a skill horizon needs rollouts: long_term.")
    difference = table["prediction_jaccard"] - table["persistence_jaccard"]
    rows = []
    for key, group in table.groupby(["model", "format", "history"], sort=False):
        values = _by_horizon(group, difference)
        better = values.mean(axis=0) < 0
        steps, shown, interval = _unbroken(better), 0, (np.nan, np.nan)
        if len(values) > 1:
            drawn = _bootstrap_means(values)
            interval = np.quantile(_unbroken(drawn < 0), _TAILS, method="inverted_cdf")
            shown = _unbroken(better & (np.quantile(drawn, _TAILS[1], axis=0) < 0))
        rows.append(
            {
                **dict(zip(("model", "format", "history"), key)),
                "steps": int(steps),
                "low": float(interval[0]),
                "high": float(interval[1]),
                "shown": int(shown),
                "longest": values.shape[1],
                "n": len(values),
            }
        )
    return pd.DataFrame(rows)


def overview(
    table: pd.DataFrame,
    *,
    protocol: str | None = None,
    horizons: Sequence[int] | None = None,
    formats: Sequence[str] | None = None,
    thesis: bool | Sequence[str] = True,
    digits: int = 4,
) -> pd.DataFrame:
    """Write mean Jaccard distances ± their standard deviation between samples: a line per model.

    Args:
        table: see `means`.
        protocol: which one, where the table holds several.
        horizons: these only; all when None.
        formats: what the table is to show, in this order; what it holds when None.
        thesis: with the thesis's figures for the same protocol and formats; or only those of
            the models in this list.
        digits: after the point.

    Returns:
        Strings, columns (format, horizon). Lines: the models, "persistence", in rollouts "moving
        null", and the thesis's models and nulls. "missing" where a model was not judged. Where
        histories differ, names say which: what is forecast from other frames is another task.

    Raises:
        TypeError, ValueError: see `means`; several protocols and none chosen; the table has no
            such protocol or horizon; two models differ in persistence, so were judged on other
            frames.
    """
    found = lines(table, protocol=protocol, formats=formats, thesis=thesis)
    known = sorted(set(found["horizon"]))
    for horizon in known if horizons is None else horizons:
        _check_choice("horizon", horizon, known)
    shown = known if horizons is None else list(horizons)
    columns = pd.MultiIndex.from_product(
        [list(dict.fromkeys(found["format"])) if formats is None else formats, shown],
        names=["format", "horizon"],
    )
    names = pd.Index(list(dict.fromkeys(found["name"])), name="model")
    written = pd.DataFrame("missing", names, columns)
    for row in found[found["horizon"].isin(shown)].itertuples():
        text = f"{row.mean:.{digits}f} ± {row.std:.{digits}f}"
        written.loc[row.name, (row.format, row.horizon)] = text
    return written


def lines(
    table: pd.DataFrame,
    measure: str = "jaccard",
    *,
    protocol: str | None = None,
    formats: Sequence[str] | None = None,
    thesis: bool | Sequence[str] = True,
) -> pd.DataFrame:
    """Average what belongs into one figure: models, null models, the thesis's published figures.

    Args:
        table, protocol, formats, thesis: see `overview`.
        measure: `"jaccard"` or `"mse"`.

    Returns:
        Columns: `name`, what a legend says; `kind`: `"model"`, `"persistence"`, `"moving null"`
        or `"thesis"`; `format`, `history`, `horizon`, `mean`, `low`, `high`, `std`, `n`. In rows
        of the thesis `low` and `high` are NaN; its three models start from 5, 1 and 3 frames. A
        model that is persistence itself is shown as the null model only.

    Raises:
        TypeError, ValueError: see `overview`; no such measure.
    """
    table = one_protocol(table, protocol)
    _check_choice("measure", measure, _KINDS)
    if formats is not None:
        table = table[table["format"].isin(formats)]
        if table.empty:
            raise ValueError(f"The table has no rows of the formats {formats}.")
    check_same_samples(table)
    by = ["model", "format", "history", "horizon"]
    wanted = {f"prediction_{measure}": "model", f"persistence_{measure}": "persistence"}
    if f"moving_null_{measure}" in table:
        wanted[f"moving_null_{measure}"] = "moving null"
    found = _averages(table, table[list(wanted)], by)
    found.insert(0, "kind", found["measure"].map(wanted))
    found.insert(0, "name", found["kind"].where(found["kind"] != "model", found["model"]))
    found = found[~(found["kind"].eq("model") & found["model"].isin(null_models(table)))]
    # All models of a format agree in persistence, so its first mean is that of each of them.
    found = found.drop_duplicates(["name", "kind", "format", "history", "horizon"])
    if thesis:
        protocol = table["protocol"].iloc[0]
        published = _thesis_lines(protocol, measure, set(found["format"]), thesis)
        found = pd.concat([found, published], ignore_index=True)
    null = found["kind"].isin(["persistence", "moving null"])
    # Forecasts of one format that start from other frames are of other tasks.
    if found[null].groupby("format")["history"].nunique().max() > 1:
        named = found["name"] + ", from " + found["history"].astype(str) + " frames"
        found["name"] = found["name"].where(~null, named)
    order = {"model": 0, "persistence": 1, "moving null": 2, "thesis": 3}
    found = found.sort_values("kind", key=lambda kind: kind.map(order), kind="stable")
    columns = ["name", "kind", "format", "history", "horizon", "mean", "low", "high", "std", "n"]
    return found[columns].reset_index(drop=True)


def breakdown(table: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Average the Jaccard distance over parts of the samples, for example by what is in them.

    Args:
        table: see `means`.
        groups: one line for each sample, its number as the index; each column sorts the samples
            in one way, for example those of `sample_groups`.

    Returns:
        One row for each model, format, protocol, horizon, `property` (a column of `groups`) and
        `group`, with `prediction`, `persistence` and `difference` (taken sample by sample), the
        interval of the difference (`low`, `high`; NaN for a single sample) and `n`.

    Raises:
        TypeError, ValueError: see `means`; a sample of the table is not in `groups`, or twice, or
            has no group.
    """
    table = checked(table)
    if not groups.index.is_unique:
        raise ValueError("groups has several lines for one sample; give one for each.")
    unknown = sorted(set(table["sample"]) - set(groups.index))
    if unknown:
        raise ValueError(
            f"groups lacks {len(unknown)} samples of the table, first {unknown[0]}: its index must "
            "be the sample numbers."
        )
    values = table[["prediction_jaccard", "persistence_jaccard"]].copy()
    values["difference"] = values["prediction_jaccard"] - values["persistence_jaccard"]
    values.columns = ["prediction", "persistence", "difference"]
    parts = []
    for name, column in groups.items():
        group = table["sample"].map(column)
        if group.isna().any():
            raise ValueError(f"{group.isna().sum()} rows of the table have no group in {name!r}.")
        known = column.cat.categories if hasattr(column, "cat") else sorted(set(column))
        for label in known:
            rows = table[group == label]
            if rows.empty:  # a category that no sample of the table is in
                continue
            found = _averages(rows, values.loc[rows.index], BY)
            mean = found.pivot(index=list(BY), columns="measure", values="mean")
            spread = found[found["measure"] == "difference"].set_index(list(BY))
            mean = mean.join(spread[["low", "high", "n"]]).reset_index()
            # A pivot sorts by name; models stay in their order, and so in their colours.
            mean = found[list(BY)].drop_duplicates().merge(mean, on=list(BY))
            parts.append(mean.assign(property=name, group=str(label)))
    columns = [*BY, "property", "group", "prediction", "persistence", "difference", "low", "high"]
    return pd.concat(parts, ignore_index=True)[[*columns, "n"]]


def sample_groups(objects: ArrayLike, frames: ArrayLike, sample_id: ArrayLike) -> pd.DataFrame:
    """Sort samples by what is in them: cavities of each kind, cavities in all, filled volume.

    Args:
        objects: (N, 4), how many cavities of each kind, as in the label `labelObjs`.
        frames: (N, T, D, H, W), values 0…1, of which the filled share is the size.
        sample_id: (N,), different whole numbers.

    Returns:
        Index `sample_id`; ordered categories: `B⁴`, `S¹×B³`, `S²×B²`, `S¹×S¹×B²` (none, 1-2, 3-5
        or 6 and more of them), `cavities` (1-4, 5-8, 9-12, 13 and more) and `size` (small, medium
        and large, a third of the samples each, with the shares filled).

    Raises:
        TypeError, ValueError: the shapes disagree, or the sample numbers are not different.
    """
    from helpers.world.cavities import SOLIDS

    objects, frames = np.asarray(objects), rollout.check_frames(frames, None, 1, "frames")
    if objects.shape != (len(frames), len(SOLIDS)):
        raise ValueError(
            f"objects has shape {objects.shape}; expected {(len(frames), len(SOLIDS))}, the counts "
            "of each kind for each sequence."
        )
    index = pd.Index(_sample_ids(sample_id, len(frames)), name="sample")
    few, many = [-1, 0, 2, 5, np.inf], [0, 4, 8, 12, np.inf]
    found = {
        name: pd.cut(counts, few, labels=["none", "1-2", "3-5", "6 +"])
        for name, counts in zip(SOLIDS, objects.astype(int).T)
    }
    total = objects.astype(int).sum(axis=1)
    found["cavities"] = pd.cut(total, many, labels=["1-4", "5-8", "9-12", "13 +"])
    share = frames.mean(axis=(1, 2, 3, 4))
    edges = np.quantile(share, (1 / 3, 2 / 3))
    sizes = [f"small, to {edges[0]:.1%}", "medium", f"large, from {edges[1]:.1%}"]
    third = pd.Categorical.from_codes((share[:, None] > edges).sum(axis=1), sizes, ordered=True)
    return pd.DataFrame({**found, "size": third}, index=index)


def cases(
    table: pd.DataFrame, count: int = 3, *, judged_by: str = "distance", horizon: int = 1
) -> pd.DataFrame:
    """Find the samples that each model forecasts best and worst.

    Args:
        table: see `means`.
        count: so many of each, at least 1; fewer where there are not so many samples.
        judged_by: `"distance"`, or `"difference"` to persistence: what was gained and spoilt.
        horizon: steps ahead.

    Returns:
        Columns: `model`, `format`, `protocol`, `case` ("best 1", the best of all, to "worst 1",
        the worst of all), `sample`, `prediction`, `persistence` and `difference` (Jaccard).

    Raises:
        TypeError, ValueError: see `checked`; `count` is below 1; no such horizon.
    """
    table, count = checked(table), whole("count", count, 1)
    _check_choice("judged_by", judged_by, ("distance", "difference"))
    _check_choice("horizon", horizon, sorted(set(table["horizon"])))
    table = table[table["horizon"] == horizon]
    table = table.assign(
        prediction=table["prediction_jaccard"],
        persistence=table["persistence_jaccard"],
        difference=table["prediction_jaccard"] - table["persistence_jaccard"],
    )
    key = "prediction" if judged_by == "distance" else "difference"
    parts = []
    for _, rows in table.groupby(["model", "format", "protocol"], sort=False):
        rows = rows.sort_values([key, "sample"])
        each = min(count, len(rows) // 2) or 1
        best, worst = rows.iloc[:each], rows.iloc[max(each, len(rows) - each) :]
        names = [f"best {n + 1}" for n in range(len(best))]
        names += [f"worst {n + 1}" for n in reversed(range(len(worst)))]
        parts.append(pd.concat([best, worst]).assign(case=names))
    columns = [*_NAMES, "case", "sample", "prediction", "persistence", "difference"]
    return pd.concat(parts, ignore_index=True)[columns]


RELIABILITY_EDGES = (0, 0.01, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99, 1)


def reliability(truth: ArrayLike, probability: ArrayLike) -> pd.DataFrame:
    """Compare probabilities with what happened: a reliability diagram as a table.

    Voxels are sorted into bins by their probability, between `RELIABILITY_EDGES`; a bin holds its
    lower edge. A forecast is calibrated if in each bin the
    share of filled voxels is the mean probability.

    Args:
        truth: any shape, 0 or 1.
        probability: of the same shape, 0…1.

    Returns:
        One row for each bin, by `probability` (its edges in words). Columns: `voxels`, how many;
        `mean probability` and `share filled`, NaN where there is no voxel.

    Raises:
        TypeError, ValueError: see `helpers.metrics.jaccard_distance`.

    Source: A. H. Murphy and R. L. Winkler, *Reliability of Subjective Probability Forecasts*, 1977.
    """
    edges = RELIABILITY_EDGES
    # Checks shapes and values of both.
    metrics.jaccard_distance(truth, probability, axes=tuple(range(np.ndim(truth))))
    truth, probability = np.asarray(truth).ravel(), np.asarray(probability, np.float64).ravel()
    group = np.digitize(probability, edges[1:-1])
    size = len(edges) - 1
    count = np.bincount(group, minlength=size)
    some = np.where(count, count, np.nan)
    return pd.DataFrame(
        {
            "probability": [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)],
            "voxels": count,
            "mean probability": np.bincount(group, probability, size) / some,
            "share filled": np.bincount(group, truth, size) / some,
        }
    ).set_index("probability")


def one_protocol(table: pd.DataFrame, protocol: str | None = None) -> pd.DataFrame:
    """Return the rows of one protocol, checked; figures of two protocols never share an axis.

    Raises:
        TypeError, ValueError: see `checked`; several protocols and none chosen; no such protocol.
    """
    table = checked(table)
    found = list(dict.fromkeys(table["protocol"]))
    if protocol is None and len(found) > 1:
        raise ValueError(
            f"The table mixes the protocols {', '.join(found)}; their figures cannot be compared. "
            "Choose one with protocol=..."
        )
    if protocol is not None:
        _check_choice("protocol", protocol, found)
        table = table[table["protocol"] == protocol].reset_index(drop=True)
    return table


def check_same_samples(table: pd.DataFrame) -> None:
    """Check that the models of each format were judged on the same samples and frames.

    Raises:
        ValueError: a model lacks samples that another one has, at some horizon; or persistence
            differs between models for the same sample, history and horizon.
    """
    for name, rows in table.groupby("format", sort=False):
        everyone = set(rows["sample"])
        for key, group in rows.groupby(["model", "protocol", "horizon"], sort=False):
            lacking = len(everyone - set(group["sample"]))
            if lacking:
                raise ValueError(
                    f"{key[0]} lacks {lacking} of {len(everyone)} samples in {name} at horizon "
                    f"{key[2]}: means over other samples cannot be compared. Evaluate them, or "
                    "leave out the samples that it lacks."
                )
        same = rows.groupby(["protocol", "history", "horizon", "sample"])["persistence_jaccard"]
        if (same.max() - same.min() > 1e-6).any():
            first = (same.max() - same.min()).idxmax()
            raise ValueError(
                f"In {name} persistence differs between models for sample {first[3]} at horizon "
                f"{first[2]}: they were judged on other frames. Evaluate them on the same data."
            )


def combine(*tables: pd.DataFrame) -> pd.DataFrame:
    """Put tables one below the other, for example those of several models.

    Raises:
        TypeError, ValueError: see `checked`; no tables; tables of next frames and of rollouts
            together; the same model, format, protocol, horizon and sample twice.
    """
    if not tables:
        raise ValueError("There are no tables to combine; give at least one.")
    tables = [checked(table) for table in tables]
    if len({tuple(table.columns) for table in tables}) > 1:
        raise ValueError(
            "Tables of next frames, of rollouts, and of rollouts with shapes have different "
            "columns; combine each kind for itself."
        )
    return checked(pd.concat(tables, ignore_index=True))


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table to a CSV file: all of it, or nothing and the old file stays.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: see `checked`.
        OSError: the file cannot be written; the message says where.
    """
    content = checked(table).to_csv(index=False, lineterminator="\n", na_rep="nan")
    path = Path(path)
    try:
        with _files.replacing(path) as file:
            file.write(content.encode())
    except OSError as error:
        raise OSError(
            error.errno,
            f"The table was not saved ({error.strerror}); a folder that exists and can be written "
            "to is needed",
            str(path),
        ) from error
    return path


def load(path: str | Path) -> pd.DataFrame:
    """Read a table that `save` wrote; the numbers come back to the last bit.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, is not such a table, or see `checked`.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a table, found no such file.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a table: it does not hold text.") from None
    if not text.endswith("\n"):
        raise ValueError(f"{path} is cut short: its last line has no end. Evaluate again.")
    try:
        # Not by pandas, which guesses: a model may be called "NA", and a row may lack a cell.
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        for number, cells in enumerate(rows, 1):
            if len(cells) != len(header):
                raise ValueError(f"row {number} has {len(cells)} cells, the header {len(header)}.")
        table = pd.DataFrame(rows, columns=header)
        if not table.columns.is_unique:
            raise ValueError(f"a column occurs twice in {', '.join(header)}.")
        for column in table.columns.difference(_NAMES):
            table[column] = table[column].map(int if column in _COUNTS else float)
        return checked(table)
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of results: {error}") from None


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of results with its columns in order, or say what is wrong with it.

    Raises:
        TypeError: it is not a table, or a column holds values of another kind.
        ValueError: columns are missing or unknown, there are no rows, distances are NaN or outside
            0…1, counts are too small, shapes contradict each other, a protocol is unknown or has
            the columns of another one, or the same model, format, protocol, horizon and sample
            occurs twice.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"Expected a pandas table of results, found {type(table).__name__}.")
    expected = [*_NAMES, *_COUNTS, *_columns(table), *_shape_columns(table)]
    missing = [column for column in expected if column not in table.columns]
    unknown = [str(column) for column in table.columns if column not in expected]
    if missing or unknown or len(table.columns) != len(expected):
        raise ValueError(
            f"The columns are not those of a table of results: missing {missing or 'none'}, "
            f"unknown {unknown or 'none'}, each once. See next_frame and long_term."
        )
    table = table[expected].reset_index(drop=True)
    if table.empty:
        raise ValueError("The table has no rows.")
    for column in _NAMES:
        if not all(isinstance(value, str) and value for value in table[column]):
            raise TypeError(f"Column {column} must hold names, and none may be empty.")
    for column, least in zip(_COUNTS, (1, 1, None)):
        if table[column].dtype.kind not in "iu":
            raise TypeError(f"Column {column} must hold whole numbers, not {table[column].dtype}.")
        if least is not None and table[column].min() < least:
            raise ValueError(f"Column {column} holds {table[column].min()}; at least {least}.")
    for column in _columns(table):
        if table[column].dtype.kind != "f":
            raise TypeError(f"Column {column} must hold floats, not {table[column].dtype}.")
        wrong = ~table[column].between(0, 1)  # NaN is not between
        if wrong.any():
            row = wrong.idxmax()
            raise ValueError(
                f"Column {column} has {wrong.sum()} values that are NaN or outside 0…1, first "
                f"{table.at[row, column]} in row {row}."
            )
    if _shape_columns(table):
        _check_shapes(table)
    is_rollout = _comparisons(table) == _ROLLOUT_COMPARISONS
    known = (ROLLOUT,) if is_rollout else tuple(NEXT_FRAME_PROTOCOLS)
    if not table["protocol"].isin(known).all():
        found = ", ".join(sorted(set(table["protocol"]) - set(known)))
        raise ValueError(
            f"Protocol {found} does not go with these columns; expected {' or '.join(known)}."
        )
    twice = table.duplicated(list(_IDENTITY))
    if twice.any():
        row = table.loc[twice.idxmax(), list(_IDENTITY)]
        raise ValueError(
            f"{twice.sum()} rows repeat another one, first "
            f"{', '.join(f'{k} {v}' for k, v in row.items())}. Give different runs different "
            "names."
        )
    return table


def _evaluate(
    judge: Callable[[np.ndarray], Judgement],
    sequences: np.ndarray,
    labels: dict[str, str | int],
    sample_id: ArrayLike | None,
    batch_size: int,
    progress: bool,
) -> pd.DataFrame:
    """Judge batch by batch, so that only one batch is ever float32, and build the table."""
    samples = _sample_ids(sample_id, len(sequences))
    batch_size = whole("batch_size", batch_size, 1)
    found = []
    with tqdm(total=len(sequences), desc=labels["model"], disable=not progress) as bar:
        for start in range(0, len(sequences), batch_size):
            batch = sequences[start : start + batch_size].astype(np.float32, copy=False)
            found.append(judge(batch))
            bar.update(len(batch))
    tables = []
    for protocol, measures in found[0].items():
        columns = {
            measure: np.concatenate([part[protocol][measure] for part in found])
            for measure in measures
        }
        horizons = next(iter(columns.values())).size // len(samples)
        tables.append(
            pd.DataFrame(
                {
                    **labels,
                    "protocol": protocol,
                    "horizon": np.tile(np.arange(1, horizons + 1), len(samples)),
                    "sample": np.repeat(samples, horizons),
                    **{measure: values.ravel() for measure, values in columns.items()},
                }
            )
        )
    return checked(pd.concat(tables, ignore_index=True))


def _distances(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], kind: str, distance: Callable, **options
) -> dict[str, np.ndarray]:
    """Return the distance of each pair of arrays, named for instance `prediction_jaccard`."""
    return {f"{what}_{kind}": distance(*pair, **options) for what, pair in pairs.items()}


def _mean_squared_error(
    truth: np.ndarray, prediction: np.ndarray, axes: tuple[int, ...]
) -> np.ndarray:
    """Return the mean of the squared differences over `axes`, float64."""
    return np.square(truth - prediction).mean(axis=axes, dtype=np.float64)


def _averages(table: pd.DataFrame, values: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Average each column of `values` over the samples of each group of `table`."""
    rows = []
    for key, sampled in _groups(table, values, by):
        low = high = np.full(sampled.shape[1], np.nan)
        if len(sampled) > 1:
            # The same draws for every group of a size: what else is in the table changes nothing.
            drawn = _bootstrap_means(sampled.to_numpy())
            low, high = np.quantile(drawn, _TAILS, axis=0)
        for column, below, above in zip(sampled.columns, low, high):
            found = metrics.summary(sampled[column])
            rows.append(
                {
                    **key,
                    "measure": column,
                    "mean": found.mean,
                    "low": below,
                    "high": above,
                    "std": found.std,
                    "n": found.n,
                }
            )
    return pd.DataFrame(rows)


def _groups(
    table: pd.DataFrame, values: pd.DataFrame, by: str | Sequence[str]
) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Yield each group's key and one row of values for each of its samples, sorted by sample."""
    by = [by] if isinstance(by, str) else list(by)
    allowed = (*_NAMES, "history", "horizon")
    if not by or any(column not in allowed for column in by) or len(set(by)) < len(by):
        raise ValueError(f"by is {by}; choose from {', '.join(allowed)}, at least one, each once.")
    for key, rows in table.groupby(by, sort=False):
        key = dict(zip(by, key))
        if rows["protocol"].nunique() > 1:
            raise ValueError(
                f"{key or 'The table'} mixes the protocols {', '.join(rows['protocol'].unique())}; "
                "their figures cannot be averaged. Add 'protocol' to by."
            )
        counts = rows["sample"].value_counts()
        if counts.nunique() > 1:
            raise ValueError(
                f"In {key} some samples have {counts.max()} rows, others {counts.min()}: a mean "
                "would weigh them differently. Is a part of the table missing?"
            )
        yield key, values.loc[rows.index].groupby(rows["sample"]).mean()


def _check_choice(what: str, value, choices: Sequence) -> None:
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"There is no {what} {value!r} here; choose from {listed}.")


def null_models(table: pd.DataFrame) -> list[str]:
    """Name the models that are persistence itself, in every row."""
    same = table["prediction_jaccard"].eq(table["persistence_jaccard"])
    same &= np.isclose(table["prediction_mse"], table["persistence_mse"])
    return [name for name, rows in same.groupby(table["model"]) if rows.all()]


def _thesis_lines(
    protocol: str, measure: str, formats: set[str], models: bool | Sequence[str]
) -> pd.DataFrame:
    """Return the thesis's figures of one protocol in the columns of `lines`."""
    figures = thesis_figures()
    if models is not True:
        for name in models:
            _check_choice("model of the thesis", name, figures["model"].unique())
        figures = figures[figures["model"].isin(models)]
    figures = figures[figures["protocol"].eq(protocol) & figures["format"].isin(formats)]
    figures = figures[figures["measure"] == f"prediction_{measure}"]
    return figures.assign(
        name="thesis: " + figures["model"], kind="thesis", low=np.nan, high=np.nan
    )


def _by_horizon(rows: pd.DataFrame, values: pd.Series) -> np.ndarray:
    """Return the values of one model in one format as (samples, horizons), nothing missing."""
    found = (
        values.loc[rows.index]
        .to_frame("value")
        .assign(sample=rows["sample"], horizon=rows["horizon"])
    )
    found = found.pivot(index="sample", columns="horizon", values="value")
    if list(found.columns) != list(range(1, found.shape[1] + 1)) or found.isna().any(axis=None):
        raise ValueError(
            f"{rows['model'].iloc[0]} in {rows['format'].iloc[0]} has gaps: expected the horizons "
            f"1 to {rows['horizon'].max()} for each of its {len(found)} samples. Is a part of the "
            "table missing?"
        )
    return found.to_numpy()


def _unbroken(better: np.ndarray) -> np.ndarray:
    """Count how many entries along the last axis are true before the first that is not."""
    return np.cumprod(better, axis=-1, dtype=np.int64).sum(axis=-1)


def _bootstrap_means(values: np.ndarray) -> np.ndarray:
    """Return the means of resampled rows: (N, H) to (`RESAMPLES`, H)."""
    return _draws(len(values)) @ values / len(values)


@functools.lru_cache(maxsize=2)
def _draws(count: int) -> np.ndarray:
    """Draw how often each of `count` rows is in each resample: (`RESAMPLES`, count).

    A product with it adds up the rows of all resamples at once.
    """
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def _comparisons(table: pd.DataFrame) -> tuple[str, ...]:
    """Return what a table compares: a rollout has columns that next frames lack."""
    is_rollout = any(str(column).startswith("moving_") for column in table.columns)
    return _ROLLOUT_COMPARISONS if is_rollout else _COMPARISONS


def _columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that hold measures."""
    return [f"{what}_{kind}" for kind in _KINDS for what in _comparisons(table)]


def _shape_columns(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns of a table that describe shapes: all of them or none."""
    columns = (*_BETTI, *_SURFACE)
    return columns if any(column in table.columns for column in columns) else ()


def _check_shapes(table: pd.DataFrame) -> None:
    """Check that counts are counts, and that a distance is missing only where none is defined."""
    for column in (*_BETTI, *_SURFACE):
        if table[column].dtype.kind != "f":
            raise TypeError(f"Column {column} must hold floats, not {table[column].dtype}.")
    counts = table[list(_BETTI)]
    if not ((counts >= 0) & (counts == counts.round())).all(axis=None):  # NaN is neither
        raise ValueError("Components, tunnels and voids must be whole numbers of at least 0.")
    for column in _SURFACE:
        one_is_empty = (table["truth_components"] == 0) != (
            table[f"{column.split('_')[0]}_components"] == 0
        )
        wrong = table[column].isna() != one_is_empty
        wrong |= ~(table[column].isna() | (table[column].between(0, 1e6)))
        if wrong.any():
            row = wrong.idxmax()
            raise ValueError(
                f"Column {column} has {wrong.sum()} values that cannot be, first "
                f"{table.at[row, column]} in row {row}: it must be NaN where just one of the two "
                "frames is empty, and a distance elsewhere."
            )


def _shapes(
    truth: np.ndarray, predicted: np.ndarray, last: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Return the shape columns of a batch of rollouts (B, horizon, D, H, W), each (B, horizon)."""
    # The last observed frame is the same at every horizon.
    frames = {"truth": truth, "prediction": predicted, "persistence": last[:, :1]}
    found = {}
    for who, array in frames.items():
        counts = topology.betti_numbers(array, threshold=threshold)
        counts = np.broadcast_to(counts, (*truth.shape[:2], 3)).astype(np.float64)
        found |= {f"{who}_{what}": counts[..., n] for n, what in enumerate(topology.BETTI)}
    for who, array in (("prediction", predicted), ("persistence", last)):
        distance = topology.surface_distance(truth, array, threshold=threshold)
        found |= {f"{who}_surface_mean": distance.mean, f"{who}_surface_95": distance.hausdorff_95}
    return found


def _labels(
    forecaster: Forecaster,
    name: str | None,
    frame_format: FrameFormat | str | None,
    sequences: np.ndarray,
) -> dict[str, str | int]:
    """Return the columns `model` and `format`, which are the same in all rows of a run."""
    model = getattr(forecaster, "name", None) if name is None else name
    if not isinstance(model, str) or not model.strip():
        raise ValueError(
            f"The model's name is {model!r}; give one with name=..., or give the forecaster a "
            "`name`."
        )
    found = "any" if frame_format is None else getattr(frame_format, "name", frame_format)
    if not isinstance(found, str) or not found:
        raise ValueError(f"frame_format is {frame_format!r}; expected a format such as T20_TINC1.")
    frames = sequences.shape[1]
    if getattr(frame_format, "steps", frames) != frames:
        raise ValueError(
            f"The sequences have {frames} frames, {found} has {frame_format.steps}; select them "
            "first with frame_format.select(frames)."
        )
    return {"model": model, "format": found}


def _sample_ids(sample_id: ArrayLike | None, count: int) -> np.ndarray:
    if sample_id is None:
        return np.arange(count)
    found = np.asarray(sample_id)
    if found.dtype.kind not in "iu" or found.shape != (count,) or len(set(found.tolist())) < count:
        raise ValueError(
            f"sample_id has shape {found.shape} and dtype {found.dtype}; expected {count} "
            "different whole numbers, one for each sequence."
        )
    return found.astype(np.int64)
