"""How the shipped weights were trained: `python -m helpers.recipes --help` does it again.

A run folder can be stopped at any time (Ctrl-C, a file named `stop` in it, even a power cut) and
is taken up again by the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import inspect
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import (
    _files,
    convlstm,
    evaluation,
    forecaster,
    metrics,
    records,
    rollout,
    sequences,
    surface,
    training,
    wgan_gp,
    workshop,
)
from helpers.panels.progress import Progress
from helpers.sequences import THESIS_FORMATS, FrameFormat, Shifted

tf = workshop.tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)

WEIGHTS = workshop.REPOSITORY / "data" / "weights"
FORMATS = {found.name: found for found in THESIS_FORMATS}
MIXED = "mixed"
NOTE = "recipe.json"
VALIDATION_SAMPLES = 192
FOLLOWER = "follower.npz"
NETWORKS = ("scout", "feeder")  # that take part in the training of a SurfaceNet


@dataclass(frozen=True)
class Recipe:
    """All that leads from records to the weights of a ConvLSTM, apart from the data.

    Attributes:
        config: of the model.
        plan: of the training; its batch is one of sequences.
        jaccard_weight: of the soft Jaccard distance in the loss.
        policy: the Keras dtype policy of the training, also of what a scout and a feeder forecast
            in it; shipped weights forecast in float32.
    """

    config: convlstm.Config
    plan: training.Plan
    jaccard_weight: float = 0.05
    policy: str = "float32"

    model = "convlstm"
    kind = convlstm
    protocol = "pooled"  # of the validation, over so many sequences
    checked = VALIDATION_SAMPLES

    @property
    def monitor(self) -> str:
        """What the best weights are chosen by."""
        return f"val_jaccard_{self.protocol}"

    def compile_options(self) -> dict:
        """Return optimizers, loss and metrics for `model.compile`."""
        return {
            "optimizer": self.plan.optimizer(),
            "loss": training.voxel_loss(self.jaccard_weight),
            "metrics": [metrics.keras_jaccard(self.protocol)],
        }

    def batches(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """Return what `training.train` asks for: the batches from any step on.

        With several formats, one batch of each follows the other.
        """

        def stream(number: int, step: int) -> tf.data.Dataset:
            return sequences.from_packed(
                split,
                formats[number],
                Shifted(),
                batch_size=self.plan.batch_size,
                seed=self.plan.seed + number,
                repeat=True,
                drop_remainder=True,
                start_step=step,
            )

        return sequences.in_turn(stream, len(formats))

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return the first sequences of the split, as many in each format."""
        frames = split.frames(slice(self.checked // len(formats)))
        chosen = np.concatenate([found.select(frames) for found in formats])[..., np.newaxis]
        data = tf.data.Dataset.from_tensor_slices((chosen[:, :-1], chosen[:, 1:])).batch(16)
        return data.map(lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.float32)))

    def validated(self, split: records.PackedSplit, formats: Sequence[FrameFormat]) -> int:
        """Return how many samples `validation` takes, those of each format counted anew."""
        return len(formats) * min(self.checked // len(formats), len(split))


@dataclass(frozen=True)
class PatchNetRecipe(Recipe):
    """The same for a PatchNet; a batch of the plan is one of windows, in mixed formats.

    Attributes:
        later_weight: of the loss of the frames after the next one.
        format_weights: of each format in the loss, by its time step.
    """

    config: forecaster.Config
    later_weight: float = 0.5
    format_weights: tuple[tuple[int, float], ...] = ((1, 2.0), (2, 1.4), (4, 1.0))

    model = "patchnet"
    kind = forecaster
    protocol = "per_frame"
    checked = 456  # histories: 8 of each length in three formats

    @property
    def parts(self) -> list[str]:
        """The outputs of the model."""
        return ["next", "later"] if self.config.ahead > 1 else ["next"]

    @property
    def monitor(self) -> str:
        """See `Recipe`; Keras leaves out the name of an output that is the only one."""
        return f"val_{'next_' * (len(self.parts) > 1)}jaccard_{self.protocol}"

    def compile_options(self) -> dict:
        """See `Recipe`."""
        return {
            "optimizer": self.plan.optimizer(),
            "loss": {part: training.voxel_loss(self.jaccard_weight) for part in self.parts},
            "loss_weights": dict(zip(self.parts, (1.0, self.later_weight))),
            "metrics": {"next": [metrics.keras_jaccard(self.protocol)]},
        }

    def batches(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """See `Recipe`; the formats are drawn at random."""
        return self.examples(split, formats).dataset

    def examples(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """Return what the batches are drawn from."""
        weights = dict(self.format_weights)
        return forecaster.Examples(
            split,
            formats,
            self.config,
            self.plan.batch_size,
            seed=self.plan.seed,
            weights=[weights.get(found.TINC, 1.0) for found in formats],
        )

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return histories of all lengths, as many in each format."""
        count = self.checked // len(formats)
        return forecaster.validation(split, formats, self.config, count).cache()


@dataclass(frozen=True)
class SurfaceNetRecipe(PatchNetRecipe):
    """The same for a SurfaceNet, which learns from some voxels of each window.

    Attributes:
        voxels, chances, candidates, fives, fed_back: see `helpers.surface.Examples`.
        scout, feeder: the files of their weights among those that are shipped; None for none.
            Without a feeder, `fed_back` plays no role.
        muon: train with Muon; False takes the AdamW of the plan, as for the other models.
    """

    config: surface.Config
    voxels: int = surface.Examples.voxels
    chances: tuple[float, ...] = surface.Examples.chances
    scout: str | None = "scout.npz"
    candidates: int = surface.Examples.candidates
    fives: float = 0.25
    feeder: str | None = None
    fed_back: float = surface.Examples.fed_back
    muon: bool = True
    later_weight: float = 2.0
    format_weights: tuple[tuple[int, float], ...] = ((1, 1.5), (2, 1.4), (4, 1.4))
    jaccard_weight: float = 0.0  # there is no whole frame to compare

    model = "surfacenet"
    kind = surface
    protocol = "loss"  # of voxels near a surface, weighted as in training; thresholds come later
    checked = 960  # windows

    @property
    def monitor(self) -> str:
        """See `Recipe`."""
        return "val_loss"

    def compile_options(self) -> dict:
        """See `Recipe`."""
        return {
            "optimizer": self.optimizer(),
            "loss": {part: keras.losses.BinaryCrossentropy() for part in self.parts},
            "loss_weights": dict(zip(self.parts, (1.0, self.later_weight))),
        }

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Return Muon, which makes the steps of a matrix equally long in all directions.

        From half as many voxels it learned as much as AdamW (K. Jordan, 2024,
        kellerjordan.github.io/posts/muon). Biases and the last layer are left to Adam.
        """
        if not self.muon:
            return self.plan.optimizer()
        return keras.optimizers.Muon(
            self.plan.schedule(),
            weight_decay=self.plan.weight_decay,
            adam_weight_decay=0.0,
            exclude_layers=["head"],
            global_clipnorm=self.plan.clip_norm,
        )

    def examples(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """See `PatchNetRecipe`."""
        found = super().examples(split, formats)
        names = ("voxels", "chances", "candidates", "fives", "fed_back")
        chosen = {name: getattr(self, name) for name in names}
        for name in NETWORKS:
            file = getattr(self, name)
            chosen[name] = surface.load(WEIGHTS / file) if file else None
        return surface.Examples(**vars(found) | chosen)

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return windows as in training, always the same."""
        examples = dataclasses.replace(
            self.examples(split, formats), batch_size=32, seed=0, augment=False
        )
        return examples.dataset().take(self.checked // 32).cache()

    def validated(self, split: records.PackedSplit, formats: Sequence[FrameFormat]) -> int:
        """Return how many windows `validation` takes; they are drawn, from however few samples."""
        return self.checked


@dataclass(frozen=True)
class ScoutRecipe(SurfaceNetRecipe):
    """The same for the small SurfaceNet that tells where the large one has to look."""

    scout: str | None = None

    model = "scout"


@dataclass(frozen=True)
class FollowerRecipe(SurfaceNetRecipe):
    """The same for a second SurfaceNet, which learned to go on from what the first one forecast."""

    feeder: str | None = "surfacenet.npz"

    model = "follower"


@dataclass(frozen=True)
class WGANRecipe(Recipe):
    """The same for a WGAN-GP; a batch of the plan is one of windows, one format after the other.

    Attributes:
        critic_rate: learning rate of the critic.
    """

    config: wgan_gp.Config
    critic_rate: float = 2e-4

    model = "wgan_gp"
    kind = wgan_gp
    protocol = "per_frame"
    checked = 192  # sequences: 64 in each of three formats

    def compile_options(self) -> dict:
        """See `Recipe`."""
        options = super().compile_options() | wgan_gp.workshop_optimizers(
            self.plan, self.critic_rate
        )
        del options["optimizer"]
        return options

    def batches(self, split: records.PackedSplit, formats: Sequence[FrameFormat]):
        """See `Recipe`."""
        return wgan_gp.batches(split, formats, self.config, self.plan)

    def validation(
        self, split: records.PackedSplit, formats: Sequence[FrameFormat]
    ) -> tf.data.Dataset:
        """Return every third window of the first sequences, as many in each format."""
        count = self.checked // len(formats)
        return wgan_gp.validation(split, formats, self.config, count).cache()


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
    plan = training.Plan(
        steps=steps,
        batch_size=2,
        learning_rate=learning_rate,
        warm_up=min(200, steps),
        decay=decay,
        decay_from=0.3,
        weight_decay=1e-4,
        validate_every=min(500, steps),
        seed=seed,
    )
    return Recipe(convlstm.workshop(), plan, policy=policy)


def patchnet_recipe(
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float = 4e-3,
    decay: str = "linear",
    policy: str = "float32",
) -> PatchNetRecipe:
    """Return the recipe of the shipped PatchNet: batches of 12 windows in mixed formats.

    For the policy `mixed_bfloat16`, see `convlstm_recipe`.
    """
    plan = training.Plan(
        steps=steps,
        batch_size=12,
        learning_rate=learning_rate,
        warm_up=min(300, steps),
        decay=decay,
        decay_from=0.3,
        weight_decay=1e-4,
        validate_every=min(500, steps),
        seed=seed,
    )
    return PatchNetRecipe(forecaster.shipped(), plan, policy=policy)


def surfacenet_recipe(
    steps: int,
    *,
    seed: int = 1,
    learning_rate: float = 5e-3,
    decay: str = "linear",
    policy: str = "float32",
) -> SurfaceNetRecipe:
    """Return the recipe of the shipped SurfaceNet: batches of 64 windows, 256 voxels of each."""
    plan = training.Plan(
        steps=steps,
        batch_size=64,
        learning_rate=learning_rate,
        warm_up=min(200, steps),
        decay=decay,
        decay_from=0.4,
        weight_decay=1e-2,
        validate_every=min(1000, steps),
        seed=seed,
    )
    return SurfaceNetRecipe(surface.shipped(), plan, policy=policy)


def scout_recipe(steps: int, **options) -> ScoutRecipe:
    """Return the recipe of the shipped scout, trained as the SurfaceNet; options: the same."""
    recipe = surfacenet_recipe(steps, **options)
    return ScoutRecipe(surface.scout(), recipe.plan, policy=recipe.policy)


def follower_recipe(steps: int, **options) -> FollowerRecipe:
    """Return the recipe of the shipped follower, trained as the SurfaceNet; options: the same."""
    recipe = surfacenet_recipe(steps, **options)
    return FollowerRecipe(recipe.config, recipe.plan, policy=recipe.policy)


def wgan_recipe(
    steps: int,
    *,
    frames: int = 3,
    adversarial: float = 0.0,
    seed: int = 1,
    learning_rate: float | None = None,
    decay: str = "linear",
) -> WGANRecipe:
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
    plan = training.Plan(
        steps=steps,
        batch_size=16,
        learning_rate=learning_rate or (1e-4 if adversarial else 4e-3),
        warm_up=min(200, steps),
        decay=decay,
        decay_from=0.3,
        weight_decay=1e-4,
        validate_every=min(100 if adversarial else 500, steps),
        seed=seed,
    )
    # The weight rises from step 150 to step 300 of the second run, while the critic catches up.
    noise = 4 if frames == 1 else 0
    config = wgan_gp.workshop(frames, noise=noise, adversarial=adversarial, warm_up=150)
    return WGANRecipe(config, plan, critic_rate=5e-4)


RECIPES = {
    "convlstm": convlstm_recipe,
    "patchnet": patchnet_recipe,
    "surfacenet": surfacenet_recipe,
    "scout": scout_recipe,
    "follower": follower_recipe,
    "wgan_gp": wgan_recipe,
}
KINDS = {
    kind.model: kind
    for kind in (Recipe, PatchNetRecipe, SurfaceNetRecipe, ScoutRecipe, FollowerRecipe, WGANRecipe)
}


def open_split(data: Path, split: str, limit: int | None = None) -> records.PackedSplit:
    """Open one split of a folder in thesis layout, whether it holds records or a packed split."""
    folder = data / workshop.SPLITS[split]
    if (folder / "manifest.json").exists():
        return records.PackedSplit(folder)
    return records.packed(folder, limit=limit)


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
    split, checked = open_split(data, "training"), open_split(data, "validation")
    hardware = dataclasses.replace(training.hardware(seed=recipe.plan.seed), policy=recipe.policy)
    folder.mkdir(parents=True, exist_ok=True)
    note = {
        "model": recipe.model,
        "recipe": dataclasses.asdict(recipe),
        "formats": [found.name for found in formats],
        "data": f"{len(split)} training samples: {split.source}",
        "validated": recipe.validated(checked, formats),
        "commit": commit(),
        "machine": training.machine(),
    }
    if start is not None:
        before = training.read_record(start)
        note["began_with"] = {"file": start.name} | {
            name: value
            for name, value in before.items()
            if not name.startswith(("validation,", "test"))
        }
    for name in NETWORKS:
        if file := getattr(recipe, name, None):
            note[f"{name}_sha256"] = training.read_record(WEIGHTS / file).get("sha256")
    with training.owning(folder), hardware.scope():
        _keep_note(note, folder)
        model = recipe.kind.build(recipe.config)
        if start is not None:
            # The losses may differ: only the arrays must fit.
            training.load_weights(start, model, config=before["configuration"])
        model.compile(**recipe.compile_options(), **hardware.compile_options())
        checkpoint, stop = (
            training.Checkpoint(folder, recipe.plan, recipe.monitor),
            training.Stop(folder),
        )
        return training.train(
            model,
            recipe.batches(split, formats),
            checkpoint,
            validation=recipe.validation(checked, formats),
            callbacks=[stop, Progress(checkpoint, stop)],
        )


class Stopped(Exception):
    """A training was stopped before its end; the same command goes on from there."""


def _completed(run: training.Checkpoint) -> training.Checkpoint:
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


ABLATIONS = {
    "convlstm": {
        "as it is": {},
        "without the frame before": {"config": {"previous": False}},
        "a memory of 4 channels": {"config": {"filters": (4,)}},
        "a memory that sees no neighbours": {"config": {"kernels": (1,)}},
        "without residual blocks": {"config": {"blocks": 0}},
        "without the start at persistence": {"config": {"residual": 0.0}},
        "patches of 4³": {"config": {"patch": 4}},
        "without soft Jaccard in the loss": {"jaccard_weight": 0.0},
    },
    "patchnet": {
        "as it is": {},
        "only the next frame": {"config": {"ahead": 1}},
        "without flip times": {"config": {"flip_times": False}},
        "8 frames of history": {"config": {"history": 8}},
        "192 channels": {"config": {"width": 192}},
        "4 blocks": {"config": {"blocks": 4}},
        "blocks not normalised, half the rate": {
            "config": {"normalise": False},
            "plan": {"learning_rate": 2e-3},
        },
        "half the rate": {"plan": {"learning_rate": 2e-3}},
        "twice the rate": {"plan": {"learning_rate": 8e-3}},
        "batches of 24, twice the rate": {"plan": {"learning_rate": 8e-3, "batch_size": 24}},
        "later frames three times the weight": {"later_weight": 1.5},
        "without soft Jaccard in the loss": {"jaccard_weight": 0.0},
        "T80_TINC4 only": {"formats": ("T80_TINC4",)},
        "a start at ±1 in place of ±4": {"config": {"residual": 1.0}},
        "blocks not normalised": {"config": {"normalise": False}},
    },
    "surfacenet": {
        "as it is": {},
        "neighbourhoods as they lie": {"config": {"canonical": False}},
        "neighbours within 2 voxels": {"config": {"radius": 2}},
        "neighbours within 4 voxels": {"config": {"radius": 4}},
        "8 frames of history": {"config": {"history": 8}},
        "half as wide": {"config": {"width": 192}},
        "AdamW, half the rate": {"muon": False, "plan": {"learning_rate": 2.5e-3}},
        "half the rate": {"plan": {"learning_rate": 2.5e-3}},
        "twice the rate": {"plan": {"learning_rate": 1e-2}},
        "only the next frame": {"config": {"ahead": 1}},
        "T80_TINC4 only": {"formats": ("T80_TINC4",)},
        "without blocks": {"config": {"blocks": 0}},
        "voxels drawn by distance alone": {"scout": None},
        "histories of all lengths alike": {"fives": 0.0},
        "later frames a quarter of the weight": {"later_weight": 0.5},
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
        out: the CSV to write, with all that the folder holds.
        steps: of the recipe's batches; fewer where a batch is larger.

    Returns:
        `change`, `parameters`, `million_multiply_adds`, `examples`, `minutes`, and for each format
        the pooled next-frame distance on the first 64 validation sequences; in the last row that
        of persistence.

    Raises:
        ValueError: a model without ablations.
        Stopped: one of the runs was stopped; the same call goes on with it.
    """
    if model not in ABLATIONS:
        raise ValueError(f"there are no ablations of {model}; choose {' or '.join(ABLATIONS)}.")
    changes = ABLATIONS[model]
    samples = open_split(data, "validation").frames(slice(ABLATION_SAMPLES))
    for number, (change, values) in enumerate(changes.items()):
        place = folder / str(number)
        if (place / "row.json").exists():
            continue
        recipe, values = RECIPES[model](steps), dict(values)
        chosen = [FORMATS[name] for name in values.pop("formats", [each.name for each in formats])]
        plan = {"warm_up": min(100, steps // 4), "decay_from": 0.4, **values.pop("plan", {})}
        batch_size = plan.get("batch_size", recipe.plan.batch_size)
        plan["steps"] = plan["validate_every"] = steps * recipe.plan.batch_size // batch_size
        recipe = dataclasses.replace(
            recipe,
            config=dataclasses.replace(recipe.config, **values.pop("config", {})),
            plan=dataclasses.replace(recipe.plan, **plan),
            **values,
        )
        print(change)
        run = _completed(train(recipe, data, chosen, place))
        network = recipe.kind.build(recipe.config)
        training.load_best(place, network)
        row = {
            "change": change,
            "parameters": network.count_params(),
            "million_multiply_adds": round(recipe.kind.multiply_adds(recipe.config) / 1e6),
            "examples": run.step * batch_size,
            "minutes": round(run.seconds / 60, 1),
        }
        for found in chosen:
            frames = found.select(samples)
            after = rollout.next_frames(_wrap(recipe.kind, network, found), frames)
            row[found.name] = round(float(metrics.pooled(frames[:, 1:], after).mean()), 4)
        _files.write_json(place / "row.json", row)
        training.free_memory()
    rows = [
        json.loads((folder / str(number) / "row.json").read_text("utf-8"))
        for number in range(len(changes))
    ]
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


def load(weights: Path, frame_format: FrameFormat, **options):
    """Return the forecaster of shipped weights, whichever model they are of.

    Forecasters of the same file share one network, which is then compiled only once: to train it
    on, load another with the `load` of its module.

    Args:
        weights: `NAME.npz` with its record `NAME.json` beside it.
        frame_format: of the histories it will see.
        options: of the function `forecaster` in the module of the model. The thresholds of a
            PatchNet or SurfaceNet are those of the record unless they are given here. A SurfaceNet
            asks the scout in the same folder first, if there is one, unless it is given another
            `scout` or None. The same holds for the `follower`, which takes part in all frames after
            the next one, without thresholds of its own. `together=True` takes the mean of this
            SurfaceNet and of the PatchNet in the same folder; it goes with `memory`, `scout`,
            `follower`, and with the options of `helpers.forecaster.Together`.

    Raises:
        TypeError: an option that there is not.
        ValueError: `together` for another network.
        FileNotFoundError, helpers.training.CheckpointError: see `helpers.training.load_weights`.
    """
    weights = Path(weights)
    record = training.read_record(weights)
    recipe = _recipe_of(weights, record)
    name, kind = recipe.model, recipe.kind
    together = options.pop("together", False)
    if together and name != SurfaceNetRecipe.model:
        raise ValueError(f"{weights} is no SurfaceNet: it is not averaged with a PatchNet.")
    parts_take = ("memory", "scout", "follower") if together else ()
    made = inspect.signature(forecaster.Together if together else kind.forecaster)
    known = {*parts_take, *made.parameters} - {"model", "frame_format", "forecasters"}
    if unknown := ", ".join(sorted(options.keys() - known)):
        raise TypeError(
            f"{weights} has no option {unknown}; choose from {', '.join(sorted(known))}"
            f"{', which go with together' * together}."
        )
    files = (weights, weights.with_suffix(".json"))
    changed = tuple(file.stat().st_mtime_ns for file in files if file.exists())
    if kind in VARIED:
        chosen = record.get(thresholds_name("together" if together else ""), {})
        options = {"thresholds": chosen.get(frame_format.name)} | options
        if together:
            parts = [partner(weights), weights]
            asked = {name: options.pop(name) for name in parts_take if name in options}
            given = [{"memory": asked.get("memory")}, asked]
            plain = [
                load(part, frame_format, thresholds=None, **each)
                for part, each in zip(parts, given)
            ]
            options = {"shares": record.get(SHARES_NAME, {}).get(frame_format.name)} | options
            return forecaster.Together(plain, **options)
    if kind is surface and name != ScoutRecipe.model:
        beside = weights.with_name(SurfaceNetRecipe.scout)
        if "scout" not in options:
            options["scout"] = load(beside, frame_format).model if beside.exists() else None
        beside = weights.with_name(FOLLOWER)
        if name == SurfaceNetRecipe.model and "follower" not in options and beside.exists():
            given = {key: options.get(key) for key in ("memory", "scout")}
            options["follower"] = load(beside, frame_format, thresholds=None, **given)
    return _wrap(kind, _network(kind, weights.resolve(), changed), frame_format, **options)


def _wrap(kind, network, frame_format: FrameFormat, **options):
    """Make a network of one of the kinds a forecaster; a ConvLSTM is the same for any format."""
    if kind is convlstm:
        return convlstm.forecaster(network, **options)
    return kind.forecaster(network, frame_format, **options)


def _recipe_of(weights: Path, record: dict) -> type[Recipe]:
    """Return the class of the recipe of shipped weights.

    Raises:
        helpers.training.CheckpointError: no model of this course.
    """
    name = record.get("model", Recipe.model)
    if name not in KINDS:
        raise training.CheckpointError(
            f"{weights} is of a model {name!r}; this course knows {', '.join(KINDS)}."
        )
    return KINDS[name]


def _check_formats(weights: Path, record: dict, formats: Sequence[FrameFormat]) -> None:
    """Check that weights were trained for all these formats, if their record names any."""
    names = [found.name for found in formats]
    if other := ", ".join(name for name in names if name not in record.get("formats", names)):
        raise ValueError(
            f"{weights} was not trained for {other}; choose from {', '.join(record['formats'])}."
        )


@functools.lru_cache(maxsize=8)
def _network(kind, weights: Path, changed: tuple[int, ...]):
    """Load a network, or return it again as long as its files have not changed."""
    return kind.load(weights)


# The networks that give several frames at once, and what these gain without training. `load` gives
# "thresholds" unless it is told otherwise.
VARIED = (forecaster, surface)
VARIANTS = {
    "fed back": {"thresholds": None, "ahead": 1},
    "plain": {"thresholds": None},
    "thresholds": {},
    "mirrorings": {"symmetries": 8},
    "together": {"together": True},
}


def partner(weights: Path) -> Path:
    """Return where the PatchNet is that the variant `"together"` takes the mean with."""
    return weights.with_name(f"{PatchNetRecipe.model}.npz")


SHARES_NAME = "shares, together"
# Of PatchNet and SurfaceNet, tried by `tune`; the last leaves the PatchNet out.
SHARES = ((0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0))


def thresholds_name(variant: str) -> str:
    """Return under which name a record holds the thresholds of a variant."""
    return "thresholds, together" if variant == "together" else "thresholds"


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
        weights, options: see `load`.
        data: a folder in thesis layout.
        frame_format: one of the formats of the weights.
        split: `"validation"` or `"test"`.
        limit: only the first so many samples.

    Raises:
        ValueError: another format; see `load`.
        TypeError, FileNotFoundError, helpers.training.CheckpointError: see `load`.
    """
    _check_formats(weights, training.read_record(weights), [frame_format])
    model = load(weights, frame_format, **options)
    found = open_split(data, split, limit)
    frames = frame_format.select(found.frames(np.arange(len(found))[:limit]))
    protocol, first, history = "pooled", 1, forecaster.ROLLOUT_HISTORY
    if isinstance(model, wgan_gp.WGANGPForecaster):
        protocol, first = WGANRecipe.protocol, model.model.config.frames
        history = first
    options = {"frame_format": frame_format, "sample_id": found.sample_id[:limit], "progress": True}
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
    each forecast, see `helpers.forecaster.fitting_threshold`. The variant `"together"`, the mean
    with the PatchNet beside it, has thresholds of its own, and for each frame ahead the best one
    of the `SHARES`; other variants have none.

    Raises:
        ValueError: a variant or a model without thresholds of its own: a scout and a follower
            forecast for another. A format that the weights were not trained for; weights that were
            replaced meanwhile.
    """
    if variant not in ("thresholds", "together"):
        raise ValueError(f"{variant!r} has no thresholds; choose thresholds or together.")
    record = training.read_record(weights)
    tuned = [SurfaceNetRecipe.model] + [PatchNetRecipe.model] * (variant == "thresholds")
    if (model := _recipe_of(weights, record).model) not in tuned:
        raise ValueError(
            f"{weights} is of a {model}, which has no {variant!r} to choose; "
            f"take a {' or '.join(tuned)}."
        )
    _check_formats(weights, record, formats)
    limit = VALIDATION_SAMPLES if limit is None else limit
    split = open_split(data, "validation", limit)
    samples = split.frames(np.arange(min(limit, len(split))))
    for found in formats:
        frames = found.select(samples)
        model = load(weights, found, **VARIANTS[variant] | VARIANTS["plain"])
        parts = model.forecasters if variant == "together" else [model]
        following = [rollout.next_frames(part, frames) for part in parts]
        history, best = forecaster.ROLLOUT_HISTORY, []
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
                trials.append((*forecaster.best_threshold(truth, mean, **options), shares))
            best.append(min(trials, key=lambda trial: trial[1]))
        print(found.name, best)
        chosen = {thresholds_name(variant): {found.name: [threshold for threshold, *_ in best]}}
        if variant == "together":
            chosen[SHARES_NAME] = {found.name: [list(shares) for *_, shares in best]}
        chosen["thresholds_by"] = f"{len(samples)} validation sequences"
        _add(weights, record, chosen)


def _add(weights: Path, before: dict, found: dict) -> None:
    """Add what was found to the record as it is by now; mappings keep their other entries.

    Raises:
        ValueError: the weights are not those of the record `before`.
    """
    record = training.read_record(weights)
    if record.get("sha256") != before.get("sha256"):
        raise ValueError(f"{weights} has been replaced by other weights meanwhile; start again.")
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
    chosen = KINDS[note.get("model", Recipe.model)]
    plan = recipe.pop("plan")
    config = chosen.kind.Config(**recipe.pop("config"))
    model = chosen.kind.build(config)
    made = chosen(config, training.Plan(**plan))
    validated = note.pop("validated", made.checked)
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
    if made.monitor in kept:
        record["validation"] = {made.protocol: round(kept[made.monitor], 5), "n": validated}
    return training.save_weights(out, model, record)


def _columns(log: pd.DataFrame) -> dict[str, list]:
    """Return a log as plain values for JSON: column -> one value per round, None where missing."""
    log = log.round(5).astype(object)
    return log.where(log.notna(), None).to_dict("list")


def training_logs(record: dict) -> dict[str, pd.DataFrame]:
    """Return the logs of a training and of those that it went on from.

    Args:
        record: of shipped weights, see `helpers.training.read_record`. Those made before logs were
            kept have none, and neither have averages of several runs.

    Returns:
        `"run 1"`, the first one, and so on -> its log: one row per round, with the columns `step`,
        `seconds`, and the losses. A run whose log was not kept is left out.
    """
    trainings = [record]
    while "began_with" in trainings[0]:
        trainings.insert(0, trainings[0]["began_with"])
    numbered = enumerate(trainings, 1)
    return {f"run {n}": pd.DataFrame(made["log"]) for n, made in numbered if "log" in made}


def commit() -> str:
    """Return the commit of this checkout, with `+` where files differ from it."""
    try:
        here = {"cwd": workshop.REPOSITORY, "capture_output": True, "text": True, "check": True}
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **here).stdout.strip()
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", "helpers"], **{**here, "check": False}
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found + ("+" if changed else "")


NEEDED = {  # of the options, by each task
    "train": ("data", "run"),
    "ship": ("run", "weights"),
    "tune": ("data", "weights"),
    "validate": ("data", "weights"),
    "test": ("data", "weights"),
    "ablate": ("data", "run", "out"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a model of the course, ship its weights, or judge them on the test split."""
    options = _options(arguments)
    try:
        _do(options)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 130  # as after Ctrl-C, so that `train … && ship …` ships nothing half-trained
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; leave with an error if an option is missing that the task needs."""
    parser = argparse.ArgumentParser(prog="python -m helpers.recipes", description=main.__doc__)
    parser.add_argument("task", choices=list(NEEDED))
    parser.add_argument("format", choices=[*FORMATS, MIXED], help="mixed: all three formats")
    parser.add_argument("--model", choices=list(RECIPES), default="convlstm")
    parser.add_argument("--data", type=Path, help="all but ship: a folder in thesis layout")
    parser.add_argument("--run", type=Path, help="train, ship, ablate: the folder of the run")
    parser.add_argument("--weights", type=Path, help="the .npz to write or to judge")
    parser.add_argument(
        "--keep", choices=["best", "last"], default="best", help="ship: of which round"
    )
    parser.add_argument("--out", type=Path, help="ablate: the CSV to write")
    parser.add_argument("--start", type=Path, help="train: weights to begin with")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--learning-rate", type=float, help="the highest; the recipe's unless told")
    parser.add_argument(
        "--policy",
        choices=["float32", "mixed_bfloat16"],
        default="float32",
        help="all but wgan_gp: the arithmetic of the training",
    )
    parser.add_argument("--frames", type=int, default=3, help="wgan_gp: how many it reads")
    parser.add_argument(
        "--adversarial", type=float, default=0.0, help="wgan_gp: weight of the critic"
    )
    parser.add_argument("--decay", choices=training.DECAYS, default="linear")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="tune, test: only the first so many samples")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=list(VARIANTS),
        default=["thresholds"],
        help="tune, validate, test: how a PatchNet or SurfaceNet is used",
    )
    options = parser.parse_args(arguments)
    missing = [name for name in NEEDED[options.task] if getattr(options, name) is None]
    if missing:
        parser.error(f"{options.task} needs {', '.join(f'--{name}' for name in missing)}")
    return options


def _do(options: argparse.Namespace) -> None:
    """Do the task of a command line.

    Raises:
        Stopped: a training was stopped.
    """
    formats = list(FORMATS.values()) if options.format == MIXED else [FORMATS[options.format]]
    given = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    if options.model != WGANRecipe.model:
        given |= {"policy": options.policy}
    else:
        given |= {"frames": options.frames, "adversarial": options.adversarial}
    recipe = RECIPES[options.model](options.steps, seed=options.seed, decay=options.decay, **given)
    if options.task in ("validate", "test"):
        split = "validation" if options.task == "validate" else "test"
        limit = VALIDATION_SAMPLES if split == "validation" else options.limit
        for variant in options.variants:
            add_figures(options.weights, options.data, formats, limit, split, variant)
    elif options.task == "tune":
        for variant in options.variants:
            tune(options.weights, options.data, formats, variant, options.limit)
    elif options.task == "ablate":
        print(
            ablate(
                options.model,
                options.data,
                formats,
                options.run,
                options.out,
                options.steps,
            )
        )
    elif options.task == "ship":
        ship(options.run, options.weights, options.keep)
    else:
        _completed(train(recipe, options.data, formats, options.run, start=options.start))


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
        FileNotFoundError, helpers.training.CheckpointError: see `load`.
    """
    record = training.read_record(weights)
    _check_formats(weights, record, formats)
    varied = _recipe_of(weights, record).kind in VARIED
    if not varied and variant != "thresholds":
        raise ValueError(f"{weights} is no PatchNet or SurfaceNet; {variant!r} is of these.")
    options = VARIANTS[variant] if varied else {}
    for each in formats:
        found = {each.name: figures(judge(weights, data, each, split, limit, **options))}
        print(variant if varied else "", json.dumps(found, indent=2))
        _add(weights, record, {f"{split}, {variant}" if varied else split: found})


if __name__ == "__main__":
    sys.exit(main())
