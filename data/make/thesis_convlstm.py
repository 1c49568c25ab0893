"""The figures of the thesis's ConvLSTM computed again, from the author's weights and records.

`python -m data.make.thesis_convlstm --help` says how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import _checks, _files, convlstm, evaluation, records, workshop
from helpers.models import thesis
from helpers.sequences import THESIS_FORMATS, FrameFormat

MODEL = "ConvLSTM3D of the thesis"
FORMATS = {found.name: found for found in THESIS_FORMATS}
# The thesis starts a rollout from five frames and drops the oldest one for each that it forecasts.
HISTORY, HORIZON, KEEP = 5, 5, 5


def evaluate(
    weights: str | Path,
    data: str | Path,
    frame_format: FrameFormat,
    folder: str | Path,
    *,
    limit: int | None = None,
    at_once: int = 25,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Do the thesis's evaluation of its ConvLSTM again, in one format, or go on where it stopped.

    About 4 s for each sample on one core, so an hour or so for 1,000. Two CSV files in the folder,
    `<format>_pooled.csv` and `<format>_rollout.csv`, receive the results after each block of
    samples. A folder is for one set of records; `<format>_weights.json` in it says which weights
    the results are of.

    Args:
        weights: the folder of the author's HDF5 files, or one of them.
        data: a folder in thesis layout; its test split is used, files sorted by name.
        frame_format: one of the three of the thesis.
        folder: where the results go, made where it is missing.
        limit: only the first so many samples.
        at_once: samples in a block, at least 1.

    Returns:
        Of these samples, the tables of `helpers.evaluation.next_frame` (pooled) and `long_term`
        (five frames observed, five forecast, probabilities fed back, only the last five kept).

    Raises:
        FileNotFoundError, ValueError: see `helpers.models.thesis.load`,
            `helpers.records.read_sample` and `helpers.evaluation.load`; the folder holds results of
            other weights.
    """
    folder, at_once = Path(folder), _checks.whole("at_once", at_once, 1)
    paths = {
        _sample_id(path): path
        for path in records.record_paths(Path(data) / workshop.SPLITS["test"], limit)
    }
    weights = _weights_file(weights, frame_format)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{frame_format.name}_{kind}.csv" for kind in ("pooled", "rollout")]
    blocks = _finished(files)
    done = set(blocks[0][0]["sample"]) if blocks else set()
    todo = [path for number, path in paths.items() if number not in done]
    if todo:
        forecaster = convlstm.forecaster(thesis.load(weights), name=MODEL)
    _check_weights(folder / f"{frame_format.name}_weights.json", weights)
    for start in tqdm(range(0, len(todo), at_once), desc=frame_format.name, disable=not todo):
        blocks.append(_judge(forecaster, frame_format, todo[start : start + at_once]))
        for file, parts in zip(files, zip(*blocks)):
            evaluation.save(evaluation.combine(*parts), file)
    tables = (evaluation.combine(*parts) for parts in zip(*blocks))
    return tuple(evaluation.checked(table[table["sample"].isin(paths)]) for table in tables)


def _weights_file(weights: str | Path, frame_format: FrameFormat) -> Path:
    """Find the file of a format in a folder; a file is taken as it is."""
    weights = Path(weights)
    if weights.is_dir():
        weights = weights / thesis.FILE_NAME.format(frame_format.name)
    return thesis.existing(weights)


def _check_weights(note: Path, weights: Path) -> None:
    """Note which weights a folder's results are of, so that they never mix with others."""
    digest = _files.digest(weights)
    if not note.exists():
        note.write_text(json.dumps({"weights, sha256": digest}) + "\n")
    elif digest not in note.read_text():
        raise ValueError(
            f"{note.parent} holds results of other weights than {weights.name}: see {note.name}. "
            "Choose another folder."
        )


def _finished(files: list[Path]) -> list[tuple[pd.DataFrame, ...]]:
    """Read what earlier runs wrote: nothing, or one block with the samples of both files."""
    if not all(file.exists() for file in files):
        return []
    tables = [evaluation.load(file) for file in files]
    # A run killed between the two files has written its last samples to the first one only.
    done = set.intersection(*(set(table["sample"]) for table in tables))
    return [tuple(table[table["sample"].isin(done)] for table in tables)] if done else []


def _judge(forecaster, frame_format: FrameFormat, paths: list[Path]) -> tuple:
    samples = [records.read_sample(path) for path in paths]
    frames = np.stack([frame_format.select(sample.frames) for sample in samples])
    options = {
        "frame_format": frame_format,
        "sample_id": [sample.sample_id for sample in samples],
    }
    rollouts = {"history": HISTORY, "horizon": HORIZON, "keep": KEEP}
    return (
        evaluation.next_frame(forecaster, frames, "pooled", **options),
        evaluation.long_term(forecaster, frames, **rollouts, **options),
    )


def _sample_id(path: Path) -> int:
    match = records.NAME.fullmatch(path.name)
    if not match:
        raise ValueError(f"{path} is not named like a record, 4d_mixed_#…_….tfrecords.")
    return int(match[1])


def report(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Set the means of tables from `evaluate` beside the figures that the thesis gives.

    Returns:
        The columns of `helpers.evaluation.beside_thesis`; one row for each format, protocol,
        horizon and measure.
    """
    return pd.concat([evaluation.beside_thesis(table) for table in tables], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reproduce the figures of the thesis's ConvLSTM from the author's weights and records."""
    parser = argparse.ArgumentParser(
        prog="python -m data.make.thesis_convlstm", description=main.__doc__
    )
    parser.add_argument("weights", type=Path, help="the folder of convlstm3d_16_<format>.h5")
    parser.add_argument("data", type=Path, help="a folder in thesis layout; test is used")
    parser.add_argument("folder", type=Path, help="for the results by sample; resumes there")
    parser.add_argument("--limit", type=int, help="only the first so many samples")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--report", type=Path, help="CSV for the means, with a JSON beside it")
    options = parser.parse_args(arguments)
    try:
        _reproduce(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _reproduce(options: argparse.Namespace) -> None:
    if not options.weights.is_dir():
        raise FileNotFoundError(f"{options.weights} is not a folder; expected that of the weights.")
    formats = [FORMATS[name] for name in dict.fromkeys(options.formats)]
    # All of them before the first, since a format takes an hour.
    files = [_weights_file(options.weights, found) for found in formats]
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
    tables = []
    for frame_format, file in zip(formats, files):
        tables += evaluate(file, options.data, frame_format, options.folder, limit=options.limit)
    found = report(tables)
    shown = found[found["measure"] == "prediction_jaccard"]
    print(shown.drop(columns=["model", "measure", "history"]).round(4).to_string(index=False))
    if options.report:
        found.round(6).to_csv(options.report, index=False)
        provenance = {
            "command": "python -m data.make.thesis_convlstm WEIGHTS DATA FOLDER --report "
            + options.report.name,
            "weights, sha256": {file.name: _files.digest(file) for file in files},
            "data": f"the first {int(found['n'].max())} files of DATA's test split, by name",
            "intervals": "95 %, bootstrap over samples",
            "machine": workshop.machine(),
        }
        options.report.with_suffix(".json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
