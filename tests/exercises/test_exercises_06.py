"""The exercises of notebook 06, and what it teaches against the helpers."""

import dataclasses

import keras
import nbformat
import numpy as np
import pytest
from answers import says
from keras import layers, ops
from notebook_code import NOTEBOOKS, definition
from scipy import stats
from scipy.optimize import linprog

from helpers import exercises, training, wgan_gp
from helpers.workshop import tensorflow

tf = tensorflow()


def sand(places, p, q):
    return np.sum(np.abs(np.cumsum(p - q))[:-1] * np.diff(places))


test_sand = says(
    exercises.check_sand,
    (sand, "solved"),
    (lambda x, p, q: stats.wasserstein_distance(x, x, p, q), "solved"),
    (lambda x, p, q: np.abs(np.cumsum(p - q)).sum(), "not how far"),
    (lambda x, p, q: abs(np.sum(np.cumsum(p - q)[:-1] * np.diff(x))), "absolute value"),
    (lambda x, p, q: np.sum(np.abs(p - q)[:-1] * np.diff(x)), "running sums"),
    (lambda x, p, q: np.abs(np.cumsum(p - q)).sum() * np.diff(x).mean(), "np.diff(places)"),
    (lambda x, p, q: 2 * sand(x, p, q), "Expected"),
)


RNG = np.random.default_rng(6)


test_mixing_share = says(
    exercises.check_mixing_share,
    (lambda batch: RNG.uniform(size=(len(batch), 1, 1, 1)), "solved"),
    (lambda batch: tf.random.uniform((len(batch), 1, 1, 1)), "solved"),
    (lambda batch: RNG.normal(size=(len(batch), 1, 1, 1)), "outside 0…1"),
    (lambda batch: RNG.uniform(size=batch.shape), "leaves the line"),
    (lambda batch: RNG.uniform(), "one place for all"),
    (lambda batch: np.full((len(batch), 1, 1, 1), RNG.uniform()), "All places are the same"),
    (lambda batch: RNG.uniform(size=len(batch)), "(B, 1, 1, 1)"),
    (lambda batch: np.random.default_rng(1).uniform(size=(len(batch), 1, 1, 1)), "each time"),
    (lambda batch: RNG.beta(2, 2, size=(len(batch), 1, 1, 1)), "are preferred"),
    (lambda batch: np.clip(RNG.normal(size=(len(batch), 1, 1, 1)), 0, 1), "are preferred"),
)


def squares(slope, axis=(1, 2, 3)):
    return ops.sum(slope**2, axis=axis)


def chosen(slope):
    flat = squares(slope) == 0
    return ops.where(flat, 0.0, ops.sqrt(ops.where(flat, 1.0, squares(slope))))


test_lengths = says(
    exercises.check_lengths,
    (chosen, "solved"),
    (lambda s: ops.sqrt(squares(s) + 1e-12), "solved"),
    (lambda s: ops.sqrt(squares(s)), "NaN where a slope is 0"),
    (lambda s: ops.where(squares(s) == 0, 0.0, ops.sqrt(squares(s))), "comes too late"),
    (lambda s: tf.norm(s), "whole batch"),
    (lambda s: ops.sqrt(squares(s, 1)), "has shape (4, 4, 5)"),
    (squares, "root is missing"),
    (lambda s: ops.sqrt(ops.mean(s**2, axis=(1, 2, 3)) + 1e-12), "mean of the squares"),
    (lambda s: ops.sqrt(squares(s) + 0.01), "has length 0"),
    (lambda s: 2 * chosen(s), "expected"),
    (lambda s: ops.stop_gradient(chosen(s)), "no stop_gradient"),
    (lambda s: chosen(s).numpy(), "instead of NumPy"),
)


def looks_at_others(critic, batch, which=range(5), same=np.allclose):
    together = critic(batch)
    return not all(same(critic(batch[n : n + 1])[0], together[n]) for n in which)


def in_place(critic, batch):
    before = critic(batch)
    batch[0] = 0
    return not np.allclose(critic(batch)[1:], before[1:])


