"""Weights with a card come back as they were, or are refused."""

import dataclasses
import json

import numpy as np
import pytest

from helpers import workshop
from helpers.models.weights import (
    CheckpointError,
    load_model,
    load_weights,
    read_card,
    save_weights,
)

keras = workshop.keras()
CARD = {"seed": 1, "steps": 20, "test": {"T20_TINC1": 0.1}}


@dataclasses.dataclass(frozen=True)
class Config:
    """A network as small as they come."""

    widths: tuple[int, ...] = (2,)


def build(config: Config) -> keras.Model:
    widths = [keras.layers.Dense(width) for width in config.widths]
    model = keras.Sequential([keras.Input((3,)), *widths, keras.layers.BatchNormalization()])
    model.config = config
    return model


@pytest.fixture
def model():
    keras.utils.set_random_seed(7)
    return build(Config())


@pytest.fixture
def shipped(model, tmp_path):
    path = tmp_path / "weights" / "tiny.npz"
    assert save_weights(path, model, CARD) == path
    return path


def test_come_back_whatever_the_layers_are_called(model, shipped):
    loaded = load_model(shipped, Config, build, "tiny network")
    assert loaded.layers[0].name != model.layers[0].name
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    card = load_weights(shipped, loaded)
    assert card["test"] == {"T20_TINC1": 0.1} and card["configuration"] == {"widths": [2]}
    assert card["format_version"] == 2
    assert read_card(shipped) == card
    assert card.items() < json.loads(shipped.with_suffix(".json").read_text()).items()


def test_damaged_files(model, shipped):
    before, content = [weight.numpy() for weight in model.weights], shipped.read_bytes()
    other = shipped.with_name("other.npz")
    save_weights(other, build(Config()), {})
    np.savez(pickled := shipped.with_name("pickled.npz"), bomb=np.array([print], dtype=object))
    for found in (content[:-100], other.read_bytes(), pickled.read_bytes()):
        shipped.write_bytes(found)
        with pytest.raises(CheckpointError, match="not the file that its card describes"):
            load_weights(shipped, model)
    shipped.write_bytes(content)
    beside = shipped.with_suffix(".json")
    text = beside.read_text()
    for damaged in ("", text[:-5], "[]", "{}", text.replace("0.1", "0.2")):
        beside.write_text(damaged)
        with pytest.raises(CheckpointError, match="tiny.json is damaged"):
            load_weights(shipped, model)
    beside.write_text(text.replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(CheckpointError, match="format_version 9.*Update the course"):
        load_weights(shipped, model)
    beside.unlink()
    with pytest.raises(FileNotFoundError, match="two files of one name"):
        load_weights(shipped, model)
    for weight, old in zip(model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_weights_of_another_model(shipped):
    with pytest.raises(CheckpointError, match=r"0000/kernel has shape \(3, 2\) in the file"):
        load_weights(shipped, build(Config((4,))))
    with pytest.raises(CheckpointError, match="6 arrays for 8 variables"):
        load_weights(shipped, build(Config((2, 2))))
    with pytest.raises(CheckpointError, match="not a big network of this course.*widths"):
        load_model(shipped, dataclasses.make_dataclass("Other", ["depths"]), build, "big network")


@pytest.mark.parametrize("last", [0, 1])
def test_both_files_are_replaced_or_neither(model, shipped, monkeypatch, last):
    before = {path.name: path.read_bytes() for path in shipped.parent.iterdir()}
    model.layers[0].kernel.assign(np.ones((3, 2)))
    synced = []

    def full(number):
        synced.append(number)
        if len(synced) > last:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        save_weights(shipped, model, CARD)
    assert {path.name: path.read_bytes() for path in shipped.parent.iterdir()} == before


def test_what_cannot_be_saved(model, tmp_path):
    with pytest.raises(ValueError, match="must end in .npz"):
        save_weights(tmp_path / "w.h5", model, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_weights(tmp_path / "w.npz", model, {"loss": float("nan")})
    with pytest.raises(ValueError, match="call it on one batch"):
        save_weights(tmp_path / "w.npz", keras.Sequential(), {})
    model.layers[0].bias.assign([1, np.inf])
    with pytest.raises(ValueError, match="0001/bias is not finite"):
        save_weights(tmp_path / "w.npz", model, {})
    assert not list(tmp_path.iterdir())
