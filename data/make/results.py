"""All results of the course, from weights and data: `python -m data.make.results --help`."""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import (
    _files,
    _processes,
    convlstm,
    evaluation,
    metrics,
    published,
    records,
    rollout,
    wgan_gp,
    workshop,
)
from helpers.models import cnn, register, shared, surfacenet
from helpers.models.shared import ROLLOUT_HISTORY
from helpers.models.weights import CheckpointError, read_card, write_card
from helpers.sequences import FORMATS, FrameFormat

RESULTS = published.COURSE_RESULTS
README = workshop.REPOSITORY / "README.md"
SAMPLE = workshop.REPOSITORY / "data" / "sample"
MARKS = "<!-- results: made by make results -->", "<!-- end of results -->"
HISTORY, HORIZON = ROLLOUT_HISTORY, 5  # of rollouts, as in the thesis
# Chosen once, on 640 validation sequences (cuts.csv): how forecasts are cut in the README and
# in the cards, and what is fed back, which is level with probabilities in the mean of all models.
# With few frames they are told at 0.5, beside the thesis's GANs, which know no other cut. The page
# of results shows both.
CUT, FEEDBACK = "expected", "expected"
CUT_AT = {"expected": "where the forecast itself expects the best distance", "half": "at 0.5"}
BATCH = 8  # sequences at a time: what a network makes of them stays in the processor's cache
TITLES = {
    "convlstm": "ConvLSTM",
    "cnn": "CNN",
    "surfacenet": "SurfaceNet",
    "wgan_gp": "WGAN-GP",
}
# The thesis's GANs see one frame or three. Ours, and the network that its generator began as, are
# judged with as few as well.
FEW, JUDGED_WITH_FEW = (1, 3), ("cnn", "wgan_gp")
# The models of the README's table, by the protocol that judges their next frame.
OVERVIEW = {"pooled": ("ConvLSTM", "SurfaceNet"), "per_frame": ("WGAN-GP, 3 frames",)}
JUDGED_AS = {"pooled": "the ConvLSTM", "per_frame": "the GAN"}
TRAINED_ON = "25,600 (10,000)"  # sequences: ours, and in brackets the thesis's
OF_THESIS = {None: "ConvLSTM3D", 1: "AEncGAN3D single-frame", 3: "AEncGAN3D three-frame"}


@dataclass(frozen=True)
class Case:
    """Shipped weights in one of their formats.

    Attributes:
        path: of the `.npz`.
        record: the JSON beside it.
        frame_format: one of those that the record names.
        frames: the model may look at so many of the latest frames; None is all that it can read.
    """

    path: Path
    record: dict
    frame_format: FrameFormat
    frames: int | None = None

    @property
    def title(self) -> str:
        """How tables call the model."""
        name = _name(self.path)
        few = f", {_frames(self.frames)}" if self.frames else ""
        return TITLES.get(name, name) + few

    @property
    def options(self) -> dict:
        """Those of its forecaster."""
        return {"frames": self.frames} if self.frames else {}

    @property
    def cut(self) -> str:
        """By which cut the README and its card tell its figures."""
        return "half" if self.frames else CUT

    @property
    def model(self) -> register.Model:
        """What is known of the model."""
        return register.MODELS[register.name_of(self.path, self.record)]

    @property
    def scout(self) -> Case | None:
        """The scout beside a SurfaceNet, if there is one; None for all else."""
        path = register.scout_of(self.path, self.model)
        return Case(path, read_card(path), self.frame_format) if path else None

    def cost(self) -> dict:
        """Return parameters, million multiply-adds of a forecast, and how it was trained."""
        kind, options = self.model.kind, {}
        config = kind.Config(**self.record["configuration"])
        parameters, trainings = _parameters(kind, config), _trainings(self.record)
        hardware = [self.record["machine"]["device"]]
        if scout := self.scout:
            options["scout"] = kind.Config(**scout.record["configuration"])
            parameters += _parameters(kind, options["scout"])
            trainings |= _trainings(scout.record)
            hardware.append(scout.record["machine"]["device"])
        return {
            "parameters": parameters,
            "million_multiply_adds": round(kind.multiply_adds(config, **options) / 1e6, 1),
            "training_minutes": round(sum(trainings.values()), 1),
            "hardware": "; ".join(dict.fromkeys(hardware)),
        }


