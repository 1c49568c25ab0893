"""Shipped weights judged on a split, and what came out noted in their cards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers import _files, evaluation, records
from helpers.models import register, shared
from helpers.models.weights import read_card
from helpers.sequences import FrameFormat


def judge(
    weights: Path,
    data: Path,
    frame_format: FrameFormat,
    split: str,
    limit: int | None = None,
    **options,
):
    """Evaluate shipped weights on a split, as the thesis did: two tables by sample.

    A WGAN-GP is judged, as the thesis's GANs, frame by frame and by rollouts from as many frames
    as it reads; all others by the pooled protocol and by rollouts from five frames.

    Args:
        weights, options: see `helpers.models.register.load`.
        data: a folder in thesis layout.
        frame_format: one of the formats of the weights.
        split: `"validation"` or `"test"`.
        limit: only the first so many samples.

    Raises:
        ValueError: another format; see `helpers.models.register.load`.
        TypeError, FileNotFoundError, CheckpointError: see
            `helpers.models.register.load`.
    """
    record = read_card(weights)
    _check_formats(weights, record, [frame_format])
    model = register.load(weights, frame_format, **options)
    found = records.open_split(data, split, limit)
    frames = frame_format.select(found.frames(np.arange(len(found))[:limit]))
    frames_read = record["configuration"].get("frames")  # of a model that reads so many
    protocol = "per_frame" if frames_read else "pooled"
    first, history = frames_read or 1, frames_read or shared.ROLLOUT_HISTORY
    options = {"frame_format": frame_format, "sample_id": found.sample_id[:limit]}
    return (
        evaluation.next_frame(model, frames, protocol, first=first, **options),
        evaluation.long_term(model, frames, history=history, **options),
    )


def _check_formats(weights: Path, record: dict, formats: Sequence[FrameFormat]) -> None:
    """Check that weights were trained for all these formats, if their record names any."""
    names = [found.name for found in formats]
    if other := ", ".join(name for name in names if name not in record.get("formats", names)):
        raise ValueError(
            f"{weights} was not trained for {other}; choose from {', '.join(record['formats'])}."
        )


def _add(weights: Path, before: dict, found: dict) -> None:
    """Add what was found to the record as it is by now; mappings keep their other entries.

    Raises:
        ValueError: the weights are not those of the record `before`.
    """
    # Two who judge the same weights must not forget what the other has found.
    with _files.lock(weights.with_name(f".{weights.stem}.lock"), "judge on another disk"):
        record = read_card(weights)
        if record.get("sha256") != before.get("sha256"):
            raise ValueError(
                f"{weights} has been replaced by other weights meanwhile; start again."
            )
        for name, value in found.items():
            record[name] = record.get(name, {}) | value if isinstance(value, dict) else value
        _files.write_json(weights.with_suffix(".json"), record)


def figures(tables) -> dict:
    """Return the distances of forecast and persistence as plain numbers for a record."""
    found = {}
    for table in tables:
        averages = evaluation.means(table)
        for row in averages.itertuples():
            if row.measure in ("prediction_jaccard", "persistence_jaccard"):
                place = found.setdefault(f"{row.protocol}, horizon {row.horizon}", {})
                place[row.measure.removesuffix("_jaccard")] = {
                    "mean": round(row.mean, 5),
                    "interval": [round(row.low, 5), round(row.high, 5)],
                    "n": int(row.n),
                }
    return found


def add_figures(
    weights: Path,
    data: Path,
    formats: Sequence[FrameFormat],
    limit: int | None = None,
    split: str = "test",
) -> None:
    """Judge shipped weights on a split and add what came out to their card.

    What the card says of other formats stays; each format is written as soon as it is done.

    Raises:
        ValueError: a format that the weights were not trained for; weights that were replaced
            meanwhile.
        FileNotFoundError, CheckpointError: see `helpers.models.register.load`.
    """
    record = read_card(weights)
    _check_formats(weights, record, formats)
    for each in formats:
        found = {each.name: figures(judge(weights, data, each, split, limit))}
        print(json.dumps(found, indent=2))
        _add(weights, record, {split: found})
