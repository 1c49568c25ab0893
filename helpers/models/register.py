"""All models of the course by name, and their shipped weights."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from helpers import convlstm, wgan_gp, workshop
from helpers.models import cnn, surfacenet
from helpers.models.weights import CheckpointError, read_card
from helpers.sequences import FrameFormat

WEIGHTS = workshop.REPOSITORY / "data" / "weights"


@dataclass(frozen=True)
class Model:
    """What is called by one name in the cards of weights.

    Attributes:
        kind: the module of its network.
        scout: the model whose weights, in the same folder, are asked first.
        part: it forecasts for another model, and is judged with that.
    """

    kind: ModuleType
    scout: str | None = None
    part: bool = False


MODELS = {
    "convlstm": Model(convlstm),
    "cnn": Model(cnn),
    "surfacenet": Model(surfacenet, scout="scout"),
    "scout": Model(surfacenet, part=True),
    "wgan_gp": Model(wgan_gp),
}


def name_of(weights: Path, card: dict) -> str:
    """Return the name of the model that weights are of."""
    name = card.get("model", "convlstm")
    if name not in MODELS:
        raise CheckpointError(
            f"{weights} is of a model {name!r}; this course knows {', '.join(MODELS)}."
        )
    return name


def file_of(weights: str | Path) -> Path:
    """Return the path of weights: a name is that of a shipped file, without its ending."""
    path = Path(weights)
    if path.suffix == ".npz" or path.name != str(path):
        return path
    return workshop.shipped(WEIGHTS, ", or give the path of a .npz file") / f"{path}.npz"


def scout_of(weights: Path, model: Model) -> Path | None:
    """Return the weights of a model's scout in the same folder, or None where there are none."""
    path = weights.with_name(f"{model.scout}.npz")
    return path if model.scout and path.exists() else None


def load(weights: str | Path, frame_format: FrameFormat, **options):
    """Return the forecaster of trained weights, whichever model they are of.

    Forecasters of the same file share one network, which is then compiled only once: to train it
    on, load another with the `load` of its module.

    Args:
        weights: the name of shipped weights, such as `"convlstm_T40_TINC2"`, or the path of a
            `NAME.npz` with its card `NAME.json` beside it.
        frame_format: of the histories it will see.
        options: of the function `forecaster` in the module of the model. A SurfaceNet asks the
            scout in the same folder first, if there is one, unless it is given another `scout` or
            None.

    Warns:
        UserWarning: the format is of other data than the thesis's, and not what they learned from.

    For errors, see `helpers.models.weights.load_weights`.
    """
    weights = file_of(weights)
    card = read_card(weights)
    model, learned = MODELS[name_of(weights, card)], card.get("formats", [])
    if frame_format.foreign and frame_format.name not in learned:
        warnings.warn(
            f"{weights.name} learned from {', '.join(learned) or 'other data'}, not from "
            f"{frame_format.name}: judge it beside persistence before you trust it.",
            stacklevel=2,
        )
    if "scout" not in options and (path := scout_of(weights, model)):
        options["scout"] = _shared(surfacenet, path)
    return model.kind.forecaster(_shared(model.kind, weights), frame_format, **options)


def _shared(kind: ModuleType, weights: Path):
    """Load a network, or return it again as long as its files have not changed."""
    files = (weights, weights.with_suffix(".json"))
    changed = tuple(file.stat().st_mtime_ns for file in files if file.exists())
    return _network(kind, weights.resolve(), changed)


@functools.lru_cache(maxsize=8)
def _network(kind: ModuleType, weights: Path, changed: tuple[int, ...]):
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
