"""The exercises of notebook 04."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import (
    ask,
    compare,
    exercise,
    one_number,
    require,
    try_experiment,
    try_suspects,
    two,
)


@exercise("4.1")
def check_convlstm_parameters(parameters: Callable):
    """Check exercise 4.1: parameters of a ConvLSTM layer in 3, 2 and 1 dimensions."""
    for edge, channels, filters, dims in ((5, 1, 32, 3), (3, 8, 16, 2), (3, 2, 4, 1)):

        def count(entries, channels=channels, filters=filters):
            return 4 * filters * (entries * (channels + filters) + 1)

        found = one_number(ask(parameters, edge, channels, filters, dims))
        expected = count(edge**dims)
        inputs_only = 4 * filters * (edge**dims * channels + 1)
        kernel = f"a kernel of edge {edge} has {edge}**dims entries, not"
        mistakes = {
            f"{kernel} always {edge}**3.": count(edge**3),
            f"{kernel} {edge} * dims.": count(edge * dims),
            "there are four of everything: for three gates and the candidate.": expected / 4,
            "three gates and the candidate make four.": expected * 3 / 4,
            "the state h is convolved too: add the recurrent kernel.": inputs_only,
            "each gate and the candidate have a bias for each channel.": expected - 4 * filters,
        }
        case = f"Edge {edge}, {channels} in, {filters} channels of state, {dims} dimensions"
        compare(found, expected, mistakes, case=case)


@exercise("4.2")
def check_patches(expected: int, logs: dict[int, dict], train: Callable):
    """Check exercise 4.2: trainings with patches of several sizes, and the guess before them."""

    def last(log):
        return np.ravel(log["Jaccard distance"])[-1]

    if isinstance(logs, dict):
        logs = {edge: last(log) for edge, log in logs.items()}
    try_experiment(expected, logs, lambda edge: last(train(edge)))


@exercise("4.3")
def check_sees_the_future(sees_the_future: Callable):
    """Check exercise 4.3: a test for leaks, on two innocent models and five that leak."""
    frames = (np.random.default_rng(43).random((2, 6, 4, 4, 4, 1)) < 0.3).astype(np.float32)
    count = np.arange(1, 7, dtype=np.float32).reshape(1, 6, 1, 1, 1, 1)

    def around(x):
        return np.stack([x[:, max(0, t - 1) : t + 2].mean(axis=1) for t in range(6)], axis=1)

    look = "Look at all outputs before the changed frame, not only at the one just before."
    last = "Change every frame in turn, the last one too."
    first = "Change every frame in turn, the early ones too."
    tiny = "Compare the outputs themselves, not what a threshold makes of them."
    suspects = {
        "repeats the frame": (lambda x: x.copy(), None),
        "takes the mean of all frames so far": (lambda x: np.cumsum(x, axis=1) / count, None),
        "takes the mean of the frames t - 1, t and t + 1": (around, ""),
        "looks two frames ahead": (lambda x: np.roll(x, -2, axis=1) * (count < 5), look),
        "peeps at the last frame": (lambda x: x + x[:, -1:], last),
        "peeps at frame 1": (lambda x: x + x[:, 1:2], first),
        "subtracts a thousandth of the mean over all frames": (
            (lambda x: x - x.mean(axis=1, keepdims=True) / 1000, tiny)
        ),
    }
    words = {
        "who": "model",
        "what": "frames",
        "does": "leaks",
        "nobody": "You find no leak anywhere; five of the seven models leak.",
        "innocent": ". A changed frame t may move output t and later ones; compare the outputs "
        "before t.",
    }
    try_suspects(sees_the_future, frames, suspects, words)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@exercise("4.4")
def check_peephole_step(step: Callable):
    """Check exercise 4.4: one step of a ConvLSTM whose gates see the cell state."""
    rng = np.random.default_rng(42)
    shape, filters = (3, 2, 2, 2), 5
    gates = rng.normal(size=(*shape, 4 * filters))
    old = rng.normal(size=(*shape, filters))
    peepholes = rng.normal(size=(3, filters))

    def cell(order="ifgo", p=peepholes, o_sees_old=False, phi=np.tanh):
        parts = dict(zip(order, np.split(gates, 4, axis=-1)))
        i = _sigmoid(parts["i"] + p[0] * old)
        f = _sigmoid(parts["f"] + p[1] * old)
        new = f * old + i * np.tanh(parts["g"])
        o = _sigmoid(parts["o"] + p[2] * (old if o_sees_old else new))
        return np.stack([o * phi(new), new])

    given = gates.copy(), old.copy(), peepholes.copy()
    h, c = two(ask(step, *given), np.asarray, "Return two arrays, the new h and the new c.")
    hint = f"h has shape {h.shape}, c has {c.shape}; expected {old.shape} for both."
    require(h.shape == old.shape == c.shape, hint)
    expected, without = cell(), cell(p=np.zeros_like(peepholes))
    orders = [cell(order) for order in ("ifog", "igfo", "figo", "fiog", "gifo")]
    mistakes = {
        "You return c and h; first h, then c.": expected[::-1],
        "That is the cell without peepholes: add p * c to the input of each gate.": without,
        "The output gate sees the new cell state; yours sees the old one.": cell(o_sees_old=True),
        "h is o times tanh(c); the tanh is missing.": cell(phi=lambda new: new),
        "The four parts of `gates` come in the order i, f, g, o.": orders,
    }
    otherwise = "c is right, h is not: o = sigmoid(… + p_o * new c), h = o * tanh(new c)."
    if not np.allclose(c, expected[1]):
        otherwise = "The new c is off. It is f * c + i * g, with i and f seeing the old c."
    compare(np.stack([h, c]), expected, mistakes, otherwise)
