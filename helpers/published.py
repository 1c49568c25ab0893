"""Figures that were published: the thesis's own, and the course's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import _files
from helpers.workshop import REPOSITORY, shipped

THESIS_RESULTS = REPOSITORY / "data" / "thesis_results.csv"
COURSE_RESULTS = REPOSITORY / "data" / "results"
THESIS_SAMPLES = COURSE_RESULTS / "thesis_by_sample.csv"


def thesis_figures() -> pd.DataFrame:
    """Return the thesis's own figures on its test set, in the words used here.

    Measures and protocols are those of `helpers.evaluation.means`, so that the rows can be set side
    by side; the cut is at 0.5. `n` counts samples, in the rows `per_frame` pairs of frames.

    Source: M. Goldgruber, 4D-Predictive-GAN-ConvLSTM (MIT licence, 2024); see data/README.md.
    """
    return pd.read_csv(shipped(THESIS_RESULTS))


def thesis_samples() -> pd.DataFrame:
    """Return the distances of the thesis's ConvLSTM on each of 1,000 test files.

    They are for `helpers.evaluation.paired`. Its own weights were run by this package, see
    data/README.md. Rollouts are the thesis's: from five frames, probabilities fed back, the last
    five frames kept; here with both cuts. Columns: `model`, `format`, `protocol`, `cut`,
    `horizon`, `sample`, `prediction_jaccard`.

    Raises:
        FileNotFoundError: they are not there; see `python -m data.make.thesis_convlstm --help`.
    """
    keys = ["format", "cut", "sample"]
    wide = pd.read_csv(shipped(THESIS_SAMPLES))
    found = wide.melt(keys, var_name="protocol", value_name="prediction_jaccard")
    step = found["protocol"].str.extract(r"step_(\d+)", expand=False)
    protocol = np.where(step.isna(), "pooled", "rollout")
    horizon = step.fillna(1).astype(int)
    return found.assign(model="ConvLSTM3D", protocol=protocol, horizon=horizon)


def save_results(found: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write the course's own figures as CSV files, and `results.json`, which says what they are."""
    options = {"index": False, "lineterminator": "\n"}
    noted = {}
    for name, table in found.items():
        text = table.round(5).to_csv(**options).encode()
        with _files.replacing(folder / f"{name}.csv") as file:
            file.write(text)
        noted[name] = {"rows": len(table), "sha256": _files.digest(text)}
    _files.write_json(folder / "results.json", _files.sealed(noted))


def course_results(folder: Path = COURSE_RESULTS) -> dict[str, pd.DataFrame]:
    """Return the course's own figures on the thesis's test set, as `make results` wrote them.

    The tables, `summary`, `horizons`, `costs` and `paired`, are explained in data/README.md. They
    are given as they were written and all of one time, or not at all.
    """
    found = {}
    try:
        noted = _files.unsealed(_files.read_json(folder / "results.json"))
        for name, about in noted.items():
            text = (folder / f"{name}.csv").read_text("utf-8")
            found[name] = pd.read_csv(io.StringIO(text))
            if about["sha256"] != _files.digest(text.encode()):
                rows = f"{len(found[name])} of {about['rows']}"
                raise ValueError(f"{name}.csv, {rows} rows, has changed")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{folder} does not hold the tables that `make results` wrote, with their results.json "
            f"({error}). Fetch them again, or make them again."
        ) from error
    return found
