"""A model's weights as arrays: named, written and read, and shipped with a card."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helpers import _files, workshop

keras = workshop.keras()

FORMAT_VERSION = 2  # of weights with a card


class CheckpointError(RuntimeError):
    """A checkpoint or a file of weights is damaged, or does not belong to this model or run."""


def save_weights(path: str | Path, model: keras.Model, card: Mapping) -> Path:
    """Write a model's weights to ship them: `NAME.npz`, and `NAME.json`, the card beside it.

    Args:
        path: ends in `.npz`; its folder is made where it is missing.
        model: built; its attribute `config` is written into the card.
        card: whatever else JSON can hold: data, seed, steps, minutes, machine, figures, commit.
            No figure of it may be infinite or NaN, and no weight.

    Returns:
        The path.
    """
    path, arrays, content = _npz(path), as_arrays(named_weights(model)), io.BytesIO()
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite; such weights are of no use.")
    np.savez(content, **arrays)
    begin = {"format_version": FORMAT_VERSION, "configuration": configuration(model)}
    text = _card_text({**begin, **card, "sha256": _files.digest(content.getvalue())})
    with _files.writing(path.parent, "choose another folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        card_path = path.with_suffix(".json")
        with _files.replacing_by(path) as file, _files.replacing_by(card_path) as beside:
            file.write_bytes(content.getvalue())
            beside.write_bytes(text)
            _files.sync(file)  # both are on the disk before the first takes its place
    return path


def write_card(path: str | Path, card: Mapping) -> None:
    """Write the card beside shipped weights anew: what `read_card` returned, and more."""
    with _files.replacing(_npz(path).with_suffix(".json")) as file:
        file.write(_card_text(card))


def _card_text(card: Mapping) -> bytes:
    """Return the text of a card, sealed: a changed threshold would forecast something else."""
    card = _files.sealed({**card, "format_version": FORMAT_VERSION})
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_card(path: str | Path) -> dict:
    """Return what the card beside shipped weights says: configuration, data, figures and so on.

    Raises:
        FileNotFoundError: the weights or the card are missing.
        CheckpointError: the card is damaged or of a newer format.
    """
    path = _npz(path)
    beside = path.with_suffix(".json")
    for each in (path, beside):
        if not each.exists():
            raise FileNotFoundError(
                f"{each} is missing. Weights come in two files of one name, .npz and .json; copy "
                "both."
            )
    try:
        card = _files.read_json(beside)
        newer = card["format_version"] > FORMAT_VERSION
        card = card if newer else _files.unsealed(card)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{beside} is damaged ({error!r}); fetch it again.") from error
    if newer:
        raise CheckpointError(
            f"{beside} has format_version {card['format_version']}; this course reads up to "
            f"{FORMAT_VERSION}. Update the course."
        )
    return card


def load_weights(path: str | Path, model: keras.Model) -> dict:
    """Put shipped weights into a built model, and return their card.

    Arrays are matched by place, kind and shape, whatever the layers are called. A configuration
    may say more than that: to have the model built as the card says, see `load_model`.

    Raises:
        FileNotFoundError, CheckpointError: as `read_card`; or the weights do not fit the model,
            which is left as it was.
    """
    path, card = Path(path), read_card(path)
    content = path.read_bytes()
    if _files.digest(content) != card.get("sha256"):
        raise CheckpointError(
            f"{path} is truncated or damaged, or not the file that its card describes (another "
            "SHA-256); fetch both again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assign(dict(archive), named_weights(model), path)
    return card


def load_model(path: str | Path, config: type, build: Callable[[Any], keras.Model], what: str):
    """Return the model of shipped weights, built from the configuration in their card.

    Args:
        path: the `.npz` that `save_weights` wrote, with its card beside it.
        config: the class of the configuration.
        build: makes a model of a configuration.
        what: the kind of model, for errors.
    """
    found = read_card(path).get("configuration")
    try:
        chosen = config(**found)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a {what} of this course: its configuration is {found} ({error})."
        ) from None
    model = build(chosen)
    load_weights(path, model)
    return model


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Name the model's weights by place and kind: layer names may carry a counter."""
    if not model.weights:
        raise ValueError("The model has no weights yet: call it on one batch to build it.")
    return {
        f"{n:04}/{re.sub(r'_[0-9]+$', '', weight.name)}": weight
        for n, weight in enumerate(model.weights)
    }


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Name all that changes while a model is trained, seed generators among it."""
    found = {f"model/{n:04}": variable for n, variable in enumerate(model.variables)}
    for place, optimizer in enumerate(optimizers(model)):
        for n, variable in enumerate(optimizer.variables):
            found[f"optimizer{place}/{n:04}"] = variable
    return found


def optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Find the optimizers among the model's attributes, in the order of their names."""
    found = [vars(model)[name] for name in sorted(vars(model))]
    found = [each for each in found if isinstance(each, keras.optimizers.Optimizer)]
    return list({id(each): each for each in found}.values())


def as_arrays(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Return the values of variables, under the same names."""
    return {name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in variables.items()}


def assign(arrays: Mapping[str, np.ndarray], variables: Mapping, path: Path) -> None:
    """Set variables from the arrays of a file: all of them, or none if one does not fit."""
    found = {name: array.shape for name, array in arrays.items()}
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    if found != wanted:
        first = next(n for n in {**wanted, **found} if found.get(n) != wanted.get(n))
        raise CheckpointError(
            f"{path} does not fit the model: it has {len(found)} arrays for {len(wanted)} "
            f"variables, and {first} has shape {found.get(first)} in the file, "
            f"{wanted.get(first)} in the model. Build the model with the configuration it was "
            "trained with."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def configuration(model: keras.Model) -> Any:
    """Return the model's attribute `config` as JSON gives it back, or None if it has none."""
    config = getattr(model, "config", None)
    config = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config
    return json.loads(json.dumps(config))


def _npz(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path} must end in .npz; its card is the .json beside it.")
    return path
