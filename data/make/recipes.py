"""How the shipped weights were trained: `python -m data.make --help` does it again.

A run folder can be stopped at any time (Ctrl-C, a file named `stop` in it, even a power cut) and
is taken up again by the same command.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from helpers import _files, convlstm, records, training, wgan_gp, workshop
from helpers.models import patchnet, register, surfacenet
from helpers.models.weights import load_weights, read_card, save_weights
from helpers.panels.progress import Progress
from helpers.sequences import FrameFormat

tf = workshop.tensorflow()

NOTE = "recipe.json"
NETWORKS = ("scout", "feeder")  # that take part in the training of a SurfaceNet


@dataclass(frozen=True)
class Recipe:
    """All that leads from records to the weights of a model, apart from the data.

    Attributes:
        model: its name in `helpers.models.register.MODELS`.
        config: of the network.
        plan: of the training; what an example of its batch is, `batches` of the model says.
        policy: the Keras dtype policy of the training, also of what a scout and a feeder forecast
            in it; shipped weights forecast in float32.
        drawn: options of `batches` and `validation` of the model. A `scout` and a `feeder` are the
            files of their weights among those that are shipped; None for none.
        learned: options of `compile_options` of the model.
        checked: so many examples are validated, as many of each format.
        anew: these examples are windows, drawn from however few sequences there are.
    """

    model: str
    config: Any
    plan: training.Plan
    policy: str = "float32"
    drawn: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)
    checked: int = 192
    anew: bool = False

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
        return self.kind.batches(split, formats, self.config, self.plan, **self._with_networks())

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return what is validated, as many examples of each format."""
        count = self.checked // len(formats)
        options = self._with_networks()
        return self.kind.validation(split, formats, self.config, count, **options).cache()

    def validated(self, split: records.PackedSplit, formats: Sequence[FrameFormat]) -> int:
        """Return how many examples `validation` takes, those of each format counted anew."""
        if self.anew:
            return self.checked
        return len(formats) * min(self.checked // len(formats), len(split))

    def networks(self) -> dict[str, Path]:
        """Return the weights of the networks that take part in the training, by their part."""
        found = {name: self.drawn.get(name) for name in NETWORKS}
        return {name: register.WEIGHTS / file for name, file in found.items() if file}

    def _with_networks(self) -> dict:
        loaded = {name: self.kind.load(path) for name, path in self.networks().items()}
        return {**self.drawn, **loaded}


def _plan(steps: int, batch_size: int, *, warm_up: int = 200, every: int = 500, **more):
    """Return a plan with what the recipes have in common, also where there are few steps."""
    common = {"decay_from": 0.3, "weight_decay": 1e-4, "validate_every": min(every, steps)}
    return training.Plan(steps, batch_size, warm_up=min(warm_up, steps), **common | more)


def convlstm_recipe(
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float = 2e-3,
    decay: str = "linear",
    policy: str = "float32",
) -> Recipe:
    """Return the recipe of the `workshop()` ConvLSTM: batches of 2 sequences, 38 forecasts.

    The shipped ones were trained with the policy `mixed_bfloat16`, which is faster on processors
    that compute with bfloat16 (AVX-512 BF16, AMX), and many times slower on all others.
    """
    plan = _plan(steps, 2, learning_rate=learning_rate, decay=decay, seed=seed)
    learned = {"jaccard_weight": 0.05}
    return Recipe("convlstm", convlstm.workshop(), plan, policy, learned=learned)


def patchnet_recipe(
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float = 4e-3,
    decay: str = "linear",
    policy: str = "float32",
) -> Recipe:
    """Return the recipe of the shipped PatchNet: batches of 12 windows in mixed formats.

    For the policy `mixed_bfloat16`, see `convlstm_recipe`.
    """
    plan = _plan(steps, 12, warm_up=300, learning_rate=learning_rate, decay=decay, seed=seed)
    return Recipe(
        "patchnet",
        patchnet.shipped(),
        plan,
        policy,
        drawn={"format_weights": patchnet.FORMAT_WEIGHTS},
        learned={"jaccard_weight": 0.05, "later_weight": 0.5},
        checked=456,  # histories: 8 of each length in three formats
    )


def surfacenet_recipe(
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float = 5e-3,
    decay: str = "linear",
    policy: str = "float32",
) -> Recipe:
    """Return the recipe of the shipped SurfaceNet: batches of 64 windows, 256 voxels of each."""
    plan = _plan(
        steps,
        64,
        every=1000,
        decay_from=0.4,
        weight_decay=1e-2,
        learning_rate=learning_rate,
        decay=decay,
        seed=seed,
    )
    drawn = {
        "voxels": surfacenet.Examples.voxels,
        "chances": surfacenet.Examples.chances,
        "scout": "scout.npz",
        "candidates": surfacenet.Examples.candidates,
        "fives": 0.25,
        "feeder": None,
        "fed_back": surfacenet.Examples.fed_back,  # plays no role without a feeder
        "format_weights": surfacenet.FORMAT_WEIGHTS,
    }
    learned = {"later_weight": 2.0, "muon": True}
    checked = {"checked": 960, "anew": True}
    return Recipe("surfacenet", surfacenet.shipped(), plan, policy, drawn, learned, **checked)


def scout_recipe(steps: int, **options) -> Recipe:
    """Return the recipe of the shipped scout, trained as the SurfaceNet; options: the same."""
    recipe = surfacenet_recipe(steps, **options).changed(drawn={"scout": None})
    return dataclasses.replace(recipe, model="scout", config=surfacenet.scout())


def follower_recipe(steps: int, **options) -> Recipe:
    """Return the recipe of the shipped follower, trained as the SurfaceNet; options: the same.

    It is a second SurfaceNet, which learns to go on from what the first one forecast.
    """
    recipe = surfacenet_recipe(steps, **options).changed(drawn={"feeder": "surfacenet.npz"})
    return dataclasses.replace(recipe, model="follower")


def wgan_recipe(
    steps: int,
    *,
    frames: int = 3,
    adversarial: float = 0.0,
    seed: int = 1,
    learning_rate: float | None = None,
    decay: str = "linear",
) -> Recipe:
    """Return the recipe of a WGAN-GP: batches of 16 windows, one format after the other.

    It is trained in two runs: the generator alone, and from there on with the critic.

    Args:
        steps: of the generator.
        frames: how many it reads; the network for one frame also reads noise, since much of what
            comes next cannot be known from one.
        adversarial: weight of the critic's opinion; 0 trains the generator alone.
        seed, decay: see `helpers.training.Plan`.
        learning_rate: of the generator at most; 4e-3 alone and 1e-4 with the critic unless told.
            (With 5e-4 and a weight of 0.03 the critic drove a trained generator for one frame from
            0.232 to 0.296 in 500 steps.)
    """
    rate = learning_rate or (1e-4 if adversarial else 4e-3)
    every = 100 if adversarial else 500
    plan = _plan(steps, 16, every=every, learning_rate=rate, decay=decay, seed=seed)
    # The weight rises from step 150 to step 300 of the second run, while the critic catches up.
    noise = 4 if frames == 1 else 0
    config = wgan_gp.workshop(frames, noise=noise, adversarial=adversarial, warm_up=150)
    return Recipe("wgan_gp", config, plan, learned={"jaccard_weight": 0.05, "critic_rate": 5e-4})


RECIPES = {
    "convlstm": convlstm_recipe,
    "patchnet": patchnet_recipe,
    "surfacenet": surfacenet_recipe,
    "scout": scout_recipe,
    "follower": follower_recipe,
    "wgan_gp": wgan_recipe,
}


def train(
    recipe: Recipe,
    data: Path,
    formats: Sequence[FrameFormat],
    folder: Path,
    *,
    start: Path | None = None,
) -> training.Checkpoint:
    """Train a model, or go on with a run that was stopped.

    Args:
        recipe: the configuration and the plan.
        data: a folder in thesis layout with records or packed splits.
        formats: one, or several that take turns.
        folder: of the run: checkpoint, best weights, log.
        start: weights to begin with, for example those of the mixed run; None begins anew.

    Returns:
        The checkpoint: where the run stands now.

    Raises:
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
    for name, path in recipe.networks().items():
        note[f"{name}_sha256"] = read_card(path).get("sha256")
    with training.owning(folder), hardware.scope():
        _keep_note(note, folder)
        model = recipe.kind.build(recipe.config)
        if start is not None:
            # The losses may differ: only the arrays must fit.
            load_weights(start, model)
        model.compile(**recipe.compile_options(), jit_compile=hardware.xla)
        monitor = recipe.kind.monitor(recipe.config)
        checkpoint = training.Checkpoint(folder, recipe.plan, monitor)
        stop = training.Stop(folder)
        return training.train(
            model,
            recipe.batches(split, formats),
            checkpoint,
            validation=recipe.validation(checked, formats),
            callbacks=[stop, Progress(checkpoint, stop)],
        )


class Stopped(Exception):
    """A training was stopped before its end; the same command goes on from there."""


def completed(run: training.Checkpoint) -> training.Checkpoint:
    """Return a run that reached its end, or raise `Stopped`."""
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
    before, note = json.loads(place.read_text("utf-8")), json.loads(json.dumps(note))
    began = (each.get("began_with", {}).get("sha256") for each in (before, note))
    same = {name: before.get(name) == note.get(name) for name in ("recipe", "formats", "data")}
    same["beginning"] = len(set(began)) == 1
    for name, key in ((name, f"{name}_sha256") for name in NETWORKS):
        same[name] = before.get(key, note.get(key)) == note.get(key)
    if other := [name for name, equal in same.items() if not equal]:
        raise ValueError(
            f"The run in {folder} was started with another {', '.join(other)}. Start in another "
            "folder, or give what it was started with to go on."
        )


def ship(folder: Path, out: Path, keep: str = "best") -> Path:
    """Write the weights of a run, with a record of how they came to be.

    Args:
        folder: of the run, finished or not.
        out: the `.npz` to write; its record goes beside it.
        keep: those of the `"best"` round in validation or the `"last"` ones: validation does not
            see what a critic is for.
    """
    note = json.loads((folder / NOTE).read_text("utf-8"))
    recipe = note.pop("recipe")
    kind = register.MODELS[note["model"]].kind
    plan = recipe.pop("plan")
    config = kind.Config(**recipe.pop("config"))
    model = kind.build(config)
    monitor, validated = kind.monitor(config), note.pop("validated")
    load = training.load_last if keep == "last" else training.load_best
    kept = load(folder, model)
    log = pd.read_csv(folder / training.LOG)
    last = kept if keep == "last" else log.iloc[-1]
    before = note.get("began_with", {})
    record = {
        **note,
        "made": datetime.date.today().isoformat(),
        "plan": plan,
        **recipe,
        "steps": (steps := int(last["step"])),
        "minutes": (minutes := round(last["seconds"] / 60, 1)),
        # With the runs that this one went on from.
        "minutes_in_all": round(minutes + before.get("minutes_in_all", 0), 1),
        "examples_in_all": steps * plan["batch_size"] + before.get("examples_in_all", 0),
        f"{keep}_step": int(kept["step"]),
        "log": _columns(log),
    }
    if monitor in kept:
        # The protocol of the Jaccard distance, or the loss.
        way = monitor.rpartition("jaccard_")[2].removeprefix("val_")
        record["validation"] = {way: round(kept[monitor], 5), "n": validated}
    return save_weights(out, model, record)


def _columns(log: pd.DataFrame) -> dict[str, list]:
    """Return a log as plain values for JSON: column -> one value per round, None where missing."""
    log = log.round(5).astype(object)
    return log.where(log.notna(), None).to_dict("list")


def commit() -> str:
    """Return the commit of this checkout, with `+` where files differ from it."""
    try:
        here = {"cwd": workshop.REPOSITORY, "capture_output": True, "text": True, "check": True}
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **here).stdout.strip()
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", "helpers", "data/make"],
            **{**here, "check": False},
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found + ("+" if changed else "")
