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
BATCH = 64  # sequences at a time
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
    split, rows = records.open_split(data, "validation", limit), []
    points = split.frames(np.arange(min(limit, len(split))))
    for name, found in tqdm(list(itertools.product(names, formats))):
        model, parts = load(name, found), []
        for start in range(0, len(points), BATCH):
            frames = found.select(points[start : start + BATCH])
            past, future = np.split(frames[:, : ROLLOUT_HISTORY + HORIZON], [ROLLOUT_HISTORY], 1)
            for feedback in FEEDBACKS:
                predicted = rollout(model, past, HORIZON, feedback=feedback)
                parts += [
                    pd.DataFrame(
                        {
                            "feedback": feedback,
                            "cut": cut,
                            "horizon": np.tile(1 + np.arange(HORIZON), len(past)),
                            "distance": metrics.jaccard_distance(future, filled).ravel(),
                        }
                    )
                    for cut, options in CUTS.items()
                    for filled in [metrics.cut(predicted, **options)]
                ]
        table = pd.concat(parts).groupby(["feedback", "cut", "horizon"])["distance"]
        means = table.agg(n="count", mean="mean").round(5).reset_index()
        rows.append(means.assign(model=name, format=found.name))
        result = pd.concat(rows)[["model", "format", *means.columns]]
        write_csv(result, out)
    return result
