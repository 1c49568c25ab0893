"""All models of the course by name, and their shipped weights."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from helpers import convlstm, wgan_gp, workshop
from helpers.models import patchnet, shared, surfacenet
from helpers.models.weights import CheckpointError, read_card
from helpers.sequences import FrameFormat

WEIGHTS = workshop.REPOSITORY / "data" / "weights"
SHARES = "shares, together"  # how a record calls those of the variant "together"
# What networks for several frames gain without training. `load` gives "thresholds" unless it is
# told otherwise.
VARIANTS = {
    "fed back": {"thresholds": None, "ahead": 1},
    "plain": {"thresholds": None},
    "thresholds": {},
    "mirrorings": {"symmetries": 8},
    "together": {"together": True},
}


@dataclass(frozen=True)
class Model:
    """What is called by one name in the records of weights.

    Attributes:
        kind: the module of its network.
        several: it forecasts several frames at once, in one of the `VARIANTS`.
        beside: the models whose weights, in the same folder, take part in its forecasts.
        partner: the model that the variant `"together"` takes the mean with.
        judged_too: the variants that are judged beside `"thresholds"`.
        part: it forecasts for another model, and is judged with that.
    """

    kind: ModuleType
    several: bool = False
    beside: tuple[str, ...] = ()
    partner: str | None = None
    judged_too: tuple[str, ...] = ()
    part: bool = False


MODELS = {
    "convlstm": Model(convlstm),
    "patchnet": Model(patchnet, several=True, judged_too=("mirrorings",)),
    "surfacenet": Model(
        surfacenet,
        several=True,
        beside=("scout", "follower"),
        partner="patchnet",
        judged_too=("together",),
    ),
    "scout": Model(surfacenet, several=True, part=True),
    "follower": Model(surfacenet, several=True, beside=("scout",), part=True),
    "wgan_gp": Model(wgan_gp),
}


def name_of(weights: Path, record: dict) -> str:
    """Return the name of the model that weights are of.

    Raises:
        helpers.models.weights.CheckpointError: no model of this course.
    """
    name = record.get("model", "convlstm")
    if name not in MODELS:
        raise CheckpointError(
            f"{weights} is of a model {name!r}; this course knows {', '.join(MODELS)}."
        )
    return name


def file_of(weights: str | Path) -> Path:
    """Return the path of weights: a name is that of a shipped file, without its ending."""
    path = Path(weights)
    shipped = path.suffix != ".npz" and path.name == str(path)
    return WEIGHTS / f"{path}.npz" if shipped else path


def beside(weights: Path, model: str | None) -> Path | None:
    """Return the weights of a model in the same folder, or None where there are none."""
    path = weights.with_name(f"{model}.npz")
    return path if model and path.exists() else None


def partner(weights: Path) -> Path:
    """Return where the PatchNet is that the variant `"together"` takes the mean with."""
    return weights.with_name(f"{MODELS['surfacenet'].partner}.npz")


def thresholds_name(variant: str) -> str:
    """Return under which name a record holds the thresholds of a variant."""
    return "thresholds, together" if variant == "together" else "thresholds"


def load(weights: str | Path, frame_format: FrameFormat, **options):
    """Return the forecaster of trained weights, whichever model they are of.

    Forecasters of the same file share one network, which is then compiled only once: to train it
    on, load another with the `load` of its module.

    Args:
        weights: the name of shipped weights, such as `"convlstm_T40_TINC2"`, or the path of a
            `NAME.npz` with its card `NAME.json` beside it.
        frame_format: of the histories it will see.
        options: of the function `forecaster` in the module of the model. The thresholds of a
            PatchNet or SurfaceNet are those of the record unless they are given here. A SurfaceNet
            asks the scout in the same folder first, if there is one, unless it is given another
            `scout` or None. The same holds for the `follower`, which takes part in all frames after
            the next one, without thresholds of its own. `together=True` takes the mean of this
            SurfaceNet and of the PatchNet in the same folder; it goes with `kept`, `scout`,
            `follower`, and with the options of `helpers.models.shared.Together`.

    Raises:
        TypeError: an option that there is not.
        ValueError: `together` for another network; a path that does not end in .npz.
        FileNotFoundError, CheckpointError: see `helpers.models.weights.load_weights`.
    """
    weights = file_of(weights)
    record = read_card(weights)
    model = MODELS[name_of(weights, record)]
    together = options.pop("together", False)
    if together and not model.partner:
        raise ValueError(f"{weights} is no SurfaceNet: it is not averaged with a PatchNet.")
    parts_take = ("kept", "scout", "follower") if together else ()
    made = (shared.Together if together else model.kind.forecaster).__mro__[:-1]
    known = {name for each in made for name in inspect.signature(each).parameters}
    known = {*known, *parts_take} - {"model", "frame_format", "forecasters", "options"}
    if unknown := ", ".join(sorted(options.keys() - known)):
        raise TypeError(
            f"{weights} has no option {unknown}; choose from {', '.join(sorted(known))}"
            f"{', which go with together' * together}."
        )
    if model.several:
        chosen = record.get(thresholds_name("together" if together else ""), {})
        options = {"thresholds": chosen.get(frame_format.name)} | options
    if together:
        asked = {name: options.pop(name) for name in parts_take if name in options}
        parts = {partner(weights): {"kept": asked.get("kept")}, weights: asked}
        plain = [load(part, frame_format, thresholds=None, **own) for part, own in parts.items()]
        options = {"shares": record.get(SHARES, {}).get(frame_format.name)} | options
        return shared.Together(plain, **options)
    for name in model.beside:
        if name not in options and (path := beside(weights, name)):
            # A scout is a network, a follower a forecaster that asks the same scout.
            given = {each: options.get(each) for each in ("kept", *MODELS[name].beside)}
            found = load(path, frame_format, thresholds=None, **given)
            options[name] = found if MODELS[name].beside else found.model
    files = (weights, weights.with_suffix(".json"))
    changed = tuple(file.stat().st_mtime_ns for file in files if file.exists())
    network = _network(model.kind, weights.resolve(), changed)
    return model.kind.forecaster(network, frame_format, **options)


@functools.lru_cache(maxsize=8)
def _network(kind: ModuleType, weights: Path, changed: tuple[int, ...]):
    """Load a network, or return it again as long as its files have not changed."""
    return kind.load(weights)


def training_logs(record: dict) -> dict[str, pd.DataFrame]:
    """Return the logs of a training and of those that it went on from.

    Args:
        record: the card of shipped weights, see `helpers.models.weights.read_card`. Those made
            before logs were kept have none, and neither have averages of several runs.

    Returns:
        `"run 1"`, the first one, and so on -> its log: one row per round, with the columns `step`,
        `seconds`, and the losses. A run whose log was not kept is left out.
    """
    trainings = [record]
    while "began_with" in trainings[0]:
        trainings.insert(0, trainings[0]["began_with"])
    numbered = enumerate(trainings, 1)
    return {f"run {n}": pd.DataFrame(made["log"]) for n, made in numbered if "log" in made}
