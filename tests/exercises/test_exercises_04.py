"""The exercises of notebook 04, and what it teaches against Keras and the helpers."""

import dataclasses

import numpy as np
import pytest
from answers import says
from notebook_code import definition

from helpers import convlstm, exercises
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402


def parameters(edge, channels, filters, dims, gates=4, bias=1):
    return gates * filters * (edge**dims * (channels + filters) + bias)


test_convlstm_parameters = says(
    exercises.check_convlstm_parameters,
    (parameters, "solved"),
    (lambda e, c, f, d: parameters(e, c, f, 3), "not always 3**3"),
    (lambda e, c, f, d: parameters(e * d, c, f, 1), "not 5 * dims"),
    (lambda e, c, f, d: parameters(e, c, f, d, gates=1), "four of everything"),
    (lambda e, c, f, d: parameters(e, c, f, d, gates=3), "make four"),
    (lambda e, c, f, d: 4 * f * (e**d * c + 1), "recurrent kernel"),
    (lambda e, c, f, d: parameters(e, c, f, d, bias=0), "have a bias"),
    (lambda e, c, f, d: parameters(e, c, f, d) + 1, "expected 528,128, found 528,129"),
)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_count_is_that_of_keras(dims):
    layer = getattr(keras.layers, f"ConvLSTM{dims}D")(4, 3)
    layer.build((None, None, *[5] * dims, 2))
    assert layer.count_params() == parameters(3, 2, 4, dims)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def peepholes(gates, c, p, order=(0, 1, 2, 3), o_sees_old=False, phi=np.tanh):
    parts = np.split(gates, 4, axis=-1)
    i, f, g, o = (parts[n] for n in order)
    old = c
    c = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
    return sigmoid(o + p[2] * (old if o_sees_old else c)) * phi(c), c


test_peephole_step = says(
    exercises.check_peephole_step,
    (peepholes, "solved"),
    (lambda g, c, p: peepholes(g, c, p)[::-1], "first h, then c"),
    (lambda g, c, p: peepholes(g, c, 0 * p), "without peepholes"),
    (lambda g, c, p: peepholes(g, c, p, o_sees_old=True), "sees the new cell state"),
    (lambda g, c, p: peepholes(g, c, p, phi=lambda c: c), "tanh is missing"),
    (lambda g, c, p: peepholes(g, c, p, order=(0, 1, 3, 2)), "order i, f, g, o"),
    (lambda g, c, p: peepholes(g, c, p, order=(1, 0, 2, 3)), "order i, f, g, o"),
    (lambda g, c, p: peepholes(g, c, p[::-1]), "new c is off"),
    (lambda g, c, p: peepholes(g, c, p * [[1], [1], [0]]), "h is not"),
    (lambda g, c, p: peepholes(g, c, p)[0], "Return two arrays"),
    (lambda g, c, p: tuple(part[..., 0] for part in peepholes(g, c, p)), "expected (3, 2,"),
)


def finds_leaks(model, frames, times=None, window=None, at=0, look=np.asarray):
    """A right answer, or with other arguments a typical mistake."""
    before = model(frames)
    for t in times or range(frames.shape[1]):
        changed = frames.copy()
        changed[:, t] = 1 - changed[:, t]
        seen = slice(max(0, t - window) if window else 0, t + at)
        if not np.array_equal(look(model(changed))[:, seen], look(before)[:, seen]):
            return True
    return False


def in_place(model, frames):
    before = model(frames)
    frames[:, -1] = 1 - frames[:, -1]
    return bool((model(frames)[:, :-1] != before[:, :-1]).any())


test_sees_the_future = says(
    exercises.check_sees_the_future,
    (finds_leaks, "solved"),
    (lambda m, x: np.bool_(finds_leaks(m, x)), "solved"),
    (lambda m, x: finds_leaks(m, x, at=1), "repeats the frame is innocent"),
    (lambda m, x: True, "is innocent"),
    (lambda m, x: False, "no leak anywhere"),
    (lambda m, x: finds_leaks(m, x, window=1), "not only at the one just before"),
    (lambda m, x: finds_leaks(m, x, times=[3]), "the last one too"),
    (lambda m, x: finds_leaks(m, x, times=[2, 3, 4, 5]), "the early ones too"),
    (lambda m, x: finds_leaks(m, x, look=lambda y: y >= 0.5), "what a threshold makes"),
    (in_place, "copy first"),
    (lambda m, x: m(x)[:, 0] > 0, "np.any"),
)


def log(distance):
    return {"step": [0, 32], "Jaccard distance": [0.33, distance]}


LOGS = {2: log(0.29), 4: log(0.31), 8: log(0.33)}
test_patches = says(
    exercises.check_patches,
    ((2, LOGS, LOGS.get), "solved"),
    ((8, LOGS, LOGS.get), "solved"),  # a wrong guess is a guess
    ((2, LOGS | {2: log(0.2)}, LOGS.get), "again from the same seed it is 0.2900"),
)


