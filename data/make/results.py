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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.make import cards
from data.make.shared import command
from helpers import _files, _processes, convlstm, evaluation, metrics, published, records, workshop
from helpers.models import register, surfacenet
from helpers.models.shared import ROLLOUT_HISTORY
from helpers.models.weights import read_card, write_card
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
# Near how many voxels a SurfaceNet looks (see its multiply_adds), by the time step of the format:
# for the next frame; for five frames everywhere as many.
NEXT_VOXELS, FIVE_VOXELS = {1: 900, 2: 900, 4: 1800}, 3100


@dataclass(frozen=True)
class Case:
    """Shipped weights and their card, in one of their formats.

    The model may look at so many of the latest `frames`; None is all that it can read.
    """

    path: Path
    record: dict
    frame_format: FrameFormat
    frames: int | None = None

    @property
    def title(self) -> str:
        """How tables call the model."""
        name = _name(self.path)
        return TITLES.get(name, name) + (f", {_frames(self.frames)}" if self.frames else "")

    @property
    def cut(self) -> str:
        """By which cut the README and its card tell its figures."""
        return "half" if self.frames else CUT

    @property
    def model(self) -> register.Model:
        """What is known of the model."""
        return register.MODELS[register.name_of(self.path, self.record)]

    @property
    def parts(self) -> list[tuple[Path, dict]]:
        """Its weights and their card, and those of the scout beside a SurfaceNet."""
        scout = register.scout_of(self.path, self.model)
        return [(self.path, self.record), *([(scout, read_card(scout))] if scout else [])]

    def cost(self) -> dict:
        """Return parameters, million multiply-adds, and how it was trained.

        The multiply-adds are those of one forecast after five frames: of the next one, and of the
        next five. A ConvLSTM reads the five frames first, and each one that it has forecast.
        """
        kind, cards = self.model.kind, [card for _, card in self.parts]
        config, *scouts = (kind.Config(**card["configuration"]) for card in cards)
        costs = [kind.multiply_adds(config)] * 2
        if kind is convlstm:
            costs = [HISTORY * costs[0], (HISTORY + HORIZON - 1) * costs[0]]
        elif kind is surfacenet:
            voxels = NEXT_VOXELS[self.frame_format.TINC], FIVE_VOXELS
            scout = scouts[0] if scouts else None
            costs = [kind.multiply_adds(config, count, scout) for count in voxels]
        return {
            "parameters": sum(_parameters(kind, each) for each in (config, *scouts)),
            "million_next_frame": round(costs[0] / 1e6),
            "million_five_frames": round(costs[1] / 1e6),
            "training_sequences": sum(card["examples_in_all"] for card in cards),
            "training_minutes": round(sum(card["minutes_in_all"] for card in cards), 1),
            "hardware": "; ".join(dict.fromkeys(card["machine"]["device"] for card in cards)),
        }


def costs(found: Sequence[Case]) -> pd.DataFrame:
    """Return `Case.cost` of each model in each format, beside the thesis's ConvLSTM.

    A network for all formats was trained once for them. The thesis trained 10,000 steps of 16
    sequences for a format; in a rollout it reads the last five frames again for each new one.
    """
    rows = [
        {"model": case.title, "format": case.frame_format.name, **case.cost()}
        for case in found
        if not case.frames
    ]
    once = convlstm.multiply_adds(convlstm.thesis()) / 1e6
    thesis = {
        "model": f"thesis: {OF_THESIS[None]}",
        "parameters": _parameters(convlstm, convlstm.thesis()),
        "million_next_frame": round(HISTORY * once),
        "million_five_frames": round(HORIZON * HISTORY * once),
        "training_sequences": 160_000,
        "training_minutes": 358.0,
        "hardware": "GPU",
    }
    return pd.DataFrame([*rows, *(thesis | {"format": name} for name in FORMATS)])


def _name(path: Path) -> str:
    """Return the name of a file of weights, without that of a format at its end."""
    return re.sub(rf"_({'|'.join(FORMATS)})$", "", path.stem)


@functools.lru_cache(maxsize=64)
def _parameters(kind, config) -> int:
    """Count the weights that a forecast takes, those of a critic left out."""
    model = kind.build(config)
    return getattr(model, "generator", model).count_params()


