"""Short trainings that differ in one thing each, with several seeds: what it is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.make import recipes, results
from data.make.shared import write_csv
from helpers import _files, metrics, records, rollout, training, workshop
from helpers.models import cnn, register
from helpers.models.weights import read_card
from helpers.sequences import FrameFormat

BLOCKS = {"width": 64, "blocks": 3, "patch": 2}  # of notebook 10
ABLATIONS = {
    "convlstm": {
        "as it is": {},
        "patches of 4³": {"config": {"patch": 4}},
        "patches of 8³": {"config": {"patch": 8}},
        "without residual blocks": {"config": {"blocks": 0}},
        "without the start at persistence": {"config": {"residual": 0.0}},
        "without the frame before": {"config": {"previous": False}},
        "a memory that sees no neighbours": {"config": {"kernels": (1,)}},
    },
    "cnn": {
        "three convolutions": {},
        "from nothing": {"config": {"residual": 0.0}},
        "the last frame alone": {"config": {"history": 1, "flip_times": False}},
        "without the times of flips": {"config": {"flip_times": False}},
        "eight frames": {"config": {"history": 8}},
        "a block on voxels": {"config": BLOCKS | {"blocks": 1, "patch": 1}},
        "a block on patches": {"config": BLOCKS | {"blocks": 1}},
        "three blocks on patches": {"config": BLOCKS},
        "three blocks on patches of 4³": {"config": BLOCKS | {"patch": 4}},
        "the shipped size": {"config": dataclasses.asdict(cnn.shipped()) | {"ahead": 1}},
        "three blocks, trained 4 times as long": {"config": BLOCKS, "longer": 4},
        "three blocks, from nothing": {"config": BLOCKS | {"residual": 0.0}},
        "the shipped CNN": {"weights": "cnn"},
        "the shipped SurfaceNet": {"weights": "surfacenet"},
    },
    "scout": {
        "as it is": {},
        "without the pose": {"config": {"canonical": False}},
        "without blocks farther out": {"config": {"blocks": 0}},
        "five frames": {"config": {"history": 5}},
        "twenty frames, forty time points": {"config": {"history": 20, "span": 40}},
        "four times as wide": {"config": {"width": 256}},
    },
}
# What is changed, where it is not the recipe itself: the networks that the notebooks train.
SMALL = {
    "cnn": {
        "config": dataclasses.asdict(cnn.plain()) | {"ahead": 1},
        "plan": {"batch_size": 4, "learning_rate": 1e-2},
    },
    "convlstm": {
        "config": {"filters": (8,), "width": 32, "blocks": 2},
        "plan": {"learning_rate": 1e-2},
    },
}
ABLATION_SAMPLES = 64


def ablate(
    model: str,
    data: Path,
    formats: Sequence[FrameFormat],
    folder: Path,
    out: Path,
    steps: int,
    seeds: int = 3,
) -> pd.DataFrame:
    """Train short runs that differ in one thing each; they see as many examples, but for `longer`.

    Args:
        model: one of `ABLATIONS`, which says what is changed.
        folder: for the runs; those that are there are not done again.
        out: the CSV to write: `change`, `parameters`, `million_multiply_adds`, `examples`,
            `minutes` of one run, and for each format the pooled next-frame distance on the first
            64 validation sequences: its mean over the seeds, their `spread` (standard deviation),
            and each by itself; in the last row that of persistence.
        seeds: so many runs of each, with the seeds 1, 2, …
    """
    if model not in ABLATIONS:
        raise ValueError(f"there are no ablations of {model}; choose {' or '.join(ABLATIONS)}.")
    rows = []
    samples = records.open_split(data, "validation").frames(slice(ABLATION_SAMPLES))
    for number, (change, values) in enumerate(ABLATIONS[model].items()):
        if "weights" in values:
            rows.append({"change": change} | _shipped(values["weights"], formats, samples))
            continue
        recipe, runs = changed(model, steps, **values), []
        for seed in range(1, seeds + 1):
            print(f"{change}, seed {seed}")
            seeded = recipe.changed(plan={"seed": seed})
            runs.append(_run(seeded, data, formats, folder / f"{number}-{seed}", samples))
        found = pd.DataFrame(runs)
        row = {"change": change, **runs[0], "minutes": round(found["minutes"].mean(), 1)}
        for name in (each.name for each in formats):
            row[name] = round(found[name].mean(), 4)
            if seeds > 1:
                row[f"{name} spread"] = round(found[name].std(), 4)
                row |= {f"{name} seed {n}": x for n, x in enumerate(found[name], start=1)}
        rows.append(row)
    null = {found.name: _distance(rollout.Persistence(), found, samples) for found in formats}
    table = pd.DataFrame([*rows, {"change": "persistence"} | null])
    write_csv(table, out)
    return table


def changed(model: str, steps: int, config: dict | None = None, longer: int = 1) -> recipes.Recipe:
    """Return a short recipe with something changed: in its network, or in how long it trains."""
    plan = {"warm_up": min(100, steps // 4), "decay_from": 0.4, "validate_every": steps * longer}
    recipe = recipes.recipe(model, steps * longer).changed(**SMALL.get(model, {}))
    return recipe.changed(plan=plan, config=config or {})


def _run(recipe: recipes.Recipe, data: Path, formats, place: Path, samples: np.ndarray) -> dict:
    """Train and judge one network, or read what was found in this folder before."""
    if (place / "row.json").exists():
        return _files.read_json(place / "row.json")
    run = recipes.train(recipe, data, formats, place)
    network = recipe.kind.build(recipe.config)
    training.load_best(place, network)
    row = {
        "parameters": network.count_params(),
        "million_multiply_adds": round(recipe.kind.multiply_adds(recipe.config) / 1e6),
        "examples": run.step * recipe.plan.batch_size,
        "minutes": round(run.rows[-1]["seconds"] / 60, 1),
    }
    for found in formats:
        row[found.name] = _distance(recipe.kind.forecaster(network, found), found, samples)
    _files.write_json(place / "row.json", row)
    workshop.keras().utils.clear_session()
    return row


def _shipped(name: str, formats, samples: np.ndarray) -> dict:
    """Judge shipped weights in the same way; the cost is that in the last format."""
    path, row = register.file_of(name), {}
    for found in formats:
        row[found.name] = _distance(register.load(path, found), found, samples)
    cost = results.Case(path, read_card(path), found).cost()
    return row | {
        "parameters": cost["parameters"],
        "million_multiply_adds": cost["million_next_frame"],
        "examples": cost["training_sequences"],
        "minutes": cost["training_minutes"],
    }


def _distance(forecaster, found: FrameFormat, samples: np.ndarray) -> float:
    """Return the pooled next-frame distance of a forecaster."""
    frames = found.select(samples)
    after = rollout.next_frames(forecaster, frames)
    return round(float(metrics.pooled(frames[:, 1:], after).mean()), 4)
