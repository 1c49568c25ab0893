"""Which cut, and what is fed back: one choice for all models, on validation sequences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers import _files, metrics, records
from helpers.models import register
from helpers.models.shared import ROLLOUT_HISTORY
from helpers.rollout import next_frames, rollout
from helpers.sequences import FrameFormat

BATCH = 64  # sequences at a time
FEEDBACKS = ("probability", "half", "expected")
CUTS = {"half": {"rule": "half"}} | {
    f"expected, empty below {empty}": {"rule": "expected", "empty": empty}
    for empty in (0.0, metrics.EMPTY, 0.5)
}


def compare(
    names: Sequence[str],
    data: Path,
    formats: Sequence[FrameFormat],
    out: Path,
    limit: int = 640,
) -> pd.DataFrame:
    """Judge models on validation sequences by every cut and kind of feedback; write a CSV.

    Args:
        names: of shipped weights; `"convlstm"` stands for those of each format.
        data: a folder in thesis layout.
        formats: to be judged.
        out: the CSV: `model`, `format`, `feedback` (empty for the next frame, pooled), `cut`,
            `horizon`, `n`, and the mean Jaccard distance, `mean`.
        limit: only the first so many sequences.
    """
    split, rows = records.open_split(data, "validation", limit), []
    points = split.frames(np.arange(min(limit, len(split))))
    for name, found in tqdm(list(itertools.product(names, formats))):
        file = f"{name}_{found.name}" if name == "convlstm" else name
        model, parts = register.load(file, found), []
        for start in range(0, len(points), BATCH):
            frames = found.select(points[start : start + BATCH])
            past, future = np.split(frames, [ROLLOUT_HISTORY], axis=1)
            parts.append(_distances(None, frames[:, 1:], next_frames(model, frames)))
            for feedback in FEEDBACKS:
                predicted = rollout(model, past, future.shape[1], feedback=feedback)
                parts.append(_distances(feedback, future, predicted))
        table = pd.concat(parts).groupby(["feedback", "cut", "horizon"], dropna=False)["distance"]
        means = table.agg(n="count", mean="mean").round(5).reset_index()
        rows.append(means.assign(model=name, format=found.name))
        result = pd.concat(rows)[["model", "format", *means.columns]]
        with _files.replacing(out) as file:
            result.to_csv(file, index=False)
    return result


def _distances(feedback: str | None, truth: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Return distances by cut and horizon, of sequences (B, T, D, H, W)."""
    found = []
    for name, options in CUTS.items():
        filled = metrics.cut(predicted, **options)
        distances = metrics.jaccard_distance(truth, filled)
        if feedback is None:
            distances = metrics.pooled(truth, filled)[:, np.newaxis]
        count, steps = distances.shape
        columns = {"horizon": np.tile(1 + np.arange(steps), count), "distance": distances.ravel()}
        found.append(pd.DataFrame(columns).assign(feedback=feedback, cut=name))
    return pd.concat(found)
