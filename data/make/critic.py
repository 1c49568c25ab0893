"""What a critic is good for: the shapes of rollouts with and without, a sweep of its knobs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.make import recipes
from data.make.shared import write_csv
from helpers import evaluation, metrics, records, rollout, topology, training, wgan_gp
from helpers.models import cnn
from helpers.sequences import T40_TINC2, T80_TINC4, FrameFormat

JUDGED = (T40_TINC2, T80_TINC4)
HISTORY, HORIZON = 5, 10  # frames seen, steps ahead
SHOWN = (1, 5, 10)  # of these steps, the table tells
DRAWS = 8  # forecasts with different noise
BATCH = 100  # sequences at a time
GREY = (0.1, 0.9)  # a probability between these is neither filled nor empty

# The sweep: what differs from `wgan_gp.plain`.
SWEEP = {
    "λ = 0.3": {},
    "λ = 0.03": {"adversarial": 0.03},
    "λ = 0.1": {"adversarial": 0.1},
    "λ = 1": {"adversarial": 1.0},
    "1 critic step": {"critic_steps": 1},
    "6 critic steps": {"critic_steps": 6},
    "straight through": {"straight_through": True},
    "nearest of 4 draws": {"draws": 4},
    "λ = 0": {"adversarial": 0.0},  # the same training, in which the critic has no say
}


class VoxelsDrawn:
    """A forecaster whose voxels are drawn, each by itself, with the probabilities of another one.

    Args:
        forecaster: a network for several frames.
        seed: of what is drawn.
    """

    def __init__(self, forecaster: rollout.Several, seed: int):
        self.forecaster, self.ahead = forecaster, forecaster.ahead
        self.name, self.rng = "voxels drawn", np.random.default_rng(seed)

    def __call__(self, history) -> np.ndarray:
        """See `helpers.rollout.Forecaster`."""
        return self._draw(self.forecaster(history))

    def several(self, history) -> np.ndarray:
        """See `helpers.rollout.Several`."""
        return self._draw(self.forecaster.several(history))

    def _draw(self, probability: np.ndarray) -> np.ndarray:
        return (self.rng.random(probability.shape) < probability).astype(np.float32)


def shapes(draws: Sequence[Callable], frames: np.ndarray) -> pd.DataFrame:
    """Roll out several draws of one model, and measure what they look like.

    Args:
        draws: forecasters that differ in their seed; one, if the model draws nothing.
        frames: uint8 (N, T, D, H, W), T at least `HISTORY` + `HORIZON`.

    Returns:
        A row for each sample and each step of `SHOWN`, averaged over the draws: `volume` and
        `truth_volume` (filled voxels), `pieces` and `truth_pieces`, `grey` (voxels between 0.1 and
        0.9), `jaccard` to the truth, `best` (of all draws) and `between` (Jaccard distance of one
        draw to the next; NaN for one draw). Cut at 0.5, probabilities are fed back.
    """
    steps, parts = np.array(SHOWN) - 1, []
    for start in range(0, len(frames), BATCH):
        batch = frames[start : start + BATCH, : HISTORY + HORIZON]
        seen, truth = np.split(batch, [HISTORY], axis=1)
        truth = truth[:, steps]
        found = np.stack([rollout.rollout(each, seen, HORIZON)[:, steps] for each in draws])
        filled = metrics.cut(found, "half")
        apart = metrics.jaccard_distance(np.broadcast_to(truth, filled.shape), filled)
        between = np.full(truth.shape[:2], np.nan)
        if len(draws) > 1:
            between = metrics.jaccard_distance(filled[1:], filled[:-1]).mean(axis=0)
        voxels = (-3, -2, -1)
        columns = {
            "volume": filled.sum(axis=voxels).mean(axis=0),
            "truth_volume": truth.sum(axis=voxels),
            "pieces": topology.betti_numbers(filled)[..., 0].mean(axis=0),
            "truth_pieces": topology.betti_numbers(truth)[..., 0],
            "grey": ((found > GREY[0]) & (found < GREY[1])).sum(axis=voxels).mean(axis=0),
            "jaccard": apart.mean(axis=0),
            "best": apart.min(axis=0),
            "between": between,
        }
        rows = {name: np.asarray(values, float).ravel() for name, values in columns.items()}
        rows["sample"] = np.repeat(np.arange(start, start + len(batch)), len(steps))
        rows["step"] = np.tile(SHOWN, len(batch))
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average what `shapes` found, with 95 % intervals (bootstrap over samples).

    Returns:
        A row for each step and measure, with `mean`, `low`, `high`, `n`. `volume` and `grey` are
        shares of the true volume, all samples together; `pieces` is the difference to the truth.
    """
    rows = []
    for step, found in table.groupby("step"):
        values = found.drop(columns=["sample", "step"])
        every = np.vstack([values.mean(), evaluation.resampled(values)])
        means = pd.DataFrame(every, columns=values.columns)
        shown = {
            "volume": means["volume"] / means["truth_volume"],
            "pieces": means["pieces"] - means["truth_pieces"],
            "true pieces": means["truth_pieces"],
            "grey": means["grey"] / means["truth_volume"],
            **{name: means[name] for name in ("jaccard", "best", "between")},
        }
        for measure, drawn in shown.items():
            low, high = np.quantile(drawn[1:], evaluation.TAILS)
            ends = {"mean": drawn[0], "low": low, "high": high, "n": len(found)}
            rows.append({"step": step, "measure": measure, **ends})
    return pd.DataFrame(rows).round(4)


