"""Short trainings that differ in one thing each: what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data.make import recipes
from helpers import _files, metrics, records, rollout, training, workshop
from helpers.sequences import FORMATS, FrameFormat

ABLATIONS = {
    "convlstm": {
        "as it is": {},
        "without the frame before": {"config": {"previous": False}},
        "a memory of 4 channels": {"config": {"filters": (4,)}},
        "a memory that sees no neighbours": {"config": {"kernels": (1,)}},
        "without residual blocks": {"config": {"blocks": 0}},
        "without the start at persistence": {"config": {"residual": 0.0}},
        "patches of 4³": {"config": {"patch": 4}},
        "without soft Jaccard in the loss": {"learned": {"jaccard_weight": 0.0}},
    },
    "cnn": {
        "as it is": {},
        "only the next frame": {"config": {"ahead": 1}},
        "without flip times": {"config": {"flip_times": False}},
        "8 frames of history": {"config": {"history": 8}},
        "192 channels": {"config": {"width": 192}},
        "4 blocks": {"config": {"blocks": 4}},
        "half the rate": {"plan": {"learning_rate": 2e-3}},
        "twice the rate": {"plan": {"learning_rate": 8e-3}},
        "batches of 24, twice the rate": {"plan": {"learning_rate": 8e-3, "batch_size": 24}},
        "later frames three times the weight": {"learned": {"later_weight": 1.5}},
        "without soft Jaccard in the loss": {"learned": {"jaccard_weight": 0.0}},
        "T80_TINC4 only": {"formats": ("T80_TINC4",)},
        "a start at ±1 in place of ±4": {"config": {"residual": 1.0}},
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
) -> pd.DataFrame:
    """Train short runs that differ in one thing each; all see as many examples.

    Args:
        model: one of `ABLATIONS`, which says what is changed.
        data: a folder in thesis layout.
        formats: what all of them learn, unless the change says otherwise.
        folder: for the runs; those that are there are not done again.
        out: the CSV to write: `change`, `parameters`, `million_multiply_adds`, `examples`,
            `minutes`, and for each format the pooled next-frame distance on the first 64
            validation sequences; in the last row that of persistence.
        steps: of the recipe's batches; fewer where a batch is larger.

    Raises:
        ValueError: a model without ablations.
        data.make.recipes.Stopped: one of the runs was stopped; the same call goes on with it.
    """
    if model not in ABLATIONS:
        raise ValueError(f"there are no ablations of {model}; choose {' or '.join(ABLATIONS)}.")
    rows = []
    samples = records.open_split(data, "validation").frames(slice(ABLATION_SAMPLES))
    for number, (change, values) in enumerate(ABLATIONS[model].items()):
        place = folder / str(number)
        if (place / "row.json").exists():
            rows.append(_files.read_json(place / "row.json"))
            continue
        recipe, values = recipes.recipe(model, steps), dict(values)
        chosen = [FORMATS[name] for name in values.pop("formats", [each.name for each in formats])]
        plan = {"warm_up": min(100, steps // 4), "decay_from": 0.4, **values.pop("plan", {})}
        batch_size = plan.get("batch_size", recipe.plan.batch_size)
        plan["steps"] = plan["validate_every"] = steps * recipe.plan.batch_size // batch_size
        recipe = recipe.changed(plan=plan, **values)
        print(change)
        run = recipes.train(recipe, data, chosen, place)
        network = recipe.kind.build(recipe.config)
        training.load_best(place, network)
        row = {
            "change": change,
            "parameters": network.count_params(),
            "million_multiply_adds": round(recipe.kind.multiply_adds(recipe.config) / 1e6),
            "examples": run.step * batch_size,
            "minutes": round(run.rows[-1]["seconds"] / 60, 1),
        }
        for found in chosen:
            frames = found.select(samples)
            after = rollout.next_frames(recipe.kind.forecaster(network, found), frames)
            row[found.name] = round(float(metrics.pooled(frames[:, 1:], after).mean()), 4)
        _files.write_json(place / "row.json", row)
        rows.append(row)
        workshop.keras().utils.clear_session()
    null = {"change": "persistence"}
    for found in formats:
        frames = found.select(samples)
        mean = metrics.pooled(frames[:, 1:], frames[:, :-1]).mean()
        null[found.name] = round(float(mean), 4)
    table = pd.DataFrame([*rows, null])
    out.parent.mkdir(parents=True, exist_ok=True)
    with _files.replacing(out) as file:
        table.to_csv(file, index=False)
    return table
