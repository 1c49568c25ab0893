"""How good a forecaster is: tables by sample, beside persistence and the thesis."""

from __future__ import annotations

import collections
import functools
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import _files, metrics, published, rollout, topology
from helpers._checks import choice, whole
from helpers.rollout import Forecaster

if TYPE_CHECKING:
    from helpers.sequences import FrameFormat

NEXT_FRAME_PROTOCOLS = {"pooled": metrics.pooled, "per_frame": metrics.per_frame}
ROLLOUT = "rollout"
_JACCARD = {**NEXT_FRAME_PROTOCOLS, ROLLOUT: metrics.jaccard_distance}
BY = ("model", "format", "protocol", "cut", "horizon")
TRUSTED = 0.5  # a forecast is trusted where its mean distance is smaller
RESAMPLES = 2000  # of the bootstrap
TAILS = 0.025, 0.975  # of the intervals
# The columns of a table: of what a row is, what is compared (the last two in rollouts only), and
# what `long_term` adds with shape=True.
_KEYS = ["model", "format", "protocol", "cut", "history", "horizon", "sample"]
_COMPARED = ("prediction", "persistence", "input", "moving_null", "moving_input")
_BETTI = [f"{w}_{b}" for w in ("truth", "prediction", "persistence") for b in topology.BETTI]
_SURFACE = [f"{w}_surface_{s}" for w in ("prediction", "persistence") for s in ("mean", "95")]


