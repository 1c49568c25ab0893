"""The exercises of notebook 06, and what it teaches against the helpers."""

import keras
import numpy as np
import pytest
from answers import says
from keras import layers, ops
from notebook_code import definition
from scipy import stats
from scipy.optimize import linprog

from helpers import exercises, training, wgan_gp
from helpers.models import aencgan
from helpers.models.shared import to_patches
from helpers.workshop import tensorflow

tf = tensorflow()


RNG = np.random.default_rng(6)


test_mixing_share = says(
    exercises.check_mixing_share,
    (lambda batch: RNG.uniform(size=(len(batch), 1, 1, 1, 1)), "solved"),
    (lambda batch: tf.random.uniform((len(batch), 1, 1, 1, 1)), "solved"),
    (lambda batch: RNG.normal(size=(len(batch), 1, 1, 1, 1)), "outside 0…1"),
    (lambda batch: RNG.uniform(size=batch.shape), "leaves the line"),
    (lambda batch: RNG.uniform(), "one place for all"),
    (lambda batch: np.full((len(batch), 1, 1, 1, 1), RNG.uniform()), "All places are the same"),
    (lambda batch: RNG.uniform(size=len(batch)), "(B, 1, 1, 1, 1)"),
    (lambda batch: np.random.default_rng(1).uniform(size=(len(batch), 1, 1, 1, 1)), "each time"),
    (lambda batch: RNG.beta(2, 2, size=(len(batch), 1, 1, 1, 1)), "are preferred"),
    (lambda batch: np.clip(RNG.normal(size=(len(batch), 1, 1, 1, 1)), 0, 1), "are preferred"),
)


def squares(slope, axis=(1, 2, 3, 4)):
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
    (lambda s: ops.sqrt(squares(s, 1)), "has shape (4, 4, 5, 2)"),
    (squares, "root is missing"),
    (lambda s: ops.sqrt(ops.mean(s**2, axis=(1, 2, 3, 4)) + 1e-12), "mean of the squares"),
    (lambda s: ops.sqrt(squares(s) + 0.01), "has length 0"),
    (lambda s: 2 * chosen(s), "expected"),
    (lambda s: ops.stop_gradient(chosen(s)), "no stop_gradient"),
    (lambda s: chosen(s).numpy(), "instead of NumPy"),
)


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


# What is taught: our own networks and the step that trains them


def taught(name, **known):
    return definition("06", name, np=np, ops=ops, tf=tf, keras=keras, layers=layers, **known)


CONFIG = wgan_gp.plain(
    width=4,
    critic_width=4,
    adversarial=0.5,
    ramp=3,
    penalty=7.0,
    critic_steps=2,
)


def test_one_step_taught_is_one_of_the_helper(rng, monkeypatch):
    """Same weights, batch, noise and places on the line: the same weights after three steps.

    With plain gradient descent: Adam makes a whole step of a gradient that is 0 but for rounding.
    """
    sgd, size, steps = keras.optimizers.SGD, 2, 3
    model = wgan_gp.build(CONFIG)
    for weight in model.weights:
        weight.assign(rng.normal(scale=0.1, size=weight.shape))
    model.compile(
        **wgan_gp.compile_options(CONFIG, training.Plan(steps=steps))
        | {
            "generator_optimizer": sgd(0.05),
            "critic_optimizer": sgd(0.05),
        }
    )
    noise = rng.normal(size=(steps, 3, size, 4, 4, 4, CONFIG.noise)).astype(np.float32)
    share = rng.random((steps, 2, size, 1, 1, 1, 1), dtype=np.float32)
    past = rng.normal(size=(size, 16, 16, 16, CONFIG.channels)).astype(np.float32)
    future = (rng.random((size, CONFIG.ahead, 16, 16, 16)) < 0.3).astype(np.float32)

    known = {"CONFIG": CONFIG, "PENALTY": CONFIG.penalty, "to_patches": to_patches}
    known |= {"voxel_loss": taught("voxel_loss", training=training)}
    known |= {"generator_optimizer": sgd(0.05), "critic_optimizer": sgd(0.05)}
    known |= {"generator": taught("generator_network", **known)()}
    known |= {"critic": taught("critic_network", **known)()}
    for ours in ("generator", "critic"):
        known[ours].set_weights(getattr(model, ours).get_weights())
    parts = "forecast_of", "score", "gradient_penalty", "reconstruction", "ramped"
    known |= {name: taught(name, **known) for name in parts}
    draws = {"draw_noise": noise.reshape(-1, *noise.shape[2:])}
    draws |= {"draw_share": share.reshape(-1, *share.shape[2:])}
    for name, numbers in draws.items():
        assert taught(name, **known)(past).shape == numbers.shape[1:]
        known[name] = lambda past, numbers=iter(numbers): next(numbers)
    train_step = taught("train_step", **known)

    numbers = iter(draws["draw_noise"])
    monkeypatch.setattr(model, "noise_for", lambda count, seed: tf.constant(next(numbers)))
    places = iter(draws["draw_share"])
    monkeypatch.setattr(wgan_gp, "mixing_share", lambda like, seed: next(places))
    targets = {"next": tf.constant(future[:, :1]), "later": tf.constant(future[:, 1:])}
    before = {ours: known[ours].get_weights() for ours in ("generator", "critic")}
    for _ in range(steps):
        model.reset_metrics()
        train_step(past, np.moveaxis(future, 1, -1))
        model.train_step(({"past": tf.constant(past)}, targets))
    for ours in ("generator", "critic"):
        taught_weights = known[ours].get_weights()
        theirs = getattr(model, ours).get_weights()
        for mine, its, old in zip(taught_weights, theirs, before[ours], strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)
            assert mine.ndim == 1 or np.abs(its - old).max() > 1e-3  # it has learnt


