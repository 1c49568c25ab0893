"""What notebook 10 teaches against the helpers, and its exercise."""

import dataclasses

import numpy as np
import pytest
from answers import says
from notebook_code import definition

from helpers import exercises, workshop
from helpers.models import cnn

keras = workshop.keras()
RUNS = {"nothing": [0.3, 0.31, 0.29], "its neighbours": [0.34, 0.35, 0.33]}


def first(what, seed):
    assert seed == 1
    return RUNS[what][0]


test_idea = says(
    exercises.check_idea,
    (("nothing", RUNS, first), "solved"),
    ((None, {}, first), "Say first"),
    (("nothing", {"nothing": RUNS["nothing"]}, first), "at least two"),
    (("nothing", {**RUNS, "nothing": [0.28, 0.31, 0.29]}, first), "trained again"),
    (("nothing", {what: runs[:2] for what, runs in RUNS.items()}, first), "three distances"),
)


@pytest.mark.parametrize(
    ("body", "config"),
    [
        ("three_convolutions", cnn.plain()),
        ("residual_blocks", cnn.Config(history=3, width=8, blocks=2)),
        ("residual_blocks", cnn.Config(history=3, ahead=1, width=8, blocks=1, patch=1)),
    ],
)
def test_the_networks_of_the_notebook_are_those_of_the_helper(body, config, rng):
    config = dataclasses.replace(config, grid=4)
    known = {"keras": keras, "layers": keras.layers, "ops": keras.ops, "np": np, "cnn": cnn}
    network, body = (definition("10", name, **known) for name in ("network", body))
    same = definition("10", "same_as_the_helper", **known, network=network, rng=rng)
    assert same(config, body)
    without = dataclasses.replace(config, residual=0.0)
    known["cnn"] = type("", (), {"channels": cnn.channels, "build": lambda _: cnn.build(without)})
    assert not definition("10", "same_as_the_helper", **known, network=network, rng=rng)(
        config, body
    )


def test_the_arithmetic_of_the_notebook_is_that_of_the_helper():
    count = definition("10", "multiply_adds", cnn=cnn)
    for config in (cnn.shipped(), cnn.small()):
        assert count(config) == cnn.multiply_adds(config)