def test_the_lstm_taught_is_kerass(rng):
    step = definition("04", "lstm_step", np=np, sigmoid=sigmoid)
    layer = keras.layers.LSTM(3, return_sequences=True, bias_initializer="glorot_normal")
    inputs = rng.normal(size=(1, 6, 2)).astype(np.float32)
    expected = np.array(layer(inputs))[0]
    h = c = np.zeros(3)
    for x, wanted in zip(inputs[0], expected):
        h, c = step(x, h, c, *layer.get_weights())
        assert h == pytest.approx(wanted, abs=1e-6)


def taught_read():
    return definition("04", "read", ops=ops, cell_step=definition("04", "cell_step", ops=ops))


def test_the_convlstm_taught_is_the_helpers_and_kerass(rng):
    frames = rng.normal(size=(2, 4, 5, 6, 7, 3)).astype(np.float32)
    memory = convlstm.Memory(4, 3)
    layer = keras.layers.ConvLSTM3D(4, 3, padding="same", return_sequences=True)
    for each in (memory, layer):
        each.build(frames.shape)
    weights = [rng.normal(scale=0.2, size=array.shape) for array in memory.get_weights()]
    found = taught_read()(frames, [array.astype(np.float32) for array in weights])
    for each in (memory, layer):
        each.set_weights(weights)
        assert np.array(found) == pytest.approx(np.array(each(frames)), abs=1e-5)


def test_the_convolution_taught_is_kerass(rng):
    by_hand = definition("04", "conv_by_hand", np=np)
    volume, kernel = rng.normal(size=(4, 5, 6)), rng.normal(size=(3, 3, 3))
    expected = ops.conv(volume[None, ..., None], kernel[..., None, None], padding="same")
    assert by_hand(volume, kernel) == pytest.approx(np.array(expected)[0, ..., 0], abs=1e-5)


def test_the_hard_sigmoid_taught_is_the_helpers():
    taught = definition("04", "keras2_hard_sigmoid", np=np)
    z = np.linspace(-4, 4, 81)
    assert taught(z) == pytest.approx(np.array(convlstm.keras2_hard_sigmoid(z)), abs=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"filters": (2, 3), "kernels": (3, 1), "previous": False, "blocks": 0},
        {"kernels": (5,), "patch": 4, "width": 8, "residual": 0.0},
    ],
)
def test_the_network_taught_is_the_helpers(rng, config):
    known = {"ops": ops, "read": taught_read()}
    for name in ("to_patches", "to_voxels", "dense"):
        known[name] = definition("04", name, ops=ops)
    known["residual_block"] = definition("04", "residual_block", **known)
    forecasts = definition("04", "forecasts", **known)
    model = convlstm.build(dataclasses.replace(convlstm.workshop(), **config))
    for weight in model.weights:  # the last layer would be zero
        weight.assign(rng.normal(scale=0.1, size=weight.shape))
    frames = (rng.random((2, 3, 16, 16, 16, 1)) < 0.2).astype(np.float32)
    expected = np.array(model(frames))
    assert expected.std() > 0.02
    assert np.array(forecasts(frames, model)) == pytest.approx(expected, abs=1e-5)


def test_what_the_text_says_of_both_networks():
    thesis, shipped = (convlstm.multiply_adds(c()) for c in (convlstm.thesis, convlstm.workshop))
    assert 15 < thesis / shipped < 25
    assert 0.4 < convlstm.build(convlstm.workshop()).count_params() / 762_017 < 0.5


def test_the_configuration_shown_is_the_workshops_and_a_small_sister():
    shipped = convlstm.workshop()
    small = dataclasses.replace(shipped, filters=(8,), width=32, blocks=2)
    for quick, expected in ((True, small), (False, shipped)):
        assert definition("04", "CONFIG", convlstm=convlstm, quick=quick) == expected


def test_the_footprint_taught_tells_leaks(rng):
    footprint = definition("04", "footprint", np=np)
    frames = rng.random((1, 5, 2, 2, 2, 1)).astype(np.float32)
    honest = footprint(lambda x: np.cumsum(x, axis=1), frames)
    assert np.array_equal(honest, np.where(np.tri(5, dtype=bool), "#", "·"))
    leaky = footprint(lambda x: np.roll(x, -1, axis=1), frames)
    assert leaky[2].tolist() == ["·", "·", "·", "!", "·"] and leaky[4, 0] == "#"


def test_the_film_model_taught_leaks_with_a_kernel_over_time(rng):
    film_model = definition("04", "film_model", keras=keras)
    footprint = definition("04", "footprint", np=np)
    films = (rng.random((1, 4, 16, 16, 1)) < 0.3).astype(np.float32)
    assert "!" in footprint(film_model((3, 3, 3)), films)
    assert "!" not in footprint(film_model((1, 3, 3)), films)