test_looks_at_others = says(
    exercises.check_looks_at_others,
    (looks_at_others, "solved"),
    (lambda critic, batch: np.bool_(looks_at_others(critic, batch)), "solved"),
    (lambda critic, batch: False, "suspect nobody"),
    (lambda critic, batch: True, "is innocent"),
    (lambda critic, batch: critic(batch)[0] != critic(batch[::-1])[-1], "let it pass"),
    (lambda critic, batch: critic(batch) > 0, "as a whole"),
    (in_place, "copy first"),
)


# What is taught


def taught(name, **known):
    return definition("06", name, np=np, ops=ops, tf=tf, keras=keras, layers=layers, **known)


def taught_downwards():
    block = taught("block", active=taught("active"))
    return taught("downwards", block=block, active=taught("active"))


def same_network(ours, theirs, shape):
    """Give both the same weights at random and compare what comes out."""
    rng = np.random.default_rng(6)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    weights = []
    for weight in ours.weights:
        found = rng.normal(size=weight.shape) / np.sqrt(max(1, np.prod(weight.shape[:-1])))
        weights.append(np.abs(found) + 0.5 if "variance" in weight.name else found)
    ours.set_weights(weights)
    theirs.set_weights(weights)
    x = rng.random((2, *shape), dtype=np.float32)
    expected = theirs(x).numpy()
    assert expected.std() > 0.001
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


CONFIG = wgan_gp.thesis(
    3, width=16, kernel=3, latent=5, dropout=0.0, critic_width=16, critic_kernel=3
)


def test_the_encoder_taught_is_the_helpers():
    network = taught("encoder", downwards=taught_downwards())(width=16, kernel=3, latent=5)
    same_network(network, wgan_gp.encoder(CONFIG), (16, 16, 16, 1))


def test_the_generator_taught_is_the_helpers():
    network = taught("generator")(frames=3, width=16, kernel=3, latent=5)
    same_network(network, wgan_gp.generator(CONFIG), (15,))


def test_the_critic_taught_is_the_helpers():
    network = taught("critic_network", downwards=taught_downwards())(width=16, kernel=3)
    same_network(network, wgan_gp.critic(CONFIG), (16, 16, 16, 2))


def test_the_wasserstein_distances_taught_agree_with_scipy(rng):
    a, b = rng.normal(size=(2, 50))
    assert taught("wasserstein")(a, b) == pytest.approx(stats.wasserstein_distance(a, b))
    places = np.linspace(0, 5, 21)
    p, q = rng.dirichlet(np.ones(21), 2)
    expected = stats.wasserstein_distance(places, places, p, q)
    assert taught("area_between", STEP=0.25)(p, q) == pytest.approx(expected)
    scores, gap = taught("best_critic", STEP=0.25, linprog=linprog)(p, q)
    assert gap == pytest.approx(expected, abs=1e-6)
    assert (p - q) @ scores == pytest.approx(gap)
    assert np.abs(np.diff(scores)).max() <= 0.25 + 1e-6


def test_the_divergence_taught_is_that_of_scipy(rng):
    from scipy.spatial.distance import jensenshannon

    p, q = rng.dirichlet(np.ones(21), 2)
    assert taught("jensen_shannon")(p, q) == pytest.approx(jensenshannon(p, q) ** 2)


def test_the_linear_autoencoder_taught_is_the_best_one(rng):
    frames = rng.random((30, 3, 3, 3)).astype(np.float32) * 0.5 + 0.25
    encode, decode = taught("linear_autoencoder")(frames, 4)
    flat = frames.reshape(30, -1)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    lost = ((decode(encode(frames)) - frames) ** 2).sum()
    assert lost == pytest.approx((values[4:] ** 2).sum(), rel=1e-3)


