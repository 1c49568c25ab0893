"""All results of the course, from weights and data: `python -m data.make.results --help`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    records,
    rollout,
    wgan_gp,
    workshop,
)
from helpers.models import patchnet, register, shared, surfacenet
from helpers.models.shared import ROLLOUT_HISTORY
from helpers.models.weights import CheckpointError, read_card
from helpers.sequences import FORMATS, FrameFormat

RESULTS = evaluation.COURSE_RESULTS
README = workshop.REPOSITORY / "README.md"
SAMPLE = workshop.REPOSITORY / "data" / "sample"
MARKS = "<!-- results: made by make results -->", "<!-- end of results -->"
HISTORY, HORIZON = ROLLOUT_HISTORY, 5  # of rollouts, as in the thesis
BATCH = 8  # sequences at a time: what a network makes of them stays in the processor's cache
REMEMBERED = 64  # sequences whose forecasts are kept for the next case: up to 120 MB in all
TITLES = {
    "convlstm": "ConvLSTM",
    "patchnet": "PatchNet",
    "patchnet, mirrorings": "PatchNet, mean of eight mirrorings",
    "surfacenet": "SurfaceNet",
    "surfacenet, together": "SurfaceNet and PatchNet, mean",
    "wgan_gp_1": "WGAN-GP, one frame",
    "wgan_gp_1_alone": "its generator alone, one frame",
    "wgan_gp_3": "WGAN-GP, three frames",
    "wgan_gp_3_alone": "its generator alone, three frames",
}
# The models of the README's table, by the protocol that judges their next frame.
OVERVIEW = {"pooled": ("convlstm", "surfacenet"), "per_frame": ("wgan_gp_3",)}
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
        variant: the way to use a PatchNet or SurfaceNet, one of `register.VARIANTS`; others know no
            other way.
    """

    path: Path
    record: dict
    frame_format: FrameFormat
    variant: str = "thresholds"

    @property
    def title(self) -> str:
        """How tables call the model."""
        name = _name(self.path)
        if self.variant != "thresholds":
            name += f", {self.variant}"
        return TITLES.get(name, name)

    @property
    def mirrored(self) -> bool:
        """Whether each forecast is an average over the eight mirrorings."""
        return self.variant == "mirrorings"

    @property
    def partner(self) -> Case | None:
        """The PatchNet that the mean of two networks takes in; None for all else."""
        if self.variant != "together":
            return None
        path = register.partner(self.path)
        return Case(path, read_card(path), self.frame_format)

    @property
    def scout(self) -> Case | None:
        """The scout beside a SurfaceNet, if there is one; None for all else."""
        return self._beside("scout")

    @property
    def follower(self) -> Case | None:
        """The follower beside a SurfaceNet, if there is one; None for all else."""
        return self._beside("follower")

    def _beside(self, name: str) -> Case | None:
        model = _model(self)
        known = name in model.beside and not model.part  # a part is judged with the whole
        path = register.beside(self.path, name if known else None)
        return Case(path, read_card(path), self.frame_format) if path else None

    @property
    def frames(self) -> int | None:
        """How many frames a WGAN-GP reads; None for a model that takes any history."""
        return self.record["configuration"].get("frames")

    def cost(self) -> dict:
        """Return parameters, million multiply-adds of a forecast, and how it was trained."""
        kind = _model(self).kind
        config = kind.Config(**self.record["configuration"])
        multiply_adds = kind.multiply_adds(config)
        if self.scout:
            small = kind.Config(**self.scout.record["configuration"])
            multiply_adds = kind.multiply_adds(config, scout=small)
        copies = register.VARIANTS[self.variant].get("symmetries", 1)
        parameters, trainings = _parameters(kind, config), _trainings(self.record)
        multiply_adds *= copies
        hardware = [self.record["machine"]["device"]]
        for part in (self.scout, self.follower, self.partner):
            if part is None:
                continue
            other = part.cost()
            parameters += other["parameters"]
            if part == self.partner:  # others: counted already, or not asked for the next frame
                multiply_adds += 1e6 * other["million_multiply_adds"]
            trainings |= _trainings(part.record)
            hardware.append(other["hardware"])
        return {
            "parameters": parameters,
            "million_multiply_adds": round(multiply_adds / 1e6, 1),
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
    variables = getattr(model, "generator_variables", model.trainable_variables)
    return sum(int(np.prod(variable.shape)) for variable in variables)


def cases(weights: Path = register.WEIGHTS, names: Sequence[str] = ()) -> list[Case]:
    """Find the shipped weights, in the order of `TITLES`, each in every format that it knows.

    A PatchNet comes twice: as it is, and averaged over the mirrorings. So does a SurfaceNet with a
    PatchNet beside it: as it is, and averaged with that. A scout and a follower are parts of the
    SurfaceNet.

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
        model = register.MODELS[register.name_of(path, record)]
        if model.part:
            continue  # it forecasts for another
        for name in record["formats"]:
            case = Case(path, record, FORMATS[name])
            found.append(case)
            if model.partner and not register.partner(path).exists():
                continue
            found += [dataclasses.replace(case, variant=each) for each in model.judged_too]
    if not found:
        asked = f"weights {' or '.join(names)}".rstrip()
        raise FileNotFoundError(f"{weights} holds no {asked} that forecast by themselves.")
    places = {title: place for place, title in enumerate(TITLES.values())}
    return sorted(found, key=lambda case: places.get(case.title, len(places)))


def groups(found: Sequence[Case]) -> list[list[Case]]:
    """Put cases together that can share forecasts: networks that a mean is taken of, in a format.

    Those that take longest come first, so that no process is left with one of them at the end.
    """
    together = {}
    for case in found:
        shared = _model(case).several
        key = (None if shared else case.path, case.frame_format)
        together.setdefault(key, []).append(case)
    return sorted(together.values(), key=len, reverse=True)


def evaluate(
    group: Sequence[Case], frames: np.ndarray, sample_id: np.ndarray, work: Path
) -> list[tuple[pd.DataFrame, ...]]:
    """Judge models in one format, or read what an earlier call has written.

    A model for any history forecasts the frames 1 to 19 (pooled and per frame) and rolls out from
    five frames to the end of the format. A WGAN-GP forecasts the frames from the first that it
    can (per frame) and rolls out five steps from as many as it reads, as the thesis's GANs. A
    mirrored case, eight times the work, rolls out five steps and does nothing else.

    Args:
        group: cases of one format, see `groups`.
        frames: (N, T, D, H, W), in this format.
        sample_id: (N,).
        work: the folder of the tables by sample. What is there is used only if it was made by the
            same weights, on the same samples. The tables of a group are written at its end.

    Returns:
        For each case the tables of `helpers.evaluation.next_frame` and `long_term`; of a mirrored
        case the latter alone.
    """
    # Before the work, in which somebody may replace the weights.
    notes = [_note(case, frames, sample_id) for case in group]
    todo = [(case, note) for case, note in zip(group, notes) if not _is_made(case, note, work)]
    if todo:
        missing = [case for case, _ in todo]
        work.mkdir(parents=True, exist_ok=True)
        kept, models, parts = {}, [], [[] for _ in missing]
        for case in missing:
            _paths(case, work)[-1].unlink(missing_ok=True)
            options = dict(register.VARIANTS[case.variant])
            if _model(case).several and len(missing) > 1:
                options["kept"] = kept
            models.append(register.load(case.path, case.frame_format, **options))
        for start in range(0, len(frames), REMEMBERED):
            chosen = slice(start, start + REMEMBERED)
            for case, model, found in zip(missing, models, parts):
                found.append(_tables(case, model, frames[chosen], sample_id[chosen]))
            kept.clear()
        for (case, note), found in zip(todo, parts):
            *files, mark = _paths(case, work)
            for file, tables in zip(files, zip(*found), strict=True):
                evaluation.save(pd.concat(tables, ignore_index=True), file)
            _files.write_json(mark, note | {"tables": [_files.digest(file) for file in files]})
        workshop.keras().utils.clear_session()
    return [tuple(evaluation.load(file) for file in _paths(case, work)[:-1]) for case in group]


def _model(case: Case) -> register.Model:
    return register.MODELS[register.name_of(case.path, case.record)]


def _tables(case: Case, model, frames, sample_id) -> list[pd.DataFrame]:
    """Judge a model on some samples; see `evaluate`."""
    options = {
        "frame_format": case.frame_format,
        "sample_id": sample_id,
        "name": case.title,
        "batch_size": BATCH,
    }
    first, protocols = case.frames or 1, ("per_frame",) if case.frames else ("pooled", "per_frame")
    history = case.frames or HISTORY
    horizon = HORIZON if case.frames or case.mirrored else frames.shape[1] - history
    tables = []
    if not case.mirrored:
        tables.append(evaluation.next_frame(model, frames, protocols, first=first, **options))
    tables.append(evaluation.long_term(model, frames, history=history, horizon=horizon, **options))
    return tables


def _paths(case: Case, work: Path) -> list[Path]:
    """Name the tables of a case and the note that tells what they were made from."""
    stem, tables = f"{case.path.stem}, {case.frame_format.name}", ["next frame", "rollout"]
    if case.variant != "thresholds":
        stem = f"{stem}, {case.variant}"
    if case.mirrored:
        tables = ["rollout"]
    return [*(work / f"{stem}, {table}.csv" for table in tables), work / f"{stem}.json"]


def _note(case: Case, frames: np.ndarray, sample_id: np.ndarray) -> dict:
    parts = [part for part in (case, case.partner, case.scout, case.follower) if part]
    networks = b"".join(
        part.path.read_bytes() + json.dumps(part.record.get("configuration")).encode()
        for part in parts
    )
    shares = {"shares": case.record.get(register.SHARES)} if case.partner else {}
    return shares | {
        "code": _code(),
        "weights": hashlib.sha256(networks).hexdigest(),
        "thresholds": case.record.get(register.thresholds_name(case.variant)),
        "samples": hashlib.sha256(np.ascontiguousarray(sample_id)).hexdigest(),
        "frames": hashlib.sha256(np.packbits(frames)).hexdigest(),
    }


@functools.cache
def _code() -> str:
    """Return a hash of all code that shapes a forecast, a distance or a table."""
    modules = (
        convlstm,
        evaluation,
        metrics,
        patchnet,
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
        One row for each protocol and horizon. Columns: `model`, `format`, `protocol`, `history`,
        `horizon`, `n` (samples); `jaccard` with its 95 % interval `low`, `high`; the same of
        `persistence`; `difference` to it, sample by sample; `thesis`, its published figure for
        the same protocol, horizon and number of frames (empty where it has none); and
        `Case.cost`.
    """
    by = ["model", "format", "protocol", "history", "horizon"]
    published = evaluation.thesis_figures().query("measure == 'prediction_jaccard'")
    published = published[published["model"] == OF_THESIS.get(case.frames)]
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
        theirs = published[[*by[1:], "mean"]].rename(columns={"mean": "thesis"})
        parts.append(found.merge(theirs, "left", on=by[1:]))
    return pd.concat(parts, ignore_index=True).assign(**case.cost())


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
        processes: judge so many groups of cases side by side, on one core each.

    Returns:
        `summary`, see `summary`; `skill_horizons`, see `helpers.evaluation.skill_horizon`.
    """
    found, points, sample_id = cases(weights, names), *_samples(data, limit)
    parts, rollouts = [], []
    if processes > 1:
        _side_by_side(found, points, sample_id, work, (data, limit), processes)
    tables_of = dict(_progress(groups(found), points, sample_id, work))
    for case in found:
        tables = tables_of[_paths(case, work)[-1]]
        parts.append(summary(case, tables))
        if not case.mirrored:
            rollouts.append(evaluation.skill_horizon(tables[-1]))
    return {
        "summary": pd.concat(parts, ignore_index=True),
        "skill_horizons": pd.concat(rollouts, ignore_index=True),
    }


@functools.lru_cache(maxsize=1)
def _samples(data: Path, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return all time points (N, 128, D, H, W) of the test split, and their sample numbers."""
    split = records.open_split(data, "test", limit)
    return split.frames(np.arange(len(split))[:limit]), split.sample_id[:limit]


def _progress(todo, points, sample_id, work) -> Iterator[tuple[Path, tuple]]:
    """Yield the mark and the tables of each case, group by group."""
    bar = tqdm(todo)
    for group in bar:
        bar.set_postfix_str(_describe(group))
        frames = group[0].frame_format.select(points)
        for case, tables in zip(group, evaluate(group, frames, sample_id, work)):
            yield _paths(case, work)[-1], tables


def _describe(group: Sequence[Case]) -> str:
    return f"{' + '.join(case.title for case in group)}: {group[0].frame_format.name}"


def _side_by_side(todo, points, sample_id, work, source, processes: int) -> None:
    """Write the tables of the cases that have none, in several processes of one core each.

    A network this small keeps one core busy, but not two: two processes are faster than one.
    """
    missing = []
    for group in groups(todo):
        frames = group[0].frame_format.select(points)
        if not all(_is_made(case, _note(case, frames, sample_id), work) for case in group):
            missing.append(group)
    if len(missing) < 2:
        return
    # A process that TensorFlow has threads in must not be forked.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(missing)), spawn, initializer=_use_one_core)
    try:
        running = {pool.submit(_judge, group, source, work): group for group in missing}
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


def _judge(group: Sequence[Case], source: tuple[Path, int | None], work: Path) -> None:
    points, sample_id = _samples(*source)
    evaluate(group, group[0].frame_format.select(points), sample_id, work)


def page(found: dict[str, pd.DataFrame]) -> str:
    """Write the tables of data/results/README.md: Markdown, from those of `make`."""
    table, horizons = found["summary"], found["skill_horizons"]
    lines = [
        f"Test sequences: {', '.join(f'{n:,}' for n in sorted(set(table['n'])))} in each format. "
        "Mean Jaccard distance, lower is better, ± the longer arm of the 95 % interval (bootstrap "
        "over sequences). In brackets the thesis's figure, over 992 of them: of its GAN with as "
        "many frames for a WGAN-GP or its generator alone, of its ConvLSTM for all others. "
        "**Bold** where our whole interval lies below it.",
    ]
    shown = [("pooled", 1), ("per_frame", 1), ("rollout", HORIZON)]
    for protocol, horizon in shown:
        chosen = table[(table["protocol"] == protocol) & (table["horizon"] == horizon)]
        for history, group in chosen.groupby("history"):
            lines += ["", _label(protocol, history, horizon), "", *_head()]
            lines.append(_line("persistence", group, _null))
            for title, rows in group.groupby("model", sort=False):
                lines.append(_line(title, rows, _mean))
    lines += [
        "",
        "*Skill horizon*, in steps: the last step up to which a model beats persistence (in "
        "brackets: up to which the whole 95 % interval does); a + says that we looked no farther.",
        "",
        *_head(),
    ]
    for title, rows in horizons.groupby("model", sort=False):
        lines.append(_line(f"{title}, from {_frames(rows['history'].iloc[0])}", rows, _steps))
    lines += ["", "What it costs, beside the thesis's ConvLSTM:", "", *_costs(table)]
    return "\n".join(lines)


def _frames(count: int) -> str:
    return "one frame" if count == 1 else f"{count} frames"


def _label(protocol: str, history: int, horizon: int) -> str:
    if protocol == "rollout":
        return f"*{horizon} steps ahead*, from {_frames(history)}, forecasts fed back:"
    way = "over all 19 frames together (*pooled*)"
    if protocol == "per_frame":
        way = f"frame by frame (*per frame*), with at least {_frames(history)} before"
    return f"*Next frame*, {way}:"


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
            "five. Its follower, asked for the frames after the next one, is not counted there.",
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
    rows = found["summary"].drop_duplicates(index).set_index(index).sort_index()
    for protocol, names in OVERVIEW.items():
        tasks = (protocol, 1), ("rollout", HORIZON)
        places = [(*task, name) for task in tasks for name in FORMATS]
        null = _cells(rows, names[0], places, lambda row: f"{row['persistence']:.3f}")
        lines.append(f"| persistence, judged as {JUDGED_AS[protocol]} | – | {null} |")
        for name in names:
            cells = _cells(rows, name, places, _beside_thesis)
            lines.append(f"| {TITLES[name]} | {TRAINED_ON} | {cells} |")
    return "\n".join(lines)


def _cells(rows: pd.DataFrame, name: str, places, cell: Callable[[pd.Series], str]) -> str:
    keys = [(TITLES[name], *place) for place in places]
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
        evaluation.save_results(found, out)
    saved = evaluation.course_results(
        out
    )  # from the files, so that both say the same to the last digit
    for path, text in texts.items():
        head, rest = text.split(MARKS[0])
        _, tail = rest.split(MARKS[1])
        with _files.replacing(path) as file:
            file.write(f"{head}{MARKS[0]}\n\n{pages[path](saved)}\n\n{MARKS[1]}{tail}".encode())


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
    parser.add_argument(
        "--models", nargs="+", default=[], help="only these, for example: wgan_gp_3"
    )
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
    except (OSError, ValueError, CheckpointError, BrokenProcessPool) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    print(page(evaluation.course_results(options.out or RESULTS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
