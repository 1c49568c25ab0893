"""Which cut, and what is fed back: one choice for all models, on validation sequences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.make.results import TITLES
from data.make.shared import write_csv
from helpers import metrics, records
from helpers.models import register
from helpers.models.shared import ROLLOUT_HISTORY
from helpers.rollout import FEEDBACKS, Forecaster, rollout
from helpers.sequences import FrameFormat

MODELS = ("convlstm", "cnn", "surfacenet")
HORIZON = 10
CUTS = {"half": {"rule": "half"}} | {
    f"expected, empty below {empty}": {"rule": "expected", "empty": empty}
    for empty in (0.0, metrics.EMPTY, 0.5)
}


def load(name: str, frame_format: FrameFormat) -> Forecaster:
    """Return the forecaster of weights: `"convlstm"` is one for each format."""
    own = register.file_of(f"{name}_{frame_format.name}")
    path = own if own.exists() else register.file_of(name)
    return register.load(path, frame_format, name=TITLES.get(name, name))


def compare(
    names: Sequence[str],
    data: Path,
    formats: Sequence[FrameFormat],
    out: Path,
    limit: int = 640,
) -> pd.DataFrame:
    """Judge models on validation sequences by every cut and kind of feedback; write a CSV.

    Its columns: `model`, `format`, `feedback`, `cut`, `horizon` after five frames, `n`, and the
    mean Jaccard distance, `mean`.
    """
    points, rows = records.open_split(data, "validation", limit).frames(slice(limit)), []
    for name, found in tqdm(list(itertools.product(names, formats))):
        model, frames = load(name, found), found.select(points)[:, : ROLLOUT_HISTORY + HORIZON]
        past, future = np.split(frames, [ROLLOUT_HISTORY], axis=1)
        for feedback in sorted(FEEDBACKS):
            predicted = rollout(model, past, HORIZON, feedback=feedback)
            row = {"model": name, "format": found.name, "feedback": feedback}
            for cut, options in sorted(CUTS.items()):
                means = metrics.jaccard_distance(future, metrics.cut(predicted, **options)).mean(0)
                steps = {"cut": cut, "horizon": range(1, HORIZON + 1), "n": len(past)}
                rows.append(pd.DataFrame(row | steps | {"mean": means.round(5)}))
    table = pd.concat(rows, ignore_index=True)
    write_csv(table, out)
    return table