def judge(models: Mapping[str, Callable[[FrameFormat], Sequence]], data: Path, limit: int = 500):
    """Measure models on validation sequences.

    Args:
        models: by name, what makes the draws of a model for a format.

    Returns:
        The rows of `summary`, with `model` and `format`.
    """
    points = records.open_split(data, "validation", limit).frames(slice(limit))
    rows = []
    for found in JUDGED:
        frames = found.select(points)
        for name, draws in models.items():
            table = summary(shapes(draws(found), frames))
            rows.append(table.assign(model=name, format=found.name))
    table = pd.concat(rows, ignore_index=True)
    return table[["model", "format", "step", "measure", "mean", "low", "high", "n"]]


def alone(network, name: str = "generator alone") -> dict[str, Callable]:
    """Return what `judge` asks for: a CNN, its voxels drawn, and persistence."""
    return {
        "persistence": lambda found: [rollout.Persistence()],
        name: lambda found: [cnn.forecaster(network, found)],
        "its voxels drawn": lambda found: [
            VoxelsDrawn(cnn.forecaster(network, found), seed) for seed in range(DRAWS)
        ],
    }


def with_critic(name: str, model) -> dict[str, Callable]:
    """Return what `judge` asks for: the draws of a WGAN-GP."""
    seeds = range(DRAWS) if model.config.noise else [None]
    return {name: lambda found: [wgan_gp.forecaster(model, found, seed=seed) for seed in seeds]}


def sweep(
    data: Path,
    folder: Path,
    out: Path,
    settings: Sequence[str] = tuple(SWEEP),
    seeds: Sequence[int] = (1, 2, 3),
    steps: tuple[int, int] = (1200, 600),
) -> pd.DataFrame:
    """Train the smallest generator alone, then with critics that differ in one thing each.

    Args:
        folder: for the runs; those that are there are not done again.
        out: the CSV: the columns of `judge`, `seed`, and `minutes` of the training.
        settings: names in `SWEEP`.
        seeds: each for a generator of its own.
        steps: of the generator alone, and with the critic.
    """
    rows = []
    for seed in seeds:
        place = folder / f"alone-{seed}"
        recipe = recipes.recipe("cnn", steps[0], seed=seed, learning_rate=1e-2)
        recipe = recipe.changed(config=vars(cnn.plain()), plan={"batch_size": 16})
        weights = place / "weights.npz"
        rows.append(_judged(place, recipe, data, alone, ship=weights).assign(seed=seed))
        for setting in settings:
            recipe = recipes.recipe("wgan_gp", steps[1], seed=seed)
            recipe = recipe.changed(config=vars(wgan_gp.plain(**SWEEP[setting])))
            place = folder / f"{list(SWEEP).index(setting)}-{seed}"
            found = _judged(
                place, recipe, data, functools.partial(with_critic, setting), start=weights
            )
            rows.append(found.assign(seed=seed))
            write_csv(pd.concat(rows), out)
    return pd.concat(rows)


def _judged(place: Path, recipe, data: Path, models: Callable, *, start=None, ship=None):
    """Train a network and judge it, or read what was found in this folder before."""
    if (place / "judged.csv").exists():
        return pd.read_csv(place / "judged.csv")
    run = recipes.train(recipe, data, JUDGED, place, start=start)
    network = recipe.kind.build(recipe.config)
    training.load_last(place, network)
    if ship:
        recipes.ship(place, ship, "last")
    table = judge(models(network), data).assign(minutes=round(run.rows[-1]["seconds"] / 60, 1))
    write_csv(table, place / "judged.csv")
    return table