def test_the_penalty_taught_is_the_helpers(rng):
    penalty = taught("gradient_penalty")
    network = wgan_gp.critic(CONFIG)
    real, fake = (tf.constant(x) for x in rng.random((2, 3, 16, 16, 16, 2), dtype=np.float32))
    share = rng.random((3, 1, 1, 1, 1), dtype=np.float32)
    for each in (network, lambda x: 0 * network(x)):
        found = []
        for function in (penalty, wgan_gp.gradient_penalty):
            with tf.GradientTape() as tape:
                value = function(each, real, fake, share)
            kernel = network.trainable_variables[0]
            found.append((float(value), tape.gradient(value, kernel).numpy()))
        assert found[0][0] == pytest.approx(found[1][0])
        assert np.isfinite(found[0][1]).all()
        np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_the_first_try_has_the_flaw_and_no_other():
    first = taught("first_try")
    weight = tf.Variable(3.0)
    points = tf.zeros((2, 4))
    for start, finite in ((3.0, True), (0.0, False)):
        weight.assign(start)
        with tf.GradientTape() as tape:
            value = first(lambda x: weight * ops.sum(x, axis=1), points, points, 0.5)
        assert float(value) == pytest.approx((2 * start - 1) ** 2)
        assert np.isfinite(float(tape.gradient(value, weight))) == finite


def test_the_cut_taught_is_the_helpers(rng):
    p = tf.constant(rng.random(50, dtype=np.float32))
    found = []
    for cut in (taught("binarise"), wgan_gp.binarise):
        with tf.GradientTape() as tape:
            tape.watch(p)
            loss = ops.sum(cut(p) * np.arange(50, dtype=np.float32))
        found.append((cut(p).numpy(), tape.gradient(loss, p).numpy()))
    np.testing.assert_array_equal(found[0], found[1])


def test_the_losses_taught_are_the_helpers(rng, monkeypatch):
    """What the helper reports, and how its generator moves, follow from the notebook's losses."""
    monkeypatch.setattr(wgan_gp, "mixing_share", lambda like, seed: tf.fill((3, 1, 1, 1), 0.4))
    config = wgan_gp.Config(2, width=8, blocks=1, critic_width=8, critic_steps=1, grid=8)
    config = dataclasses.replace(config, adversarial=0.5, warm_up=0)
    model = wgan_gp.build(config)
    for weight in model.weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    frames = (rng.random((3, 3, 8, 8, 8)) < 0.3).astype(np.float32)
    inputs = wgan_gp.inputs(config, frames[:, :2], np.array([1, 2, 4]))
    target = frames[:, 2]
    known = {"training": training, "binarise": taught("binarise"), "PENALTY": 10.0}
    known["gradient_penalty"] = taught("gradient_penalty")

    def score(candidate):
        return model.score(inputs, target, candidate)

    with tf.GradientTape() as tape:
        probability = model(inputs)
        loss = taught("generator_loss", **known)(score, target, probability, 0.5)
    gradients = tape.gradient(loss, model.generator_variables)
    wanted = [w.numpy() - 0.1 * g for w, g in zip(model.generator_variables, gradients)]
    candidate = wgan_gp.binarise(probability)
    critic, distance = taught("critic_loss", **known)(score, tf.constant(target), candidate, 0.4)
    sgd = keras.optimizers.SGD
    model.compile(sgd(0.1), sgd(0.0), run_eagerly=True)
    data = tf.data.Dataset.from_tensors((inputs, target))
    found = model.fit(data, shuffle=False, verbose=0).history
    assert found["critic"][0] == pytest.approx(float(critic), rel=1e-4)
    assert found["distance"][0] == pytest.approx(float(distance), rel=1e-4)
    for ours, theirs in zip(model.generator_variables, wanted):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_configuration_shown_is_the_workshops():
    (path,) = NOTEBOOKS.glob("06*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    (source,) = (cell.source for cell in cells if cell.source.startswith("NETWORK = "))
    exec(source, {"wgan_gp": wgan_gp, "HISTORY": 3})


def test_the_critic_that_the_text_calls_best(rng):
    """Minus the distance to the target has no penalty, and its gap is the mean distance."""
    goal, guess = (rng.random((2, 5, 4, 4, 4)) < 0.3).astype(np.float32)
    best = taught("best_of_its_kind")(tf.constant(goal))
    share = rng.uniform(0.1, 0.9, (5, 1, 1, 1)).astype(np.float32)
    penalty = wgan_gp.gradient_penalty(best, tf.constant(goal), tf.constant(guess), share)
    assert float(penalty) == pytest.approx(0, abs=1e-8)
    expected = np.sqrt(((guess - goal) ** 2).sum(axis=(1, 2, 3))).mean()
    assert float(ops.mean(best(goal) - best(guess))) == pytest.approx(expected, rel=1e-5)
