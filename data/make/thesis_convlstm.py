"""The figures of the thesis's ConvLSTM computed again, from the author's weights and records.

`python -m data.make.thesis_convlstm --help` says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from data.make.results import by_sample, samples_of_test
from data.make.shared import command, write_csv
from helpers import _files, convlstm, evaluation, metrics, published, workshop
from helpers.models import thesis
from helpers.sequences import FORMATS, FrameFormat

MODEL = "ConvLSTM3D of the thesis"
# The thesis starts a rollout from five frames and drops the oldest one for each that it forecasts.
ROLLOUT = {"history": 5, "horizon": 5, "keep": 5}
BLOCK = 25  # samples that are judged before the results are kept


def evaluate(
    weights: Path,
    data: Path,
    frame_format: FrameFormat,
    folder: Path,
    limit: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Do the thesis's evaluation of its ConvLSTM again, in one format, or go on where it stopped.

    About 4 s for each sample on one core, so an hour or so for 1,000. The results of each block of
    samples are kept in the folder, under the digest of the weights and of the samples' numbers, so
    that those of other weights never mix with them.

    Returns:
        The tables of `helpers.evaluation.next_frame` (pooled) and `long_term` (five frames
        observed, five forecast, probabilities fed back, only the last five kept), with every cut
        of `helpers.metrics.CUTS`; the thesis cuts at 0.5.
    """
    points, sample_id = samples_of_test(data, limit)
    place = folder / f"{frame_format.name}_{_files.digest(weights)[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    forecaster, blocks = None, []
    for start in tqdm(range(0, len(points), BLOCK), desc=frame_format.name):
        chosen = slice(start, start + BLOCK)
        key = _files.digest(sample_id[chosen].tobytes())[:12]
        files = [place / f"{kind}_{key}.csv" for kind in ("pooled", "rollout")]
        if not all(file.exists() for file in files):
            forecaster = forecaster or convlstm.forecaster(thesis.load(weights), name=MODEL)
            options = {"frame_format": frame_format, "sample_id": sample_id[chosen]}
            options |= {"cut": metrics.CUTS}
            frames = frame_format.select(points[chosen])
            pooled = evaluation.next_frame(forecaster, frames, **options)
            rollouts = evaluation.long_term(forecaster, frames, **ROLLOUT, **options)
            for file, table in zip(files, (pooled, rollouts)):
                evaluation.save(table, file)
        blocks.append([evaluation.load(file) for file in files])
    return tuple(evaluation.combine(*parts) for parts in zip(*blocks))


def report(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Set the means of tables from `evaluate` beside the figures that the thesis gives.

    Returns:
        The rows of `helpers.evaluation.means`, cut at 0.5, for which the thesis has a figure of
        its ConvLSTM, with the columns `thesis` (its mean) and `difference` (ours - thesis).
    """
    figures = published.thesis_figures().query("model == 'ConvLSTM3D'")
    keys = ["format", "protocol", "history", "horizon"]
    halves = (table[table["cut"] == "half"] for table in tables)
    ours = pd.concat([evaluation.means(table, ("model", *keys)) for table in halves])
    theirs = figures[[*keys, "measure", "mean"]].rename(columns={"mean": "thesis"})
    found = ours.merge(theirs, on=[*keys, "measure"])
    return found.assign(difference=found["mean"] - found["thesis"])


@command
def main(arguments: Sequence[str] | None) -> None:
    """Reproduce the figures of the thesis's ConvLSTM from the author's weights and records."""
    parser = argparse.ArgumentParser(
        prog="python -m data.make.thesis_convlstm", description=main.__doc__
    )
    parser.add_argument("weights", type=Path, help="the folder of convlstm3d_16_<format>.h5")
    parser.add_argument("data", type=Path, help="a folder in thesis layout; test is used")
    parser.add_argument("folder", type=Path, help="for the results by sample; resumes there")
    parser.add_argument("--limit", type=int, help="only the first so many samples")
    parser.add_argument("--report", type=Path, help="CSV for the means, with a JSON beside it")
    parser.add_argument("--by-sample", type=Path, help="CSV for the distances of each sample")
    options = parser.parse_args(arguments)
    # All of them before the first, since a format takes an hour.
    files = [thesis.existing(options.weights / thesis.FILE_NAME.format(name)) for name in FORMATS]
    tables = []
    for frame_format, file in zip(FORMATS.values(), files):
        tables += evaluate(file, options.data, frame_format, options.folder, options.limit)
    if options.by_sample:
        write_csv(by_sample(tables).reset_index(), options.by_sample)
    found = report(tables)
    shown = found[found["measure"] == "prediction_jaccard"]
    print(shown.drop(columns=["model", "measure", "history"]).round(4).to_string(index=False))
    if options.report:
        write_csv(found.round(6), options.report)
        provenance = {
            "command": "python -m data.make.thesis_convlstm WEIGHTS DATA FOLDER --report "
            + options.report.name,
            "weights, sha256": {file.name: _files.digest(file) for file in files},
            "data": f"the first {int(found['n'].max())} files of DATA's test split, by name",
            "intervals": "95 %, bootstrap over samples",
            "machine": workshop.machine(),
        }
        _files.write_json(options.report.with_suffix(".json"), provenance)


if __name__ == "__main__":
    sys.exit(main())
