"""Seconds for a forecast: the thesis's network in Keras's layers, beside the course's networks.

No trained weights are needed: what a forecast costs does not depend on them. Only the SurfaceNet
is the shipped one: what it costs depends on how much surface there is, so the frames are those of
the sample set, and on where its scout is sure.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from helpers import convlstm, records, workshop
from helpers.models import register
from helpers.rollout import next_frames, rollout
from helpers.sequences import T20_TINC1, T80_TINC4

workshop.tensorflow()
import keras  # noqa: E402

HISTORY, HORIZON, FRAMES = 5, 5, 20
KERAS, RECOMPUTED, CARRIED = (
    "Keras's layers, recomputed",
    "ours, recomputed",
    "ours, state carried",
)
THESIS = "Keras's layers, the last five frames, as the thesis"


class EachFrame(keras.layers.Layer):
    """Apply a layer frame by frame, as Keras 2's Conv3D did: (B, T, …) as one batch (B · T, …).

    Not TimeDistributed: compiled for an unknown T, it repeats the T of another batch (Keras 3.15).
    """

    def __init__(self, layer: keras.layers.Layer):
        super().__init__()
        self.layer = layer

    def call(self, frames):
        """Return the layer's output for all frames, (B, T, …)."""
        shape = keras.ops.shape(frames)
        found = self.layer(keras.ops.reshape(frames, (-1, *shape[2:])))
        return keras.ops.reshape(found, (*shape[:2], *found.shape[1:]))


class WholeHistory:
    """A Keras model as a forecaster that reads the whole history each time, as in the thesis."""

    name = "whole history"

    def __init__(self, model: keras.Model):
        self.model = model

    def __call__(self, history: np.ndarray) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) to (B, D, H, W)."""
        return self.model.predict_on_batch(history[..., np.newaxis])[:, -1, ..., 0]


def in_keras_layers(model: convlstm.ConvLSTM) -> keras.Model:
    """Build a network like the thesis's from Keras's own layers, with the same weights."""
    config = model.config
    inputs = frames = keras.Input((None, *[config.grid] * 3, 1))
    pairs = []
    for number, memory in enumerate(model.memories):
        layer = keras.layers.ConvLSTM3D(
            memory.filters,
            memory.kernel_edge,
            padding="same",
            return_sequences=True,
            activation=convlstm.ACTIVATIONS[memory.activation],
            recurrent_activation=convlstm.GATES[memory.gate],
        )
        frames = layer(frames)
        pairs.append((layer, memory))
        if number < len(model.norms):
            norm = keras.layers.BatchNormalization()
            frames = norm(frames)
            pairs.append((norm, model.norms[number]))
    head = keras.layers.Conv3D(1, config.output_kernel, padding="same", activation="sigmoid")
    outputs = EachFrame(head)(frames)
    for theirs, ours in (*pairs, (head, model.head)):
        theirs.set_weights(ours.get_weights())
    return keras.Model(inputs, outputs)


def measure(runs: int, sequences: int) -> Iterator[tuple[str, str, list[float], str]]:
    """Yield (task, way, seconds per sequence of each run, note); the ways take turns in each run.

    One run of each is not counted, as TensorFlow compiles in it. All sequences are one batch.

    Raises:
        RuntimeError: the ways of one task give different forecasts.
    """
    keras.utils.set_random_seed(1)
    sample = workshop.REPOSITORY / "data" / "sample" / workshop.SPLITS["training"]
    split = records.packed(sample, progress=False)
    points = split.frames(np.arange(sequences) % len(split))
    frames, slow = (found.select(points).astype(np.float32) for found in (T80_TINC4, T20_TINC1))
    model = convlstm.build(convlstm.thesis())
    thesis, small = (
        convlstm.forecaster(found) for found in (model, convlstm.build(convlstm.workshop()))
    )
    layers = in_keras_layers(model)
    names = {"CNN": "cnn", "SurfaceNet": "surfacenet"}
    beyond = {title: register.load(name, T80_TINC4) for title, name in names.items()}
    observed = frames[:, :HISTORY]
    yield from _compare(
        f"one next frame, after {HISTORY} frames",
        {
            "thesis(), Keras's layers": lambda: WholeHistory(layers)(observed),
            "thesis()": lambda: thesis(observed),
        },
        runs,
        sequences,
        {name: functools.partial(found, observed) for name, found in beyond.items()},
    )
    yield from _compare(
        f"rollout, {HORIZON} after {HISTORY} frames",
        {
            KERAS: lambda: rollout(WholeHistory(layers), observed, HORIZON),
            RECOMPUTED: lambda: rollout(lambda history: thesis(history), observed, HORIZON),
            CARRIED: lambda: rollout(thesis, observed, HORIZON),
        },
        runs,
        sequences,
        {
            THESIS: lambda: rollout(WholeHistory(layers), observed, HORIZON, keep=HISTORY),
            **{
                name: functools.partial(rollout, found, observed, HORIZON)
                for name, found in beyond.items()
            },
        },
    )
    yield from _compare(
        f"next frame, {FRAMES - 1} times",
        {
            "thesis(), Keras's layers": lambda: layers.predict_on_batch(
                frames[:, :-1, ..., np.newaxis]
            )[..., 0],
            "thesis()": lambda: next_frames(thesis, frames),
        },
        runs,
        sequences,
        {
            "workshop()": lambda: next_frames(small, frames),
            **{
                name: functools.partial(next_frames, found, frames)
                for name, found in beyond.items()
            },
            # Where surfaces move less, fewer voxels are looked at.
            "SurfaceNet, T20": functools.partial(
                next_frames, register.load("surfacenet", T20_TINC1), slow
            ),
        },
    )


def _compare(
    task: str,
    ways: dict[str, Callable[[], np.ndarray]],
    runs: int,
    sequences: int,
    others: dict[str, Callable[[], np.ndarray]] | None = None,
) -> Iterator[tuple[str, str, list[float], str]]:
    """Time `ways`, which must give the same, and `others`, which need not."""
    first, *rest = [way() for way in ways.values()]
    if not all(np.allclose(first, found, rtol=0, atol=1e-5) for found in rest):
        raise RuntimeError(f"{task}: {', '.join(ways)} give different forecasts.")
    ways = {**ways, **(others or {})}
    for way in (others or {}).values():
        way()
    seconds = {name: [] for name in ways}
    for name, way in itertools.chain(*[ways.items()] * runs):
        begin = time.perf_counter()
        way()
        seconds[name].append((time.perf_counter() - begin) / sequences)
    for name, found in seconds.items():
        yield task, name, found, f"for each of {sequences} sequences"