def test_the_optimizers_taught_are_the_helpers():
    found = wgan_gp.compile_options(CONFIG, training.Plan(steps=5))
    for name, rate in (("generator_optimizer", "RATE"), ("critic_optimizer", "CRITIC_RATE")):
        ours = taught(name, **{rate: 1e-3})
        assert type(ours) is type(found[name])
        for part in ("beta_1", "beta_2"):
            assert getattr(ours, part) == getattr(found[name], part)


def test_the_penalty_taught_is_the_helpers(rng):
    penalty = taught("gradient_penalty")
    network = taught("critic_network", CONFIG=CONFIG, to_patches=to_patches)()
    shape = (2, 3, 16, 16, 16, CONFIG.channels + CONFIG.ahead)
    real, fake = (tf.constant(x) for x in rng.random(shape, dtype=np.float32))
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


# Sand, and the linear autoencoder


def test_the_best_critic_taught_is_the_best_of_all(rng):
    """Its gap is the Wasserstein distance, and no scores of slope at most 1 have a larger one."""
    places = np.linspace(0, 5, 21)
    p, q = rng.dirichlet(np.ones(21), 2)
    scores, gap, work = taught("best_critic", APART=0.25)(p, q)
    expected = stats.wasserstein_distance(places, places, p, q)
    assert gap == pytest.approx(expected) and work == pytest.approx(expected)
    assert (p - q) @ scores == pytest.approx(gap)
    assert np.abs(np.diff(scores)).max() <= 0.25 + 1e-6
    rise = np.diff(np.eye(21), axis=0)
    rules = {"A_ub": np.concatenate([rise, -rise]), "b_ub": np.full(40, 0.25)}
    best = linprog(q - p, **rules, bounds=[(None, None)] * 21)
    assert -best.fun == pytest.approx(gap, abs=1e-6)


def test_the_divergence_taught_is_that_of_scipy(rng):
    from scipy.spatial.distance import jensenshannon

    p, q = rng.dirichlet(np.ones(21), 2)
    assert taught("jensen_shannon")(p, q) == pytest.approx(jensenshannon(p, q) ** 2)


@pytest.mark.parametrize(("count", "edge"), [(30, 3), (200, 6)])
def test_the_linear_autoencoder_taught_is_the_best_one(rng, count, edge):
    # Few directions in which frames differ much, as in our frames.
    flat = rng.normal(size=(count, 8)) @ rng.normal(size=(8, edge**3))
    flat = 0.5 + 0.02 * flat + 0.001 * rng.normal(size=flat.shape)
    frames = flat.astype(np.float32).reshape(-1, *[edge] * 3)
    encode, decode = taught("linear_autoencoder")(frames, 4)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    lost = ((decode(encode(frames)) - frames) ** 2).sum()
    assert lost == pytest.approx((values[4:] ** 2).sum(), rel=1e-3)


# The thesis's networks


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
    kinds = [[type(layer) for layer in each.layers] for each in (ours, theirs)]
    for kind in (layers.Dropout, layers.BatchNormalization, layers.LayerNormalization):
        assert kinds[0].count(kind) == kinds[1].count(kind)


THESIS = wgan_gp.thesis(3, width=16, kernel=3, latent=5, critic_width=16)


def taught_downwards():
    block = taught("block", active=taught("active"))
    return taught("downwards", block=block, active=taught("active"))


def test_the_encoder_taught_is_the_helpers():
    network = taught("encoder", downwards=taught_downwards())(width=16, kernel=3, latent=5)
    same_network(network, aencgan.encoder(THESIS), (16, 16, 16, 1))


def test_the_decoder_taught_is_the_helpers():
    network = taught("decoder")(frames=3, width=16, kernel=3, latent=5)
    same_network(network, aencgan.decoder(THESIS), (15,))


def test_the_thesis_s_critic_taught_is_the_helpers():
    network = taught("thesis_critic", downwards=taught_downwards())(width=16, kernel=3)
    same_network(network, aencgan.critic(THESIS), (16, 16, 16, 2))


def test_the_critic_that_the_text_calls_best(rng):
    """Minus the distance to the target has no penalty, and its gap is the mean distance."""
    goal, guess = (rng.random((2, 5, 4, 4, 4)) < 0.3).astype(np.float32)
    best = taught("best_of_its_kind")(tf.constant(goal))
    share = rng.uniform(0.1, 0.9, (5, 1, 1, 1)).astype(np.float32)
    penalty = wgan_gp.gradient_penalty(best, tf.constant(goal), tf.constant(guess), share)
    assert float(penalty) == pytest.approx(0, abs=1e-8)
    expected = np.sqrt(((guess - goal) ** 2).sum(axis=(1, 2, 3))).mean()
    assert float(ops.mean(best(goal) - best(guess))) == pytest.approx(expected, rel=1e-5)