def _name(path: Path) -> str:
    """Return the name of a file of weights, without that of a format at its end."""
    return re.sub(rf"_({'|'.join(FORMATS)})$", "", path.stem)


def _trainings(record: dict) -> dict[str, float]:
    """Return the minutes of a training and of all that it went on from, by the weights it made.

    So a training that several networks went on from is counted once.
    """
    own = {record["sha256"]: record["minutes"]}
    return own | (_trainings(record["began_with"]) if "began_with" in record else {})


@functools.lru_cache(maxsize=64)
def _parameters(kind, config) -> int:
    """Count the weights that a forecast takes, those of a critic left out."""
    model = kind.build(config)
    return getattr(model, "generator", model).count_params()


def cases(weights: Path = register.WEIGHTS, names: Sequence[str] = ()) -> list[Case]:
    """Find the shipped weights, in the order of `TITLES`, each in every format that it knows.

    A scout is part of the SurfaceNet.

    Args:
        weights: a folder of `.npz` files with their records.
        names: only files of these names, without the name of a format: `"convlstm"` for
            `convlstm_T20_TINC1.npz` and its like.

    Raises:
        FileNotFoundError: there are none, or none of one of the names.
        helpers.models.weights.CheckpointError: a card cannot be read.
    """
    files = {}
    for path in sorted(weights.glob("*.npz")):
        files.setdefault(_name(path), []).append(path)
    if missing := [name for name in names if name not in files]:
        raise FileNotFoundError(
            f"{weights} holds no weights {' or '.join(missing)}; there are: "
            f"{', '.join(files) or 'none'}."
        )
    found = []
    for path in (path for name in files for path in files[name] if not names or name in names):
        record = read_card(path)
        if not register.MODELS[register.name_of(path, record)].part:
            seen = (None, *(FEW if _name(path) in JUDGED_WITH_FEW else ()))
            parts = itertools.product(record["formats"], seen)
            found += [Case(path, record, FORMATS[name], frames) for name, frames in parts]
    if not found:
        asked = f"weights {' or '.join(names)}".rstrip()
        raise FileNotFoundError(f"{weights} holds no {asked} that forecast by themselves.")
    order = [*TITLES, *files]
    return sorted(found, key=lambda case: (order.index(_name(case.path)), case.frames or 0))


