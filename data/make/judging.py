"""Shipped weights judged on a split, and their thresholds chosen: noted in their records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers import _files, evaluation, metrics, records, rollout
from helpers.models import register, shared
from helpers.models.weights import read_card, write_card
from helpers.sequences import FrameFormat

VALIDATION_SAMPLES = 192
# Of PatchNet and SurfaceNet, tried by `tune`; the last leaves the PatchNet out.
SHARES = ((0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0))


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


def tune(
    weights: Path,
    data: Path,
    formats: Sequence[FrameFormat],
    variant: str = "thresholds",
    limit: int | None = None,
) -> None:
    """Choose thresholds on validation sequences, 192 unless told, and note them in the record.

    What the record says of other formats stays; each format is written as soon as it is done.

    The first is the best one for the next frame after histories of all lengths, the others those
    for frames farther ahead after the thesis's five; null where it is better to choose one for
    each forecast, see `helpers.models.shared.fitting_threshold`. The variant `"together"`, the mean
    with the PatchNet beside it, has thresholds of its own, and for each frame ahead the best one
    of the `SHARES`; other variants have none.

    Raises:
        ValueError: a variant or a model without thresholds of its own: a scout and a follower
            forecast for another. A format that the weights were not trained for; weights that were
            replaced meanwhile.
    """
    if variant not in ("thresholds", "together"):
        raise ValueError(f"{variant!r} has no thresholds; choose thresholds or together.")
    record = read_card(weights)
    tuned = [
        name
        for name, each in register.MODELS.items()
        if (each.partner if variant == "together" else each.several and not each.part)
    ]
    if (model := register.name_of(weights, record)) not in tuned:
        raise ValueError(
            f"{weights} is of a {model}, which has no {variant!r} to choose; "
            f"take a {' or '.join(tuned)}."
        )
    _check_formats(weights, record, formats)
    limit = VALIDATION_SAMPLES if limit is None else limit
    split = records.open_split(data, "validation", limit)
    samples = split.frames(np.arange(min(limit, len(split))))
    for found in formats:
        frames = found.select(samples)
        model = register.load(
            weights, found, **register.VARIANTS[variant] | register.VARIANTS["plain"]
        )
        parts = model.forecasters if variant == "together" else [model]
        following = [rollout.next_frames(part, frames) for part in parts]
        history, best = shared.ROLLOUT_HISTORY, []
        ahead = [part.several(frames[:, :history]) for part in parts]
        for step in range(model.ahead):
            trials = []
            for shares in SHARES if variant == "together" else [(1.0,)]:
                if step == 0:
                    truth, of_parts = frames[:, 1:], following
                    options = {"axes": (-4, *metrics.FRAME_AXES)}
                else:
                    truth, of_parts = frames[:, history + step], [each[:, step] for each in ahead]
                    options = {"fitting": True}
                mean = sum(np.float32(share) * each for share, each in zip(shares, of_parts))
                trials.append((*shared.best_threshold(truth, mean, **options), shares))
            best.append(min(trials, key=lambda trial: trial[1]))
        print(found.name, best)
        chosen = {
            register.thresholds_name(variant): {found.name: [threshold for threshold, *_ in best]}
        }
        if variant == "together":
            chosen[register.SHARES] = {found.name: [list(shares) for *_, shares in best]}
        chosen["thresholds_by"] = f"{len(samples)} validation sequences"
        _add(weights, record, chosen)


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
        write_card(weights, record)


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
    variant: str = "thresholds",
) -> None:
    """Judge shipped weights on a split and add what came out to their record.

    What the record says of other formats stays; each format is written as soon as it is done.

    Raises:
        ValueError: a format that the weights were not trained for; a variant of a model that has
            none; weights that were replaced meanwhile.
        FileNotFoundError, CheckpointError: see `helpers.models.register.load`.
    """
    record = read_card(weights)
    _check_formats(weights, record, formats)
    varied = register.MODELS[register.name_of(weights, record)].several
    if not varied and variant != "thresholds":
        raise ValueError(f"{weights} is no PatchNet or SurfaceNet; {variant!r} is of these.")
    options = register.VARIANTS[variant] if varied else {}
    for each in formats:
        found = {each.name: figures(judge(weights, data, each, split, limit, **options))}
        print(variant if varied else "", json.dumps(found, indent=2))
        _add(weights, record, {f"{split}, {variant}" if varied else split: found})
