"""How the shipped weights were trained: `python -m data.make --help` does it again.

A run folder can be stopped at any time (Ctrl-C, a file named `stop` in it, even a power cut) and
is taken up again by the same command.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from data.make.shared import Stopped
from helpers import _files, convlstm, records, training, wgan_gp, workshop
from helpers.models import cnn, register, surfacenet
from helpers.models.weights import load_weights, read_card, save_weights
from helpers.panels.progress import Progress
from helpers.sequences import FrameFormat

if TYPE_CHECKING:
    import tensorflow as tf

NOTE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """All that leads from records to the weights of a model, apart from the data."""

    model: str  # its name in `helpers.models.register.MODELS`
    config: Any  # of the network
    plan: training.Plan  # what an example of its batch is, `batches` of the model says
    policy: str = "float32"  # of the training and its scout; shipped weights forecast in float32
    # Options of `batches` and `validation` of the model. A `scout` is the file of its weights
    # among those that are shipped; None for none.
    drawn: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)  # options of `compile_options`
    checked: int = 192  # so many examples are validated, as many of each format;
    anew: bool = False  # they are windows, drawn from however few sequences there are

    @property
    def kind(self) -> ModuleType:
        """The module of the network."""
        return register.MODELS[self.model].kind

    def changed(self, **parts: Mapping[str, Any]) -> Recipe:
        """Return this recipe with other values in `config`, `plan`, `drawn` or `learned`."""
        found = {}
        for name, values in parts.items():
            before = getattr(self, name)
            merged = dataclasses.replace if dataclasses.is_dataclass(before) else dict
            found[name] = merged(before, **values)
        return dataclasses.replace(self, **found)

    def described(self) -> dict:
        """Return all of it as plain values, for the record of the weights."""
        known = {"config": dataclasses.asdict(self.config), "plan": dataclasses.asdict(self.plan)}
        return known | {"policy": self.policy, **self.drawn, **self.learned}

    def compile_options(self) -> dict:
        """Return optimizers, losses and metrics for `model.compile`."""
        return self.kind.compile_options(self.config, self.plan, **self.learned)

    def batches(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """Return what `training.train` asks for: the batches from any step on."""
        return self.kind.batches(split, formats, self.config, self.plan, **self._options())

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return what is validated, as many examples of each format."""
        count = self.checked // len(formats)
        data = self.kind.validation(split, formats, self.config, count, **self._options())
        return data.cache() if hasattr(data, "cache") else data

    def validated(self, split: records.PackedSplit, formats: Sequence[FrameFormat]) -> int:
        """Return how many examples `validation` takes, those of each format counted anew."""
        if self.anew:
            return self.checked
        return len(formats) * min(self.checked // len(formats), len(split))

    @property
    def scout(self) -> Path | None:
        """The weights of the scout that takes part in the training, if one does."""
        file = self.drawn.get("scout")
        return register.WEIGHTS / file if file else None

    def _options(self) -> dict:
        return {**self.drawn, **({"scout": self.kind.load(self.scout)} if self.scout else {})}


COMMON = {"warm_up": 200, "decay_from": 0.3, "weight_decay": 1e-4, "validate_every": 500}
AS_THE_THESIS = {"warm_up": 0, "weight_decay": 0.0, "validate_every": 5}
SURFACES = {  # batches of 64 windows, 256 voxels of each
    "plan": {
        "batch_size": 64,
        "learning_rate": 5e-3,
        "validate_every": 1000,
        "decay_from": 0.4,
        "weight_decay": 1e-2,
    },
    "config": surfacenet.shipped,
    "drawn": {
        "voxels": surfacenet.Examples.voxels,
        "chances": surfacenet.Examples.chances,
        "scout": "scout.npz",
        "candidates": surfacenet.Examples.candidates,
        "fives": 0.25,
        "format_weights": surfacenet.FORMAT_WEIGHTS,
    },
    "learned": {"later_weight": 2.0, "muon": True},
    "checked": 960,
    "anew": True,
}
THESIS_GAN = {  # its WGAN-GP, with its rates of 1e-4, in batches of 4 for its 32
    "model": "wgan_gp",
    "plan": AS_THE_THESIS | {"batch_size": 4, "learning_rate": 1e-4},
    "learned": {"critic_rate": 1e-4},
    "checked": 38,
}
# Of each model: its configuration, what its plan has of its own, and the other parts of its recipe.
RECIPES: dict[str, dict[str, Any]] = {
    # Batches of 2 sequences, 38 forecasts.
    "convlstm": {
        "plan": {"batch_size": 2, "learning_rate": 2e-3},
        "config": convlstm.workshop,
        "learned": {"jaccard_weight": 0.05},
    },
    # The thesis's ConvLSTM, with its loss and its Adam at 1e-3, in batches of 2 for its 16.
    "convlstm_thesis": {
        "model": "convlstm",
        "plan": AS_THE_THESIS | {"batch_size": 2, "learning_rate": 1e-3},
        "config": convlstm.thesis,
        "learned": {"jaccard_weight": 0.0},
        "checked": 8,
    },
    # Batches of 12 windows in mixed formats.
    "cnn": {
        "plan": {"batch_size": 12, "learning_rate": 4e-3, "warm_up": 300},
        "config": cnn.shipped,
        "drawn": {"format_weights": cnn.FORMAT_WEIGHTS},
        "learned": {"jaccard_weight": 0.05, "later_weight": 0.5},
        "checked": 456,  # histories: 8 of each length in three formats
    },
    "surfacenet": SURFACES,
    "scout": SURFACES | {"config": surfacenet.scout, "drawn": SURFACES["drawn"] | {"scout": None}},
    # Batches of 16 windows in mixed formats. It goes on from a CNN trained alone.
    "wgan_gp": {
        "plan": {
            "batch_size": 16,
            "learning_rate": 5e-4,
            "validate_every": 250,
            "weight_decay": 0.0,
        },
        "config": wgan_gp.shipped,
        "drawn": {"format_weights": cnn.FORMAT_WEIGHTS},
        "learned": {"critic_rate": 5e-4, "jaccard_weight": 0.05, "later_weight": 1.0},
        "checked": 456,
    },
    "wgan_gp_thesis_1": THESIS_GAN | {"config": functools.partial(wgan_gp.thesis, 1)},
    "wgan_gp_thesis_3": THESIS_GAN | {"config": functools.partial(wgan_gp.thesis, 3)},
}


def recipe(
    model: str,
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float | None = None,
    decay: str = "linear",
    policy: str = "float32",
) -> Recipe:
    """Return the recipe of shipped weights.

    Args:
        model: one of `RECIPES`.
        steps, seed, decay: see `helpers.training.Plan`.
        learning_rate: the highest; the recipe's unless told.
        policy: `"mixed_bfloat16"` is faster on processors that compute with bfloat16 (AVX-512
            BF16, AMX), and many times slower on all others.
    """
    parts = {"model": model, **RECIPES[model], "policy": policy}
    if parts["model"] == "wgan_gp" and policy != "float32":
        raise ValueError(f"policy is {policy!r}; a WGAN-GP is trained in float32 alone.")
    plan = {**COMMON, **parts["plan"], "decay": decay, "seed": seed}
    plan["learning_rate"] = learning_rate or plan["learning_rate"]
    for name in ("warm_up", "validate_every"):
        plan[name] = min(plan[name], steps)
    return Recipe(**parts | {"plan": training.Plan(steps, **plan), "config": parts["config"]()})


def train(
    recipe: Recipe,
    data: Path,
    formats: Sequence[FrameFormat],
    folder: Path,
    *,
    start: Path | None = None,
) -> training.Checkpoint:
    """Train a model, or go on with a run that was stopped; return the checkpoint at its end.

    Args:
        data: a folder in thesis layout with records or packed splits.
        formats: one, or several that take turns.
        folder: of the run: checkpoint, best weights, log.
        start: weights to begin with, for example those of the mixed run; None begins anew.

    Raises:
        Stopped: it was stopped before its end.
        ValueError: a run was stopped in this folder that had another recipe or beginning.
    """
    split, checked = (records.open_split(data, part) for part in ("training", "validation"))
    hardware = dataclasses.replace(workshop.hardware(seed=recipe.plan.seed), policy=recipe.policy)
    folder.mkdir(parents=True, exist_ok=True)
    note = {
        "model": recipe.model,
        "recipe": recipe.described(),
        "formats": [found.name for found in formats],
        "data": f"{len(split)} training samples: {split.source}",
        "validated": recipe.validated(checked, formats),
        "commit": commit(),
        "machine": workshop.machine(),
    }
    if start is not None:
        before = read_card(start)
        note["began_with"] = {"file": start.name} | {
            name: value
            for name, value in before.items()
            if not name.startswith(("validation,", "test"))
        }
    if recipe.scout:
        note["scout_sha256"] = read_card(recipe.scout).get("sha256")
    with training.owning(folder), hardware.scope():
        _keep_note(note, folder)
        model = recipe.kind.build(recipe.config)
        if start is not None:
            # The losses may differ: only the arrays must fit.
            if before["model"] == recipe.model:
                load_weights(start, model)
            else:
                recipe.kind.begin_with(model, register.MODELS[before["model"]].kind.load(start))
        model.compile(**recipe.compile_options(), jit_compile=hardware.xla)
        monitor = recipe.kind.monitor(recipe.config)
        checkpoint = training.Checkpoint(folder, recipe.plan, monitor)
        stop = training.Stop(folder)
        run = training.train(
            model,
            recipe.batches(split, formats),
            checkpoint,
            validation=recipe.validation(checked, formats),
            callbacks=[stop, Progress(checkpoint, stop)],
        )
    if run.step < run.plan.steps:
        raise Stopped(
            f"stopped; step {run.step} of {run.plan.steps} is kept, and the same command goes on "
            "from there"
        )
    return run


def _keep_note(note: dict, folder: Path) -> None:
    """Write the note of a run, or see that the one of a stopped run says the same."""
    place = folder / NOTE
    if not (folder / training.CHECKPOINT).exists() or not place.exists():
        _files.write_json(place, note)
        return
    before, note = _files.read_json(place), json.loads(json.dumps(note))
    same = ("recipe", "formats", "data", "began_with", "scout_sha256")
    if other := [name for name in same if before.get(name) != note.get(name)]:
        raise ValueError(
            f"The run in {folder} was started with another {', '.join(other)}. Start in another "
            "folder, or give what it was started with to go on."
        )


def ship(folder: Path, out: Path, keep: str = "best") -> Path:
    """Write the weights of a run, finished or not, with a record of how they came to be.

    Args:
        keep: those of the `"best"` round in validation or the `"last"` ones: validation does not
            see what a critic is for.
    """
    note = _files.read_json(folder / NOTE)
    recipe, validated = note.pop("recipe"), note.pop("validated")
    kind, plan = register.MODELS[note["model"]].kind, recipe.pop("plan")
    config = kind.Config(**recipe.pop("config"))
    model, monitor = kind.build(config), kind.monitor(config)
    kept = {"best": training.load_best, "last": training.load_last}[keep](folder, model)
    log = training.read_log(folder)
    last = kept if keep == "last" else log.iloc[-1]
    before, steps = note.get("began_with", {}), int(last["step"])
    minutes, rounded = round(last["seconds"] / 60, 1), log.round(5).astype(object)
    record = {
        **note,
        "made": datetime.date.today().isoformat(),
        "plan": plan,
        **recipe,
        "steps": steps,
        "minutes": minutes,
        # With the runs that this one went on from.
        "minutes_in_all": round(minutes + before.get("minutes_in_all", 0), 1),
        "examples_in_all": steps * plan["batch_size"] + before.get("examples_in_all", 0),
        f"{keep}_step": int(kept["step"]),
        # Plain values for JSON: column -> one value per round, None where missing.
        "log": rounded.where(rounded.notna(), None).to_dict("list"),
    }
    if monitor in kept:
        # The protocol of the Jaccard distance, or the loss.
        way = monitor.rpartition("jaccard_")[2].removeprefix("val_")
        record["validation"] = {way: round(kept[monitor], 5), "n": validated}
    return save_weights(out, model, record)


def commit() -> str:
    """Return the commit of this checkout, with `+` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    options = {"cwd": workshop.REPOSITORY, "capture_output": True, "text": True}
    try:
        return subprocess.run(command, check=True, **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