def evaluate(
    case: Case, frames: np.ndarray, sample_id: np.ndarray, work: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge a model in one format, or read what an earlier call has written.

    A model for any history forecasts the frames 1 to 19 (pooled and per frame) and rolls out from
    five frames to the end of the format. One that may look at one frame or at three forecasts the
    frames after them (per frame), and rolls out five steps from as many, as the thesis's GANs.

    Args:
        case: the weights.
        frames: (N, T, D, H, W), in this format.
        sample_id: (N,).
        work: the folder of the tables by sample. What is there is used only if it was made by the
            same weights, on the same samples.

    Returns:
        The tables of `helpers.evaluation.next_frame` and `long_term`.
    """
    note = _note(case, frames, sample_id)  # before the work, in which somebody may replace them
    *files, mark = _paths(case, work)
    if not _is_made(case, note, work):
        work.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        model = register.load(case.path, case.frame_format, **case.options)
        options = {
            "frame_format": case.frame_format,
            "sample_id": sample_id,
            "name": case.title,
            "batch_size": BATCH,
            "cut": metrics.CUTS,
        }
        protocols = ("per_frame",) if case.frames else ("pooled", "per_frame")
        history = case.frames or HISTORY
        horizon = HORIZON if case.frames else frames.shape[1] - history
        first = case.frames or 1
        next_frame = evaluation.next_frame(model, frames, protocols, first=first, **options)
        options |= {"history": history, "horizon": horizon, "feedback": FEEDBACK}
        for file, table in zip(files, (next_frame, evaluation.long_term(model, frames, **options))):
            evaluation.save(table, file)
        _files.write_json(mark, note | {"tables": [_files.digest(file) for file in files]})
        workshop.keras().utils.clear_session()
    return tuple(evaluation.load(file) for file in files)


def _paths(case: Case, work: Path) -> list[Path]:
    """Name the tables of a case and the note that tells what they were made from."""
    few = f", {_frames(case.frames)}" if case.frames else ""
    stem = f"{case.path.stem}{few}, {case.frame_format.name}"
    return [work / f"{stem}, next frame.csv", work / f"{stem}, rollout.csv", work / f"{stem}.json"]


def _note(case: Case, frames: np.ndarray, sample_id: np.ndarray) -> dict:
    networks = b"".join(
        part.path.read_bytes() + json.dumps(part.record.get("configuration")).encode()
        for part in (case, case.scout)
        if part
    )
    return {
        "code": _code(),
        "weights": hashlib.sha256(networks).hexdigest(),
        "samples": hashlib.sha256(np.ascontiguousarray(sample_id)).hexdigest(),
        "frames": hashlib.sha256(np.packbits(frames)).hexdigest(),
    }


@functools.cache
def _code() -> str:
    """Return a hash of all code that shapes a forecast, a distance or a table."""
    modules = (
        convlstm,
        evaluation,
        cnn,
        metrics,
        register,
        rollout,
        shared,
        surfacenet,
        wgan_gp,
    )
    paths = [*(Path(module.__file__) for module in modules), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _is_made(case: Case, note: dict, work: Path) -> bool:
    """Tell whether the tables of a case are there, made from what the note says."""
    *files, mark = _paths(case, work)
    # The note is written last: without it, or with another one, the tables are made again.
    if not mark.exists() or not all(file.exists() for file in files):
        return False
    try:
        found = _files.read_json(mark)
    except ValueError:
        return False
    return found == note | {"tables": [_files.digest(file) for file in files]}


def summary(case: Case, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the tables of a model, beside persistence, the thesis and the cost.

    Returns:
        One row for each protocol, cut and horizon. Columns: `model`, `format`, `protocol`, `cut`,
        `history`, `horizon`, `n` (samples); `jaccard` with its 95 % interval `low`, `high`; the
        same of `persistence`; `difference` to it, sample by sample; `thesis`, its published figure
        for the same protocol, horizon and number of frames (empty where it has none); and
        `Case.cost`.
    """
    by = ["model", "format", "protocol", "cut", "history", "horizon"]
    figures = published.thesis_figures().query("measure == 'prediction_jaccard'")
    figures = figures[figures["model"] == OF_THESIS.get(case.frames)]
    parts = []
    for table in tables:
        means = evaluation.means(table, by)
        ours = means[means["measure"] == "prediction_jaccard"]
        found = ours[[*by, "n", "mean", "low", "high"]].rename(columns={"mean": "jaccard"})
        measures = {"persistence": means[means["measure"] == "persistence_jaccard"]}
        skill = evaluation.skill(table, by)
        measures["difference"] = skill[skill["measure"] == "jaccard"]
        for name, rows in measures.items():
            renamed = {"mean": name, "low": f"{name}_low", "high": f"{name}_high"}
            found = found.merge(rows[[*by, *renamed]].rename(columns=renamed), on=by)
        by_theirs = [column for column in by[1:] if column != "cut"]  # they know one
        theirs = figures[[*by_theirs, "mean"]].rename(columns={"mean": "thesis"})
        parts.append(found.merge(theirs, "left", on=by_theirs))
    return pd.concat(parts, ignore_index=True).assign(**case.cost())


def by_sample(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the Jaccard distances of a model for each sample: a line for each format and cut.

    Args:
        tables: of one model, next frames pooled and rollouts.

    Returns:
        Indexed by `format`, `cut` and `sample`; columns: `next` and `step_1` … `step_5`.
    """
    rows = pd.concat(tables).query("protocol != 'per_frame' and horizon <= @HORIZON")
    steps = "step_" + rows["horizon"].astype(str)
    place = steps.where(rows["protocol"] == "rollout", "next")
    keys = ["format", "cut", "sample"]
    found = rows.assign(place=place)
    return found.pivot(index=keys, columns="place", values="prediction_jaccard").round(5)


def make(
    data: Path,
    work: Path,
    *,
    weights: Path = register.WEIGHTS,
    names: Sequence[str] = (),
    limit: int | None = None,
    processes: int = 1,
) -> dict[str, pd.DataFrame]:
    """Judge all shipped weights on the test split, or go on where an earlier call stopped.

    Args:
        data: a folder in thesis layout.
        work: for the tables by sample; see `evaluate`.
        weights, names: see `cases`.
        limit: only the first so many samples.
        processes: judge so many cases side by side, on one core each.

    Returns:
        `summary`, see `summary`; `skill_horizons`, see `helpers.evaluation.skill_horizon`; and
        `paired`, see `paired`, of the models that were judged on the thesis's test files.
    """
    found, points, sample_id = cases(weights, names), *_samples(data, limit)
    if processes > 1:
        _side_by_side(found, points, sample_id, work, (data, limit), processes)
    parts, rollouts, pairs = [], [], []
    bar = tqdm(found)
    for case in bar:
        bar.set_postfix_str(_describe(case))
        tables = evaluate(case, case.frame_format.select(points), sample_id, work)
        parts.append(summary(case, tables))
        rollouts.append(evaluation.skill_horizon(tables[-1]))
        if not case.frames:
            pairs += paired(tables)
    made = {"summary": parts, "skill_horizons": rollouts, "paired": pairs}
    return {name: pd.concat(part, ignore_index=True) for name, part in made.items() if part}


def paired(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Compare a model with the thesis's ConvLSTM on the same test files, both cut alike.

    Nothing is returned for other samples. See `helpers.evaluation.paired` for the columns.
    """
    if not published.THESIS_SAMPLES.exists():  # a run of an hour or two makes them
        return []
    thesis = published.thesis_samples()
    known = set(thesis["sample"])
    return [
        evaluation.paired(table[table["protocol"] != "per_frame"], thesis).drop(columns="measure")
        for table in tables
        if known.issuperset(table["sample"])
    ]


@functools.lru_cache(maxsize=1)
def _samples(data: Path, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return all time points (N, 128, D, H, W) of the test split, and their sample numbers."""
    split = records.open_split(data, "test", limit)
    return split.frames(np.arange(len(split))[:limit]), split.sample_id[:limit]


def _describe(case: Case) -> str:
    return f"{case.title}: {case.frame_format.name}"


def _side_by_side(todo, points, sample_id, work, source, processes: int) -> None:
    """Write the tables of the cases that have none, in several processes of one core each.

    A network this small keeps one core busy, but not two: two processes are faster than one.
    """
    missing = []
    for case in todo:
        note = _note(case, case.frame_format.select(points), sample_id)
        if not _is_made(case, note, work):
            missing.append(case)
    if len(missing) < 2:
        return
    # A process that TensorFlow has threads in must not be forked.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(missing)), spawn, initializer=_use_one_core)
    try:
        running = {pool.submit(_judge, case, source, work): case for case in missing}
        for done in tqdm(as_completed(running), total=len(running), desc="judged"):
            done.result()
            tqdm.write(_describe(running[done]), sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)


def _use_one_core() -> None:
    _processes.end_with_parent()
    tf = workshop.tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _judge(case: Case, source: tuple[Path, int | None], work: Path) -> None:
    points, sample_id = _samples(*source)
    evaluate(case, case.frame_format.select(points), sample_id, work)


def page(found: dict[str, pd.DataFrame]) -> str:
    """Write the tables of data/results/README.md: Markdown, from those of `make`."""
    table, horizons = found["summary"], found["skill_horizons"]
    lines = [
        f"Test sequences: {', '.join(f'{n:,}' for n in sorted(set(table['n'])))} in each format. "
        "Mean Jaccard distance, lower is better, ± the longer arm of the 95 % interval (bootstrap "
        "over sequences). All models of a table are cut alike. In brackets the thesis's figure, "
        "over 992 of them, cut at 0.5: of its GAN where a model saw no more than one "
        "frame or three, of its ConvLSTM for all others. "
        "**Bold** where our whole interval lies below it.",
    ]
    shown = [("pooled", 1), ("per_frame", 1), ("rollout", HORIZON)]
    for rule, (protocol, horizon) in itertools.product(CUT_AT, shown):
        chosen = table[table["cut"].eq(rule) & table["protocol"].eq(protocol)]
        for history, group in chosen[chosen["horizon"] == horizon].groupby("history"):
            lines += ["", _label(protocol, history, horizon, rule), "", *_head()]
            lines.append(_line("persistence", group, _null))
            for title, rows in group.groupby("model", sort=False):
                lines.append(_line(title, rows, _mean))
    lines += [
        "",
        "*Skill horizon*, in steps: the last step up to which a model beats persistence (in "
        "brackets: up to which the whole 95 % interval does); a + says that we looked no farther.",
    ]
    for rule, group in horizons.groupby("cut"):
        lines += ["", f"Cut {CUT_AT[rule]}:", "", *_head()]
        for title, rows in group.groupby("model", sort=False):
            lines.append(_line(f"{title}, from {_frames(rows['history'].iloc[0])}", rows, _steps))
    if "paired" in found:
        lines += _beside_the_thesis(found["paired"])
    lines += ["", "What it costs, beside the thesis's ConvLSTM:", "", *_costs(table)]
    return "\n".join(lines)


def _beside_the_thesis(pairs: pd.DataFrame) -> list[str]:
    lines = [
        "",
        "*Minus the thesis's ConvLSTM*, its own weights on the same files, sample by sample, with "
        "the 95 % interval; **bold** where all of it lies below 0, so that ours is better:",
    ]
    tasks = [("pooled", 1), *(("rollout", step) for step in range(1, HORIZON + 1))]
    for rule, (title, rows) in itertools.product(CUT_AT, pairs.groupby("model", sort=False)):
        lines += ["", f"{title}, both cut {CUT_AT[rule]}:", "", *_head()]
        for protocol, horizon in tasks:
            chosen = rows[rows["cut"].eq(rule) & rows["protocol"].eq(protocol)]
            ahead = "next frame, pooled" if protocol == "pooled" else f"{horizon} steps ahead"
            lines.append(_line(ahead, chosen[chosen["horizon"] == horizon], _difference))
    return lines


def _difference(row: pd.Series) -> str:
    text = f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"**{text}**" if row["high"] < 0 else text


def _frames(count: int) -> str:
    return "one frame" if count == 1 else f"{count} frames"


def _label(protocol: str, history: int, horizon: int, rule: str) -> str:
    cut = f"cut {CUT_AT[rule]}"
    if protocol == "rollout":
        return f"*{horizon} steps ahead*, from {_frames(history)}, forecasts fed back, {cut}:"
    way = "over all 19 frames together (*pooled*)"
    if protocol == "per_frame":
        way = f"frame by frame (*per frame*), with at least {_frames(history)} before"
    return f"*Next frame*, {way}, {cut}:"


def _head() -> list[str]:
    formats = list(FORMATS)
    return ["| model | " + " | ".join(formats) + " |", "| --- |" + " --- |" * len(formats)]


def _line(title: str, rows: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
    """Write a row of the page; a format without a figure is a dash."""
    rows = rows.drop_duplicates("format").set_index("format")
    cells = [cell(rows.loc[name]) if name in rows.index else "–" for name in FORMATS]
    return f"| {title} | " + " | ".join(cells) + " |"


def _null(row: pd.Series) -> str:
    return _plus_minus(row["persistence"], row["persistence_low"], row["persistence_high"])


def _mean(row: pd.Series) -> str:
    text = _plus_minus(row["jaccard"], row["low"], row["high"])
    if np.isnan(row["thesis"]):
        return text
    text += f" ({row['thesis']:.4f})"
    return f"**{text}**" if row["high"] < row["thesis"] else text


def _plus_minus(mean: float, low: float, high: float) -> str:
    return f"{mean:.4f} ± {max(high - mean, mean - low):.4f}"


def _steps(row: pd.Series) -> str:
    end = "+" if row["steps"] == row["longest"] else ""
    return f"{row['steps']}{end} ({row['shown']})"


def _costs(table: pd.DataFrame) -> list[str]:
    thesis = convlstm.thesis()
    lines = [
        "| model | parameters | million multiply-adds a forecast | training |",
        "| --- | --- | --- | --- |",
        f"| ConvLSTM3D of the thesis | {convlstm.build(thesis).count_params():,} | "
        f"{convlstm.multiply_adds(thesis) / 1e6:,.0f} | six hours a format, GPU |",
    ]
    for title, rows in table.groupby("model", sort=False):
        first = rows.iloc[0]
        minutes = rows.groupby("format", sort=False)["training_minutes"].first()
        spent = " / ".join(f"{each:.0f}" for each in minutes)
        if minutes.nunique() == 1 and len(minutes) > 1:
            spent = f"{minutes.iloc[0]:.0f} for all formats"
        lines.append(
            f"| {title} | {first['parameters']:,} | {first['million_multiply_adds']:,.0f} | "
            f"minutes: {spent}; {first['hardware']} |"
        )
    if TITLES["surfacenet"] in set(table["model"]):
        lines += [
            "",
            "What a SurfaceNet multiplies depends on the frame: here 900 voxels near a surface, "
            "about as in T20 and T40 (T80: 1,800), of which the large network looks at one in "
            "five.",
        ]
    return lines


def overview(found: dict[str, pd.DataFrame]) -> str:
    """Write the README's table, five rows of the results that matter: Markdown.

    A figure is bold where the whole interval lies below both the thesis's figure and persistence.
    """
    formats = " | ".join(name.partition("_")[0] for name in FORMATS)
    lines = [
        f"| model | trained on | next frame: {formats} | {HORIZON} steps ahead: {formats} |",
        "| --- | --- |" + " --- |" * 2 * len(FORMATS),
    ]
    index = ["model", "protocol", "horizon", "format"]
    table = found["summary"]
    for protocol, titles in OVERVIEW.items():
        cut = CUT if protocol == "pooled" else "half"
        rows = table[table["cut"] == cut].drop_duplicates(index).set_index(index).sort_index()
        tasks = (protocol, 1), ("rollout", HORIZON)
        places = [(*task, name) for task in tasks for name in FORMATS]
        null = _cells(rows, titles[0], places, lambda row: f"{row['persistence']:.3f}")
        lines.append(f"| persistence, judged as {JUDGED_AS[protocol]} | – | {null} |")
        for title in titles:
            cells = _cells(rows, title, places, _beside_thesis)
            lines.append(f"| {title} | {TRAINED_ON} | {cells} |")
    return "\n".join(lines)


def _cells(rows: pd.DataFrame, title: str, places, cell: Callable[[pd.Series], str]) -> str:
    keys = [(title, *place) for place in places]
    return " | ".join(cell(rows.loc[key]) if key in rows.index else "–" for key in keys)


def _beside_thesis(row: pd.Series) -> str:
    text = f"{row['jaccard']:.3f} ({row['thesis']:.3f})"
    better = row["high"] < row["thesis"] and row["difference_high"] < 0
    return f"**{text}**" if better else text


# What `make results` writes between the marks of a file.
PAGES = {README: overview, RESULTS / "README.md": page}


def write(
    found: dict[str, pd.DataFrame],
    out: Path,
    pages: Mapping[Path, Callable[[dict[str, pd.DataFrame]], str]] = PAGES,
) -> None:
    """Write the tables as CSV files, and what `pages` makes of them between the marks of a file."""
    texts = {path: path.read_text("utf-8") for path in pages}
    for path, text in texts.items():
        if any(text.count(mark) != 1 for mark in MARKS):
            raise ValueError(f"{path} must hold the marks {' and '.join(MARKS)}, once each.")
    with _files.writing(out, "choose another folder"):
        out.mkdir(parents=True, exist_ok=True)
        published.save_results(found, out)
    saved = published.course_results(
        out
    )  # from the files, so that both say the same to the last digit
    for path, text in texts.items():
        head, rest = text.split(MARKS[0])
        _, tail = rest.split(MARKS[1])
        with _files.replacing(path) as file:
            file.write(f"{head}{MARKS[0]}\n\n{pages[path](saved)}\n\n{MARKS[1]}{tail}".encode())


def note_in_cards(found: dict[str, pd.DataFrame], weights: Path) -> None:
    """Write the figures of the next frame and of five steps ahead into the cards of the weights."""
    table = found["summary"].query("horizon <= @HORIZON").round(5)
    for case in cases(weights):
        if case.frames:
            continue  # the tables tell these
        rows = table[(table["model"] == case.title) & (table["format"] == case.frame_format.name)]
        rows = rows[rows["cut"] == case.cut]
        figures = {
            f"{row.protocol}, horizon {row.horizon}": {
                name: {"mean": mean, "interval": [low, high], "n": row.n}
                for name, mean, low, high in (
                    ("prediction", row.jaccard, row.low, row.high),
                    ("persistence", row.persistence, row.persistence_low, row.persistence_high),
                )
            }
            for row in rows.itertuples()
        }
        card = read_card(case.path)
        card["test"] = card.get("test", {}) | {"cut": case.cut, case.frame_format.name: figures}
        write_card(case.path, card)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all results of the course from its weights and the thesis's test records."""
    parser = argparse.ArgumentParser(prog="python -m data.make.results", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in thesis layout")
    parser.add_argument(
        "--work", type=Path, required=True, help="for the tables by sample; resumes there"
    )
    parser.add_argument(
        "--weights", type=Path, default=register.WEIGHTS, help="a folder of .npz files"
    )
    parser.add_argument("--models", nargs="+", default=[], help="only these, for example: wgan_gp")
    parser.add_argument(
        "--out", type=Path, help="for the CSV files; then no page of the course is changed"
    )
    parser.add_argument("--limit", type=int, help="only the first so many samples")
    parser.add_argument(
        "--processes",
        type=int,
        default=workshop.cores(),
        help="so many models at the same time, on one core each",
    )
    options = parser.parse_args(arguments)
    if (options.models or options.limit) and not options.out:
        parser.error("a part of the results goes elsewhere: give --out")
    own = options.data.resolve() == SAMPLE or options.weights.resolve() != register.WEIGHTS
    if own and not options.out:
        parser.error("results of the sample set or of other weights go elsewhere: give --out")
    try:
        found = make(
            options.data,
            options.work,
            weights=options.weights,
            names=options.models,
            limit=options.limit,
            processes=options.processes,
        )
        write(found, options.out or RESULTS, {} if options.out else PAGES)
        if not options.out:
            note_in_cards(found, options.weights)
    except (OSError, ValueError, CheckpointError, BrokenProcessPool) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    print(page(published.course_results(options.out or RESULTS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