def cases(weights: Path = register.WEIGHTS, names: Sequence[str] = ()) -> list[Case]:
    """Find the shipped weights, in the order of `TITLES`, each in every format that it knows.

    `names` chooses files by their names without that of a format: `"convlstm"` for
    `convlstm_T20_TINC1.npz` and its like. A scout is part of the SurfaceNet.
    """
    found = []
    for path in sorted(weights.glob("*.npz")):
        record, name = read_card(path), _name(path)
        if register.MODELS[register.name_of(path, record)].part or (names and name not in names):
            continue
        seen = (None, *(FEW if name in JUDGED_WITH_FEW else ()))
        parts = itertools.product(record["formats"], seen)
        found += [Case(path, record, FORMATS[each], frames) for each, frames in parts]
    missing = set(names) - {_name(case.path) for case in found}
    if missing or not found:
        asked = f"weights {' or '.join(sorted(missing))}".rstrip()
        raise FileNotFoundError(f"{weights} holds no {asked} that forecast by themselves.")
    order = list(dict.fromkeys([*TITLES, *(_name(case.path) for case in found)]))
    return sorted(found, key=lambda case: (order.index(_name(case.path)), case.frames or 0))


def evaluate(
    case: Case, frames: np.ndarray, sample_id: np.ndarray, work: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge a model in one format, or read what an earlier call has written.

    A model for any history forecasts the frames 1 to 19 (pooled and per frame) and rolls out from
    five frames to the end of the format. One that may look at one frame or at three forecasts the
    frames after them (per frame), and rolls out five steps from as many, as the thesis's GANs.

    `frames` are (N, T, D, H, W), in this format. The names of the tables in the folder `work` hold
    a digest of weights and frames, so that a table of others is never read. (One of other *code*
    is: after a change of what a network computes, start with an empty folder.)

    Returns:
        The tables of `helpers.evaluation.next_frame` and `long_term`.
    """
    stem = f"{case.title}, {case.frame_format.name}, {_digest(case, frames, sample_id)}"
    files = [work / f"{stem}, {kind}.csv" for kind in ("next frame", "rollout")]
    if not all(file.exists() for file in files):
        work.mkdir(parents=True, exist_ok=True)
        few = {"frames": case.frames} if case.frames else {}
        model = register.load(case.path, case.frame_format, **few)
        options = {
            "frame_format": case.frame_format,
            "sample_id": sample_id,
            "name": case.title,
            "batch_size": BATCH,
            "cut": metrics.CUTS,
        }
        protocols = ("per_frame",) if few else ("pooled", "per_frame")
        history = case.frames or HISTORY
        horizon = HORIZON if few else frames.shape[1] - history
        next_frame = evaluation.next_frame(
            model, frames, protocols, first=case.frames or 1, **options
        )
        options |= {"history": history, "horizon": horizon, "feedback": FEEDBACK}
        for file, table in zip(files, (next_frame, evaluation.long_term(model, frames, **options))):
            evaluation.save(table, file)
        workshop.keras().utils.clear_session()
    return tuple(map(evaluation.load, files))


def _digest(case: Case, frames: np.ndarray, sample_id: np.ndarray) -> str:
    found = hashlib.sha256(
        np.packbits(frames).tobytes() + np.ascontiguousarray(sample_id).tobytes()
    )
    for path, card in case.parts:
        found.update(path.read_bytes() + json.dumps(card["configuration"]).encode())
    return found.hexdigest()[:12]


def summary(case: Case, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the tables of a model, beside persistence, the thesis and the cost.

    Returns:
        One row for each protocol, cut and horizon. Columns: `model`, `format`, `protocol`, `cut`,
        `history`, `horizon`, `n` (samples); `jaccard` with its 95 % interval `low`, `high`; the
        same of `persistence`; `difference` to it, sample by sample; and `thesis`, its published
        figure for the same protocol, horizon and number of frames (empty where it has none).
    """
    by = ["model", "format", "protocol", "cut", "history", "horizon"]
    figures = published.thesis_figures().query("measure == 'prediction_jaccard'")
    figures = figures[figures["model"] == OF_THESIS.get(case.frames)]
    by_theirs = [column for column in by[1:] if column != "cut"]  # they know one
    theirs = figures[[*by_theirs, "mean"]].rename(columns={"mean": "thesis"})
    parts = []
    for table in tables:
        means = evaluation.beside_persistence(table, by).set_index("measure")
        found = means.loc[["prediction"]].rename(columns={"mean": "jaccard"})
        found = found[[*by, "n", "jaccard", "low", "high"]]
        for name in ("persistence", "difference"):
            renamed = {"mean": name, "low": f"{name}_low", "high": f"{name}_high"}
            found = found.merge(means.loc[[name], [*by, *renamed]].rename(columns=renamed), on=by)
        parts.append(found.merge(theirs, "left", on=by_theirs))
    return pd.concat(parts, ignore_index=True)


def horizons(rollouts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return skill and trust horizons of models and persistence, and of the thesis's ConvLSTM.

    Returns:
        `kind`, `"skill"` or `"trust"`, and the columns of `evaluation.skill_horizon`. The rows of
        the thesis come from the means that it published, five steps at 0.5, so that they have no
        interval.
    """
    found = []
    for table in rollouts:
        null = table.assign(model="persistence", prediction_jaccard=table["persistence_jaccard"])
        trust = [evaluation.trust_horizon(each) for each in (table, null)]
        found += [evaluation.skill_horizon(table).assign(kind="skill")]
        found += [each.assign(kind="trust") for each in trust]
    found = pd.concat(found, ignore_index=True)
    # Persistence is the same in the tables of all models.
    found = found.drop_duplicates(["kind", "model", "format", "cut", "history"])
    theirs = published.thesis_figures().query("model == @OF_THESIS[None] and protocol == 'rollout'")
    theirs = theirs[theirs["measure"] == "prediction_jaccard"].assign(
        model="thesis: " + OF_THESIS[None], cut="half", sample=0, prediction_jaccard=theirs["mean"]
    )
    null = pd.concat(rollouts).query("history == @HISTORY and cut == 'half'")
    null = null.drop_duplicates(["format", "horizon", "sample"]).groupby(["format", "horizon"])
    theirs = theirs.join(null["persistence_jaccard"].mean(), on=["format", "horizon"], how="inner")
    kinds = {"skill": evaluation.skill_horizon, "trust": evaluation.trust_horizon}
    rows = [judge(theirs).assign(kind=kind, n=992) for kind, judge in kinds.items() if len(theirs)]
    return pd.concat([found, *rows], ignore_index=True)


def by_sample(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the Jaccard distances of one model for each sample, next frames pooled and rollouts.

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

    So many `processes` judge side by side, on one core each: a network this small keeps one core
    busy, but not two. See also `cases` and `evaluate`.

    Returns:
        `summary`, `horizons` and `costs`, see there; and `paired`, each model that reads all
        frames minus the thesis's ConvLSTM, on the files for which
        `helpers.published.thesis_samples` has its distances; see `helpers.evaluation.paired`.
    """
    found = cases(weights, names)
    judge = functools.partial(_judge, data=data, limit=limit, work=work)
    if processes > 1:
        # A process that TensorFlow has threads in must not be forked.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, spawn, initializer=_use_one_core) as pool:
            tables = list(tqdm(pool.map(judge, found), total=len(found)))
    else:
        tables = [judge(case) for case in tqdm(found)]
    made = {
        "summary": pd.concat(map(summary, found, tables), ignore_index=True),
        "horizons": horizons([rollouts for _, rollouts in tables]),
        "costs": costs(found),
    }
    ours = [table for case, pair in zip(found, tables) if not case.frames for table in pair]
    if pairs := paired(ours):
        made["paired"] = pd.concat(pairs, ignore_index=True)
    return made


def paired(tables: Iterable[pd.DataFrame]) -> list[pd.DataFrame]:
    """Compare models with the thesis's ConvLSTM on the files on which it was run.

    In each format all of these must be in the table: other records may have the same numbers.
    """
    thesis, found = published.thesis_samples(), []
    for table in tables:
        theirs = thesis[thesis["format"] == table["format"].iloc[0]]
        common = table[table["protocol"].ne("per_frame") & table["sample"].isin(theirs["sample"])]
        if len(common) and set(theirs["sample"]) == set(common["sample"]):
            found.append(evaluation.paired(common, theirs).drop(columns="measure"))
    return found


@functools.lru_cache(maxsize=1)
def samples_of_test(data: Path, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return all time points (N, 128, D, H, W) of the test split, and their sample numbers."""
    split = records.open_split(data, "test", limit)
    return split.frames(np.arange(len(split))[:limit]), split.sample_id[:limit]


def _use_one_core() -> None:
    _processes.end_with_parent()
    tf = workshop.tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _judge(case: Case, data: Path, limit: int | None, work: Path):
    points, sample_id = samples_of_test(data, limit)
    return evaluate(case, case.frame_format.select(points), sample_id, work)


def page(found: dict[str, pd.DataFrame]) -> str:
    """Write the tables of data/results/README.md: Markdown, from those of `make`."""
    table = found["summary"]
    lines = [
        f"Test sequences: {', '.join(f'{n:,}' for n in sorted(set(table['n'])))} in each format. "
        "Mean Jaccard distance, lower is better, ± the longer arm of the 95 % interval (bootstrap "
        f"over sequences). All models of a table are cut alike, here {CUT_AT[CUT]}; "
        "`summary.csv` has the other cut as well. In brackets the thesis's figure, over 992 of "
        "them, cut at 0.5: of its GAN where a model saw no more than one frame or three, of its "
        "ConvLSTM for all others. **Bold** where our whole interval lies below it and below "
        "persistence.",
    ]
    for protocol, ahead in (("pooled", 1), ("per_frame", 1), ("rollout", HORIZON)):
        chosen = table[table["protocol"].eq(protocol) & table["horizon"].eq(ahead)]
        chosen = chosen[chosen["cut"] == CUT]
        for history, group in chosen.groupby("history"):
            names = {"jaccard": "persistence", "low": "persistence_low", "high": "persistence_high"}
            null = group.assign(**{new: group[old] for new, old in names.items()}, thesis=np.nan)
            groups = {"persistence": null, **_by_model(group)}
            lines += _table(_label(protocol, history), groups, _mean)
    lines += [
        "",
        "*Skill horizon*, the last step up to which a model beats persistence, and *trust "
        f"horizon*, the last one up to which its mean distance is below {evaluation.TRUSTED}: "
        "steps · time points, and in brackets the 95 % interval of the steps where it is more than "
        "one number. A + says that we looked no farther.",
    ]
    for kind, cut in itertools.product(("skill", "trust"), CUT_AT):
        chosen = found["horizons"].query("kind == @kind and cut == @cut and history == @HISTORY")
        lines += _table(
            f"{kind.capitalize()} horizon, cut {CUT_AT[cut]}:", _by_model(chosen), _steps
        )
    for cut in CUT_AT if "paired" in found else ():
        chosen = found["paired"].query("cut == @cut and horizon in (1, @HORIZON)")
        ahead = chosen["horizon"].astype(str) + " steps"
        ahead = ahead.where(chosen["protocol"] != "pooled", "next frame, pooled")
        label = (
            "*Minus the thesis's ConvLSTM*, its own weights on the same files, sample by sample, "
            f"with the 95 % interval, both cut {CUT_AT[cut]}; **bold** where ours is better:"
        )
        told = chosen.assign(model=chosen["model"] + ", " + ahead.replace("1 steps", "1 step"))
        lines += _table(label, _by_model(told), _difference)
    return "\n".join([*lines, "", *_costs(found["costs"])])


def _by_model(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return dict(iter(rows.groupby("model", sort=False)))


def _table(label: str, groups: Mapping[str, pd.DataFrame], cell: Callable) -> list[str]:
    """Write a table with a row for each group."""
    rows = [[title, *_cells(group, "format", FORMATS, cell)] for title, group in groups.items()]
    return ["", label, "", *_markdown(["model", *FORMATS], rows)]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table of texts, line by line."""
    return [f"| {' | '.join(texts)} |" for texts in (head, ["---"] * len(head), *rows)]


def _cells(rows: pd.DataFrame, by: str | list[str], places: Iterable, cell: Callable) -> list[str]:
    """Write the row at each place, a dash where there is none."""
    rows = rows.drop_duplicates(by).set_index(by).sort_index()
    return [cell(rows.loc[place]) if place in rows.index else "–" for place in places]


def _mean(row: pd.Series) -> str:
    mean, low, high = row[["jaccard", "low", "high"]]
    text = f"{mean:.4f} ± {max(high - mean, mean - low):.4f}"
    return text if np.isnan(row["thesis"]) else _bold(f"{text} ({row['thesis']:.4f})", row)


def _bold(text: str, row: pd.Series) -> str:
    """Set in bold what beats the thesis and persistence."""
    better = row["high"] < row["thesis"] and row["difference_high"] < 0
    return f"**{text}**" if better else text


def _steps(row: pd.Series) -> str:
    end = "+" if row["steps"] == row["longest"] else ""
    text = f"{row['steps']}{end} · {row['time_points']:.0f}{end}"
    return f"{text} ({row['low']:.0f}–{row['high']:.0f})" if row["low"] < row["high"] else text


def _difference(row: pd.Series) -> str:
    text = f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"**{text}**" if row["high"] < 0 else text


def _frames(count: int) -> str:
    return "one frame" if count == 1 else f"{count} frames"


def _label(protocol: str, history: int) -> str:
    if protocol == "rollout":
        return f"*{HORIZON} steps ahead*, from {_frames(history)}, forecasts fed back:"
    way = "over all 19 frames together (*pooled*)"
    if protocol == "per_frame":
        way = f"frame by frame (*per frame*), with at least {_frames(history)} before"
    return f"*Next frame*, {way}:"


def _costs(table: pd.DataFrame) -> list[str]:
    label = (
        "What it costs. Multiply-adds are those of one forecast after five frames, and of five; a "
        "scout is included. A network for all formats was trained once for them."
    )
    head = ["model", "parameters", "million multiply-adds: next frame", "five frames"]
    lines = []
    for title, rows in _by_model(table).items():
        figures = (dict.fromkeys(rows[column]) for column in rows.columns[2:-1])
        told = [" / ".join(f"{value:,.0f}" for value in each) for each in figures]
        lines.append([title, *told, rows["hardware"].iloc[0]])
    return [label, "", *_markdown([*head, "training sequences", "minutes", "on"], lines)]


def overview(found: dict[str, pd.DataFrame]) -> str:
    """Write the README's table, five rows of the results that matter: Markdown.

    A figure is bold where the whole interval lies below both the thesis's figure and persistence.
    """
    first, *others = (name.partition("_")[0] for name in FORMATS)
    head = ["model", "trained on", f"next frame: {first}", *others]
    head += [f"{HORIZON} steps ahead: {first}", *others]
    table, lines = found["summary"], []
    for protocol, titles in OVERVIEW.items():
        rows = table[table["cut"] == (CUT if protocol == "pooled" else "half")]
        by, tasks = ["protocol", "horizon", "format"], ((protocol, 1), ("rollout", HORIZON))
        places = [(*task, name) for task in tasks for name in FORMATS]
        null = f"persistence, judged as {JUDGED_AS[protocol]}", "–", titles[0], _persistence
        ours = [(title, TRAINED_ON, title, _beside_thesis) for title in titles]
        for name, trained, title, cell in (null, *ours):
            cells = _cells(rows[rows["model"] == title], by, places, cell)
            lines.append([name, trained, *cells])
    return "\n".join(_markdown(head, lines))


def _persistence(row: pd.Series) -> str:
    return f"{row['persistence']:.3f}"


def _beside_thesis(row: pd.Series) -> str:
    return _bold(f"{row['jaccard']:.3f} ({row['thesis']:.3f})", row)


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
    # From the files, so that both say the same to the last digit.
    saved = published.course_results(out)
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


@command
def main(arguments: Sequence[str] | None) -> None:
    """Make all results of the course from its weights and the thesis's test records."""
    parser = argparse.ArgumentParser(prog="python -m data.make.results", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in thesis layout")
    parser.add_argument(
        "--work", type=Path, required=True, help="for the tables by sample; resumes there"
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
    if options.data.resolve() == SAMPLE and not options.out:
        parser.error("results of the sample set go elsewhere: give --out")
    found = make(
        options.data,
        options.work,
        names=options.models,
        limit=options.limit,
        processes=options.processes,
    )
    write(found, options.out or RESULTS, {} if options.out else PAGES)
    if not options.out:
        note_in_cards(found, register.WEIGHTS)
        cards.write()
    print(page(published.course_results(options.out or RESULTS)))


if __name__ == "__main__":
    sys.exit(main())