def next_frame(
    forecaster: Forecaster,
    sequences: ArrayLike,
    protocol: str | Sequence[str] = "pooled",
    *,
    first: int = 1,
    cut: str | Sequence[str] = "half",
    frame_format: FrameFormat | str = "any",
    sample_id: ArrayLike | None = None,
    batch_size: int = 32,
    name: str | None = None,
) -> pd.DataFrame:
    """Judge the forecasts of frames first…T-1, each one made from the true frames before it.

    Args:
        forecaster: see `helpers.rollout.Forecaster`.
        sequences: (N, T, D, H, W), the true frames; values 0…1, uint8 to save memory.
        protocol: `"pooled"` (the thesis's for the ConvLSTM), `"per_frame"` (its GANs), or both
            in a tuple: each adds its own rows. Figures of the two are not to be compared.
        first: the first frame to forecast; 1, and 3 for the thesis's three-frame GAN.
        cut: by which rule of `metrics.cut` the Jaccard distance takes voxels for filled; several
            in a tuple add rows of their own, which are not to be compared either.
        frame_format, name: what `format` and `model` say; the forecaster's `name` when None.
        sample_id: (N,), different whole numbers; 0…N-1 when None.
        batch_size: so many sequences at a time.

    Returns:
        One row for each protocol, cut and sample. Columns: `model`, `format`, `protocol`, `cut`,
        `history` (equal to `first`), `horizon` (1), `sample`, and distances 0…1, each by Jaccard
        (`…_jaccard`) and as the mean squared error of all probabilities (`…_mse`):
        `prediction_…`, forecast against truth; `persistence_…`, the frame before against the
        truth; `input_…`, forecast against the frame before. A model with a smaller distance to
        its input than to the truth has copied more than it forecast.
    """
    protocols = _chosen("protocol", protocol, NEXT_FRAME_PROTOCOLS)
    first = whole("first", first, 1)
    sequences = rollout.check_frames(sequences, None, first + 1, "sequences")

    def forecast(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        predicted = rollout.next_frames(forecaster, batch, first=first, batch_size=batch_size)
        return batch[:, first:], predicted, batch[:, first - 1 : -1]

    options = first, cut, frame_format, sample_id, batch_size, name
    return _evaluate(forecast, protocols, forecaster, sequences, *options)


def long_term(
    forecaster: Forecaster,
    sequences: ArrayLike,
    *,
    history: int = 5,
    horizon: int = 5,
    feedback: str = "probability",
    keep: int | None = None,
    cut: str | Sequence[str] = "half",
    frame_format: FrameFormat | str = "any",
    sample_id: ArrayLike | None = None,
    batch_size: int = 32,
    name: str | None = None,
    shape: bool = False,
) -> pd.DataFrame:
    """Judge a rollout: frames history…history+horizon-1, forecast from frames 0…history-1.

    The defaults are the thesis's for the ConvLSTM, except that its loop drops the oldest frame for
    each new one: `keep=5`. Its GANs start from 1 frame and keep 1, or from 3 and keep 3.

    Args:
        forecaster, sequences, cut, frame_format, sample_id, batch_size, name: see `next_frame`.
        history, horizon: so many true frames are observed, and so many forecast.
        feedback, keep: see `helpers.rollout.rollout`; two feedbacks in one table need two names.
        shape: count components, tunnels, voids and measure surfaces, in about 1 ms for a frame.

    Returns:
        One row for each cut, sample and horizon. Columns as in `next_frame`, with the protocol
        `"rollout"` (distances of single frames) and the last *observed* frame in place of the
        frame before, in `persistence_…` and `input_…`. In addition `moving_null_…`, the true frame
        before against the truth, and `moving_input_…`, the forecast against the true frame
        before: what the thesis calls null and input in its rollouts. With `shape`, for each of
        `truth_…`, `prediction_…` and `persistence_…` the numbers `…_components`, `…_tunnels` and
        `…_voids`, and for the latter two the distance of their surface to that of the truth,
        `…_surface_mean` and `…_surface_95`, in voxels: NaN where just one of the two is empty.
    """
    history, horizon = whole("history", history, 1), whole("horizon", horizon, 1)
    sequences = rollout.check_frames(sequences, None, history + horizon, "sequences")

    def forecast(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        observed, truth = batch[:, :history], batch[:, history : history + horizon]
        options = {"feedback": feedback, "keep": keep, "batch_size": batch_size}
        predicted = rollout.rollout(forecaster, observed, horizon, **options)
        last, before = metrics.persistence(observed, horizon), metrics.moving_null(observed, truth)
        return truth, predicted, last, before

    options = history, cut, frame_format, sample_id, batch_size, name
    return _evaluate(forecast, [ROLLOUT], forecaster, sequences, *options, shape=shape)


def means(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average a table over its samples, with 95 % bootstrap intervals.

    Samples are resampled, not rows: where `by` leaves out a column, the rows of a sample are
    averaged first, since they are not independent. A group that mixes protocols or cuts, or lacks
    rows of some samples, is refused. The same table gives the same intervals.

    Args:
        table: from `next_frame`, `long_term`, `combine` or `load`.
        by: the columns that tell groups apart: some of `BY`, or `history`.

    Returns:
        One row for each group and measure. Columns: those of `by`, `measure` (for example
        `prediction_jaccard`), `mean`, `low` and `high` (the percentile interval of the mean; NaN
        for a single sample), `std` (between samples, NaN for a single one) and `n` (samples).
    """
    table = checked(table)
    return _averages(table, table[_distance_columns(table)], by)


def skill(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average the difference prediction - persistence, taken sample by sample.

    Below 0 the model is better than persistence. The difference has a much smaller spread than
    either distance, since both are large for the same samples: an interval that excludes 0 is
    what says that a model beats persistence. Returns what `means` does, with the measures
    `jaccard` and `mse`.
    """
    table = checked(table)
    gaps = {k: table[f"prediction_{k}"] - table[f"persistence_{k}"] for k in ("jaccard", "mse")}
    return _averages(table, pd.DataFrame(gaps), by)


def beside_persistence(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average the Jaccard distances of prediction and persistence, and their difference.

    Returns what `means` does, with the measures `prediction`, `persistence` and `difference`.
    """
    table = checked(table)
    return _averages(table, _beside_persistence(table), by)


def paired(table: pd.DataFrame, other: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average the difference between two models, sample by sample: `table` - `other`.

    Args:
        table, by: see `means`.
        other: of another model, or `helpers.published.thesis_samples()`. Rows are matched by
            format, protocol, cut, horizon and sample; groups that it does not have are left out.

    Returns what `means` does, with the measure `jaccard`. Below 0 the model of `table` is better.
    """
    group = list(BY[1:])
    table = checked(table).merge(other[group].drop_duplicates(), on=group)
    keys, ours = [*group, "sample"], "prediction_jaccard"
    found = table.merge(other[[*keys, ours]], on=keys, suffixes=("", "_other"))
    if len(found) < len(table) or table.empty:
        raise ValueError(
            f"{len(table) - len(found)} of {len(table)} rows have no partner in the other table. "
            "Judge both models on the same samples."
        )
    difference = found[ours] - found[f"{ours}_other"]
    return _averages(found, pd.DataFrame({"jaccard": difference}), by)


def shape_means(table: pd.DataFrame, by: str | Sequence[str] = BY) -> pd.DataFrame:
    """Average what a rollout does to the shape of frames, with bootstrap intervals.

    The table is from `long_term` with shape=True; `by` must keep the rows of a sample apart.

    Returns:
        As `means`, with measures such as `truth_tunnels`, a number, `prediction_tunnels_error`,
        its absolute error sample by sample, and `prediction_surface_mean`. Surface distances are
        averaged over the samples that have one; the column `undefined` counts the others, where
        the forecast has vanished or the truth has. Where no sample has one, mean and interval are
        NaN and n is 0.
    """
    table, by = checked(table), [by] if isinstance(by, str) else list(by)
    if _BETTI[0] not in table:
        raise ValueError("The table holds no shapes; make it with long_term(..., shape=True).")
    if table.duplicated([*by, "sample"]).any():
        raise ValueError(f"by is {by}; add 'horizon', or what else tells a sample's rows apart.")
    counts = table[_BETTI].copy()
    for who, what in itertools.product(("prediction", "persistence"), topology.BETTI):
        counts[f"{who}_{what}_error"] = (table[f"{who}_{what}"] - table[f"truth_{what}"]).abs()
    parts = [counts, *(table[[column]] for column in _SURFACE)]
    found = pd.concat([_averages(table, part, by) for part in parts], ignore_index=True)
    # Every sample has its counts.
    return found.assign(undefined=found.groupby(by)["n"].transform("max") - found["n"])


def skill_horizon(table: pd.DataFrame) -> pd.DataFrame:
    """Find the last step up to which a model beats persistence, with a 95 % bootstrap interval.

    At the horizons 1, 2, …, `steps` the mean difference of the Jaccard distances, prediction -
    persistence, taken sample by sample, is below 0; at the next one it is not, whatever comes
    later. For the interval samples are drawn with all their horizons together, and the same is
    asked of every draw. The table is of rollouts, without gaps.

    Returns:
        One row for each model, format, cut and history. Columns: these four; `steps`; `low` and
        `high`, the interval (NaN for a single sample); `shown`, the steps up to which the whole
        interval of the difference lies below 0, never more than `steps`; `longest`, the longest
        horizon in the table, where `steps` equal to it means "or more"; `n` samples;
        `time_points`, which is steps × TINC (NaN where the format's name has no TINC).
    """
    return _below(table, table["persistence_jaccard"])


def trust_horizon(table: pd.DataFrame) -> pd.DataFrame:
    """Find the last step up to which a model's mean Jaccard distance is below `TRUSTED`.

    Returns what `skill_horizon` does, with `TRUSTED` in the place of persistence.
    """
    return _below(table, TRUSTED)


def _below(table: pd.DataFrame, limit: pd.Series | float) -> pd.DataFrame:
    """Find up to which step a mean distance is below a limit; see `skill_horizon`."""
    if not table["protocol"].eq(ROLLOUT).all():
        raise ValueError("The table is of next frames; a horizon needs rollouts: long_term.")
    by, found = ["model", "format", "cut", "history"], []
    for key, rows in table.assign(gap=table["prediction_jaccard"] - limit).groupby(by, sort=False):
        values = rows.pivot(index="sample", columns="horizon", values="gap")
        longest = max(values)
        if values.shape[1] < longest or values.isna().any(axis=None):
            raise ValueError(
                f"{key[0]} in {key[1]} has gaps: expected the horizons 1 to {longest} for each of "
                f"its {len(values)} samples. Is a part of the table missing?"
            )
        better = values.to_numpy().mean(axis=0) < 0
        steps, shown, interval = _unbroken(better), 0, (np.nan, np.nan)
        if len(values) > 1:
            drawn = resampled(values)
            interval = np.quantile(_unbroken(drawn < 0), TAILS, method="inverted_cdf")
            shown = _unbroken(better & (np.quantile(drawn, TAILS[1], axis=0) < 0))
        found.append((*key, int(steps), *map(float, interval), int(shown), longest, len(values)))
    found = pd.DataFrame(found, columns=[*by, "steps", "low", "high", "shown", "longest", "n"])
    step = found["format"].str.extract(r"_TINC(\d+)", expand=False).astype(float)
    return found.assign(time_points=found["steps"] * step)


def overview(table: pd.DataFrame, *, protocol: str | None = None, digits: int = 4) -> pd.DataFrame:
    """Write mean Jaccard distances ± their standard deviation between samples: a line per model.

    Where a table holds several protocols, name one. Returns strings with so many digits after the
    point in the columns (format, horizon), "missing" where a model was not judged.
    """
    found = lines(table, protocol)
    pairs = zip(found["mean"], found["std"])
    found["text"] = [f"{mean:.{digits}f} ± {std:.{digits}f}" for mean, std in pairs]
    written = found.pivot(index="name", columns=["format", "horizon"], values="text")
    columns = [table["format"].unique(), sorted(set(table["horizon"]))]
    columns = pd.MultiIndex.from_product(columns, names=["format", "horizon"])
    names = pd.Index(found["name"].unique(), name="model")
    return written.reindex(index=names, columns=columns).fillna("missing")


def lines(table: pd.DataFrame, protocol: str | None = None) -> pd.DataFrame:
    """Average what belongs into one figure: models, null models, the thesis's published figures.

    The thesis's models are set beside in the same protocol and formats. A model that is
    persistence itself is shown as the null model only. Where histories differ, names say which:
    what is forecast from other frames is another task.

    Returns:
        Columns: `name`, what a legend says; `kind`: `"model"`, `"persistence"`, `"moving null"`
        or `"thesis"`; `format`, `history`, `horizon`, `mean`, `low`, `high`, `std`, `n`. In rows
        of the thesis `low` and `high` are NaN; its three models start from 5, 1 and 3 frames.
    """
    table = one_protocol(table, protocol)
    check_same_samples(table)
    kinds = ["model", "persistence", "moving null", "thesis"]
    values = table.filter(regex="^(prediction|persistence|moving_null)_jaccard$")
    found = _averages(table, values, ["model", "format", "history", "horizon"])
    kind = found["measure"].str.removesuffix("_jaccard").str.replace("_", " ")
    found["kind"] = kind.replace("prediction", "model")
    null = found["kind"] != "model"
    found["name"] = found["model"].where(~null, found["kind"])
    if found.groupby("format")["history"].nunique().max() > 1:
        found.loc[null, "name"] += ", from " + found["history"].astype(str) + " frames"
    found = found[null | ~found["model"].isin(null_models(table))]
    # All models of a format agree in persistence, so its first mean is that of each of them.
    found = found.drop_duplicates(["name", "kind", "format", "history", "horizon"])
    theirs = published.thesis_figures().query("measure == 'prediction_jaccard'")
    for column in ("format", "protocol"):
        theirs = theirs[theirs[column].isin(table[column])]
    theirs = theirs.assign(name="thesis: " + theirs["model"], kind="thesis")
    found = pd.concat([found, theirs], ignore_index=True)
    found = found.sort_values("kind", key=lambda kind: kind.map(kinds.index), kind="stable")
    columns = ["name", "kind", "format", "history", "horizon", "mean", "low", "high", "std", "n"]
    return found[columns].reset_index(drop=True)


def breakdown(table: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Average the difference to persistence over parts of the samples, by what is in them.

    `groups` has one line for each sample, with its number as the index; each of its columns sorts
    the samples in one way. Returns what `means` does, with the columns `property` (one of
    `groups`), `group` and the mean `difference`.
    """
    table, parts = checked(table), []
    difference = _beside_persistence(table)[["difference"]]
    for name, column in groups.astype("category").items():
        labels = table["sample"].map(column)
        if labels.isna().any():
            raise ValueError(f"{labels.isna().sum()} rows of the table have no group in {name!r}.")
        found = _averages(table.assign(group=labels), difference, [*BY, "group"])
        found = found.sort_values("group", key=column.cat.categories.get_indexer, kind="stable")
        parts.append(found.assign(property=name, group=found["group"].astype(str)))
    found = pd.concat(parts, ignore_index=True)
    return found.drop(columns="measure").rename(columns={"mean": "difference"})


def cases(table: pd.DataFrame, count: int = 3, *, horizon: int = 1) -> pd.DataFrame:
    """Find the `count` samples in which each model gains and spoils most at a horizon.

    They are judged by the difference to persistence. Returns the columns of `BY` less `horizon`,
    `case` (from "best 1" to "worst 1"), `sample`, `prediction`, `persistence`, `difference`.
    """
    table, count = checked(table), whole("count", count, 1)
    choice("horizon", horizon, sorted(set(table["horizon"])))
    values, names, parts = _beside_persistence(table), list(BY[:-1]), []
    for _, rows in table[table["horizon"] == horizon].join(values).groupby(names, sort=False):
        rows = rows.sort_values(["difference", "sample"])
        each = min(count, len(rows) // 2) or 1
        rows = pd.concat([rows.head(each), rows.iloc[each:].tail(each)])
        told = [f"best {n + 1}" for n in range(each)] + [f"worst {n}" for n in range(each, 0, -1)]
        parts.append(rows.assign(case=told[: len(rows)]))
    return pd.concat(parts, ignore_index=True)[[*names, "case", "sample", *values]]


def one_protocol(table: pd.DataFrame, protocol: str | None = None) -> pd.DataFrame:
    """Return the rows of one protocol, checked; figures of two never share an axis, nor of cuts."""
    table = checked(table)
    if protocol is None:
        _refuse_mixed(table, "protocol", "The table", "Choose one with protocol=...")
    _refuse_mixed(table, "cut", "The table", "Choose one with table[table['cut'] == ...].")
    chosen = choice("protocol", protocol or table["protocol"].iloc[0], table["protocol"].unique())
    return table[table["protocol"] == chosen].reset_index(drop=True)


def _refuse_mixed(table: pd.DataFrame, column: str, what: str, remedy: str) -> None:
    """Refuse rows of several protocols, or of several cuts."""
    found = table[column].unique()
    if len(found) > 1:
        mixed = f"{what} mixes the {column}s {', '.join(found)}"
        raise ValueError(f"{mixed}; their figures cannot be compared. {remedy}")


def check_same_samples(table: pd.DataFrame) -> None:
    """Refuse a table whose models were, in one format, judged on other samples or other frames."""
    for name, rows in table.groupby("format", sort=False):
        counts = rows.groupby(["model", "protocol", "horizon"])["sample"].nunique()
        null = rows.groupby(["protocol", "history", "horizon", "sample"])["persistence_jaccard"]
        everyone, differs = rows["sample"].nunique(), (null.max() - null.min()).max()
        if counts.min() < everyone or differs > 1e-6:
            model, _, horizon = counts.idxmin()
            raise ValueError(
                f"{model} lacks {everyone - counts.min()} of {everyone} samples in {name} at "
                f"horizon {horizon}, and persistence differs between models by up to "
                f"{differs:.2g}. Evaluate them on the same samples and frames."
            )


def null_models(table: pd.DataFrame) -> list[str]:
    """Name the models that are persistence itself, in every row."""
    same = table["prediction_jaccard"].eq(table["persistence_jaccard"])
    same &= np.isclose(table["prediction_mse"], table["persistence_mse"])
    return [name for name, rows in same.groupby(table["model"]) if rows.all()]


def combine(*tables: pd.DataFrame) -> pd.DataFrame:
    """Put tables of one kind one below the other, for example those of several models."""
    tables = [checked(table) for table in tables]
    if len({tuple(table.columns) for table in tables}) != 1:
        raise ValueError("Expected tables with the same columns; combine each kind for itself.")
    return checked(pd.concat(tables, ignore_index=True))


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table to a CSV file, all of it or nothing; return the path."""
    content = checked(table).to_csv(index=False, lineterminator="\n", na_rep="nan")
    with _files.replacing(path) as file:
        file.write(content.encode())
    return Path(path)


def load(path: str | Path) -> pd.DataFrame:
    """Read a table that `save` wrote, to the last bit; one that is damaged is a ValueError."""
    content = Path(path).read_bytes()
    if not content.endswith(b"\n"):
        raise ValueError(f"{path} is cut short: its last line has no end. Evaluate again.")
    kinds = collections.defaultdict(lambda: float, dict.fromkeys(_KEYS[:4], str))
    kinds |= dict.fromkeys(_KEYS[4:], int)
    # Only a surface distance may be missing; a model may be called "NA".
    missing = {"keep_default_na": False, "na_values": dict.fromkeys(_SURFACE, "nan")}
    options = {"dtype": kinds, "float_precision": "round_trip", **missing}
    try:
        return checked(pd.read_csv(io.BytesIO(content), **options))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a table of results: {error}") from error


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of results with its columns in order, or say what is wrong with it."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"Expected a pandas table of results, found {type(table).__name__}.")
    if table.empty:
        raise ValueError("The table has no rows.")
    distances, shapes = _distance_columns(table), _BETTI[0] in table
    expected = [*_KEYS, *distances, *(_BETTI + _SURFACE if shapes else ())]
    if sorted(map(str, table)) != sorted(expected):
        raise ValueError(
            "The columns are not those of a table of results, each once; missing or unknown: "
            f"{sorted(map(str, {*expected} ^ {*table}))}. See next_frame and long_term."
        )
    table = table[expected].reset_index(drop=True)
    keys = table[_KEYS]
    wrong = keys.isna() | keys.eq("")
    known = [ROLLOUT] if ROLLOUT in set(table["protocol"]) else list(NEXT_FRAME_PROTOCOLS)
    wrong["protocol"] |= ~table["protocol"].isin(known)
    wrong["cut"] |= ~table["cut"].isin(metrics.CUTS)
    wrong[["history", "horizon"]] |= ~table[["history", "horizon"]].ge(1)
    wrong[distances] = ~(table[distances].ge(0) & table[distances].le(1))  # NaN is neither
    if shapes:
        wrong[_BETTI] = ~(table[_BETTI].ge(0) & table[_BETTI].mod(1).eq(0))
        for column in _SURFACE:  # none is defined where just one of two frames is empty
            pair = table[["truth_components", f"{column.split('_')[0]}_components"]].eq(0)
            undefined = pair.sum(axis=1).eq(1)
            wrong[column] = table[column].isna().ne(undefined) | table[column].lt(0)
    column = wrong.any().idxmax()
    if wrong[column].any():
        row = wrong[column].idxmax()
        raise ValueError(
            f"Column {column} has {wrong[column].sum()} values that are missing, NaN or outside "
            f"their range (distances: 0…1), first {table.at[row, column]} in row {row}."
        )
    twice = table.duplicated([*BY, "sample"])
    if twice.any():
        raise ValueError(
            f"{twice.sum()} rows repeat another one, first {keys.loc[twice.idxmax()].to_dict()}. "
            "Give different runs different names."
        )
    return table


def _distance_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of distances that a table must have: rollouts have more of them."""
    compared = _COMPARED if ROLLOUT in set(table.get("protocol", ())) else _COMPARED[:3]
    return [f"{what}_{kind}" for kind in ("jaccard", "mse") for what in compared]


def _evaluate(forecast, protocols, forecaster, sequences, history, cut, *labels, shape=False):
    """Judge batch by batch, so that only one batch is ever float32, and build the table.

    Of a batch, `forecast` returns the truth, the probabilities and the null models.
    """
    cuts, (frame_format, sample_id, batch_size, name) = _chosen("cut", cut, metrics.CUTS), labels
    name = getattr(forecaster, "name", "") if name is None else name
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"The model's name is {name!r}; give one with name=...")
    count, frames = sequences.shape[:2]
    if getattr(frame_format, "steps", frames) != frames:
        raise ValueError(
            f"The sequences have {frames} frames, {frame_format.name} has {frame_format.steps}; "
            "select them first with frame_format.select(frames)."
        )
    samples = np.arange(count) if sample_id is None else np.asarray(sample_id)
    if samples.dtype.kind not in "iu" or samples.shape != (count,) or len(set(samples)) < count:
        raise ValueError(
            f"sample_id has shape {samples.shape} and dtype {samples.dtype}; expected {count} "
            "different whole numbers, one for each sequence."
        )
    labels = {"model": name, "format": getattr(frame_format, "name", frame_format)}
    found = collections.defaultdict(list)
    for start in range(0, count, whole("batch_size", batch_size, 1)):
        batch = sequences[start : start + batch_size].astype(np.float32, copy=False)
        truth, predicted, *nulls = forecast(batch)
        for rule, protocol in itertools.product(cuts, protocols):
            arrays = truth, predicted, metrics.cut(predicted, rule), nulls
            measures = _measures(*arrays, _JACCARD[protocol], shape)
            horizons = measures["prediction_jaccard"].size // len(batch)  # (B,) or (B, horizon)
            rows = {each: array.ravel() for each, array in measures.items()}
            rows["horizon"] = np.tile(np.arange(1, horizons + 1), len(batch))
            rows["sample"] = np.repeat(samples[start : start + batch_size], horizons)
            rows |= labels | {"protocol": protocol, "cut": rule, "history": history}
            found[protocol, rule].append(pd.DataFrame(rows))
    return checked(pd.concat(itertools.chain(*found.values())))


def _chosen(what: str, names: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Return one name or several as a list, each of them known."""
    names = [names] if isinstance(names, str) else names
    return [choice(what, each, known) for each in names]


def _measures(truth, predicted, filled, nulls, jaccard, shape) -> dict[str, np.ndarray]:
    """Judge a batch: Jaccard distances and shapes of what is `filled`, errors of probabilities."""

    def pairs(forecast):
        yield truth, forecast
        for null in nulls:
            yield truth, null
            yield null, forecast

    found = {f"{what}_jaccard": jaccard(*pair) for what, pair in zip(_COMPARED, pairs(filled))}
    axes = tuple(range(found["prediction_jaccard"].ndim, truth.ndim))
    for what, (one, other) in zip(_COMPARED, pairs(predicted)):
        found[f"{what}_mse"] = np.square(one - other).mean(axis=axes, dtype=np.float64)
    if not shape:
        return found
    # The last observed frame is the same at every horizon.
    for who, array in (("truth", truth), ("prediction", filled), ("persistence", nulls[0][:, :1])):
        counts = topology.betti_numbers(array).astype(np.float64)
        counts = np.broadcast_to(counts, (*truth.shape[:2], 3))
        found |= {f"{who}_{what}": counts[..., n] for n, what in enumerate(topology.BETTI)}
    for who, array in (("prediction", filled), ("persistence", nulls[0])):
        distance = topology.surface_distance(truth, array)
        found |= {f"{who}_surface_mean": distance.mean, f"{who}_surface_95": distance.hausdorff_95}
    return found


def _beside_persistence(table: pd.DataFrame) -> pd.DataFrame:
    """Return the Jaccard distances of prediction and persistence, and their difference."""
    found = pd.DataFrame({w: table[f"{w}_jaccard"] for w in ("prediction", "persistence")})
    return found.assign(difference=found["prediction"] - found["persistence"])


def _averages(table: pd.DataFrame, values: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Average each column of `values` over the samples of each group that have them."""
    by, parts = [by] if isinstance(by, str) else list(by), []
    for key, rows in table.groupby(by, sort=False, observed=True):
        key = dict(zip(by, key))
        for column in ("protocol", "cut"):
            _refuse_mixed(rows, column, key, f"Add {column!r} to by.")
        counts = rows["sample"].value_counts()
        if counts.nunique() > 1:
            raise ValueError(
                f"In {key} some samples have {counts.max()} rows, others {counts.min()}: a mean "
                "would weigh them differently. Is a part of the table missing?"
            )
        sampled = values.loc[rows.index].groupby(rows["sample"]).mean().dropna()
        found = pd.DataFrame({**key, "measure": sampled.columns, "mean": sampled.mean().to_numpy()})
        # The same draws for every group of a size: what else is in the table changes nothing.
        ends = np.quantile(resampled(sampled), TAILS, axis=0) if len(sampled) > 1 else np.nan
        found[["low", "high"]] = np.broadcast_to(np.transpose(ends), (len(found), 2))
        parts.append(found.assign(std=sampled.std().to_numpy(), n=len(sampled)))
    return pd.concat(parts, ignore_index=True)


def resampled(values: pd.DataFrame) -> np.ndarray:
    """Return the means of resampled rows: (N, H) to (`RESAMPLES`, H)."""
    return _draws(len(values)) @ values.to_numpy() / len(values)


@functools.lru_cache(maxsize=2)
def _draws(count: int) -> np.ndarray:
    """Draw how often each of `count` rows is in each resample: (`RESAMPLES`, count)."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def _unbroken(better: np.ndarray) -> np.ndarray:
    """Count how many entries along the last axis are true before the first that is not."""
    return np.cumprod(better, axis=-1, dtype=np.int64).sum(axis=-1)
