"""The WGAN-GP: its networks, the penalty, the training step, resume, forecasts, bad input."""

import dataclasses
import json
import math
import threading

import numpy as np
import pytest
from random_weights import randomised
from test_training import At, python

from helpers import records, training, wgan_gp, workshop
from helpers.models import cnn
from helpers.models.weights import save_weights
from helpers.sequences import T20_TINC1, T80_TINC4, FrameFormat
from helpers.wgan_gp import Config, binarise, forecaster, gradient_penalty, thesis

tf = workshop.tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)

GRID = 8
SIZES = {"width": 8, "blocks": 1, "critic_width": 4, "grid": GRID}
TINY = Config(history=2, ahead=2, noise=0, critic_steps=2, ramp=1, **SIZES)
SMALL = {
    "tiny": TINY,
    "noise": dataclasses.replace(TINY, noise=2),
    "voxels": dataclasses.replace(TINY, noise=2, blocks=0, patch=1),
    "thesis": thesis(1, width=16, latent=4, kernel=3, critic_width=16, critic_kernel=3, grid=GRID),
}
PLAN = training.Plan(steps=4, batch_size=4, learning_rate=1e-2, validate_every=2)


def batch(config=TINY, count=4, seed=5):
    """A batch of random frames: what `fit` reads, without weights."""
    rng = np.random.default_rng(seed)
    shape = (count, config.history + config.ahead, *[config.grid] * 3)
    frames = (rng.random(shape) < 0.3).astype(np.float32)
    steps = np.resize(np.array(config.steps), count)
    ones = np.ones(count, np.float32)
    inputs, targets, _ = cnn.example(config, frames, np.full(count, config.history), steps, ones)
    return inputs, targets


def frames(inputs, config=TINY):
    """The frames in what is read, (B, T, D, H, W)."""
    return np.moveaxis((np.asarray(inputs["past"])[..., : config.history] + 1) / 2, -1, 1)


def batches(config=TINY):
    """Batch number n holds the same examples whenever it is asked for."""
    parts = batch(config, 24)

    def from_step(start):
        def choose(step):
            seed = (5, tf.cast(step, tf.int32))
            places = tf.random.stateless_uniform((4,), seed, 0, 24, tf.int32)
            return tuple({k: tf.gather(v, places) for k, v in part.items()} for part in parts)

        return tf.data.Dataset.counter(start).map(choose)

    return from_step


def validation(config=TINY):
    data = tf.data.Dataset.from_tensor_slices(batch(config, 8, seed=6))
    return data.batch(4, drop_remainder=True)


def compiled(config=TINY, seed=3, *, eager=True, optimizers=None):
    """A small model, run without a graph unless told: making one takes longer than running it."""
    keras.utils.set_random_seed(seed)
    model = wgan_gp.build(config)
    options = wgan_gp.compile_options(config, PLAN, critic_rate=1e-3) | (optimizers or {})
    model.compile(**options, run_eagerly=eager)
    return model


def train(folder, model, *, plan=PLAN, **options):
    options = {"validation": validation(model.config), **options}
    monitor = wgan_gp.monitor(model.config)
    source = options.pop("batches", batches(model.config))
    stop = training.Stop(event=options.pop("stop", None))
    callbacks = [*options.pop("callbacks", ()), stop]
    checkpoint = training.Checkpoint(folder, plan, monitor)
    return training.train(model, source, checkpoint, callbacks=callbacks, **options)


def values(variables):
    return [variable.numpy() for variable in variables]


def moved(before, variables):
    """Which of the variables have another value than before."""
    return [not np.array_equal(old, new) for old, new in zip(before, values(variables))]


def opinion(model, inputs, truth, candidate, **options):
    """The critic's scores of a candidate, beside what it is given."""
    return model.score(model.given(inputs, truth), candidate, **options)


@pytest.fixture(scope="module", params=list(SMALL))
def model(request):
    """A small model of each kind, with weights at random."""
    return randomised(wgan_gp.build(SMALL[request.param]))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing disturbs: (model, history, folder)."""
    folder = tmp_path_factory.mktemp("straight")
    model = compiled(SMALL["noise"])
    return model, train(folder, model), folder


class TestNetworks:
    @pytest.mark.parametrize(("history", "generator"), [(1, 9_636_065), (3, 18_024_673)])
    def test_the_thesis_s_networks_have_the_thesis_s_parameters(self, history, generator):
        model = wgan_gp.build(thesis(history))
        encoder = 9_620_416
        found = [part.count_params() for part in (model.generator, model.critic)]
        assert found == [encoder + generator, 5_445_281]

    def test_a_forecast_is_a_probability_for_each_voxel(self, model):
        inputs, targets = batch(model.config, 3)
        found = model(inputs)
        for name, truth in targets.items():
            assert found[name].shape == truth.shape and found[name].dtype == tf.float32
            assert 0 <= np.min(found[name]) < np.max(found[name]) <= 1
        truth = wgan_gp.frames_of(targets)
        assert truth.shape[1] == model.config.ahead
        assert opinion(model, inputs, truth, truth).shape == (3,)

    def test_every_weight_gets_a_gradient(self, model):
        inputs, targets = batch(model.config, 3)
        truth = wgan_gp.frames_of(targets)
        if model.config.noise:
            inputs["noise"] = model.noise_for(3, (1, 2))
        # Some pieces of the thesis's networks are left out at random.
        options = {"training": False}
        with tf.GradientTape(persistent=True) as tape:
            found = model(inputs, **options)
            loss = training.voxel_loss()(truth, wgan_gp.frames_of(found))
            score = tf.reduce_sum(tf.square(opinion(model, inputs, truth, truth, **options)))
        for value, part in ((loss, model.generator), (score, model.critic)):
            weights = part.trainable_variables
            for weight, gradient in zip(weights, tape.gradient(value, weights)):
                assert gradient is not None and np.isfinite(gradient).all(), weight.path
                assert np.abs(gradient).max() > 0, weight.path

    def test_noise_changes_the_forecast_and_is_0_unless_given(self):
        model = randomised(wgan_gp.build(SMALL["noise"]))
        inputs, _ = batch()
        calm = model(inputs)["next"].numpy()
        noise = model.noise_for(4, (1, 2))
        assert noise.shape == (4, GRID // 4, GRID // 4, GRID // 4, 2)
        np.testing.assert_array_equal(calm, model({**inputs, "noise": 0 * noise})["next"])
        assert np.abs(model({**inputs, "noise": noise})["next"] - calm).max() > 1e-3

    @pytest.mark.parametrize("name", ["tiny", "noise", "voxels"])
    def test_the_generator_begins_as_a_cnn_that_was_trained_alone(self, name):
        """Noise plays no role yet: with any noise, it forecasts what the CNN does."""
        config = SMALL[name]
        model, trained = wgan_gp.build(config), randomised(cnn.build(config.alone))
        wgan_gp.begin_with(model, trained)
        inputs, _ = batch(config)
        expected = trained(inputs)
        if config.noise:
            inputs["noise"] = model.noise_for(4, (1, 2))
        found = model(inputs)
        for part in expected:
            np.testing.assert_allclose(found[part], expected[part], atol=1e-6)

    def test_another_network_is_no_beginning(self):
        model = wgan_gp.build(TINY)
        other = cnn.build(dataclasses.replace(TINY.alone, width=16))
        before = values(model.weights)
        with pytest.raises(ValueError, match="other sizes"):
            wgan_gp.begin_with(model, other)
        assert not any(moved(before, model.weights))

    def test_the_critic_judges_each_sample_by_itself(self):
        model = randomised(wgan_gp.build(TINY))
        inputs, targets = batch(count=3)
        truth = wgan_gp.frames_of(targets)
        together = opinion(model, inputs, truth, truth, training=True).numpy()
        alone = opinion(model, {k: v[:1] for k, v in inputs.items()}, truth[:1], truth[:1])
        np.testing.assert_allclose(alone[0], together[0], rtol=1e-4)
        names = [type(layer).__name__ for layer in model.critic.layers]
        assert "BatchNormalization" not in names and "Dropout" not in names

    def test_a_conditional_critic_looks_at_the_history_and_not_at_the_target(self):
        model = randomised(wgan_gp.build(TINY))
        inputs, targets = batch()
        truth = wgan_gp.frames_of(targets)
        other, _ = batch(seed=9)
        score = opinion(model, inputs, truth, truth).numpy()
        np.testing.assert_array_equal(opinion(model, inputs, 1 - truth, truth), score)
        assert np.abs(opinion(model, other, truth, truth) - score).min() > 1e-5

    def test_the_critic_sees_every_frame_that_is_forecast(self):
        model = randomised(wgan_gp.build(TINY))
        inputs, targets = batch()
        truth = wgan_gp.frames_of(targets).numpy()
        score = opinion(model, inputs, truth, truth).numpy()
        for place in range(TINY.ahead):
            other = truth.copy()
            other[:, place] = 1 - other[:, place]
            assert np.abs(opinion(model, inputs, truth, other) - score).min() > 1e-5
        assert np.abs(opinion(model, inputs, truth, truth[:, ::-1]) - score).min() > 1e-5

    def test_the_thesis_s_critic_looks_at_the_target_and_not_at_the_history(self):
        model = randomised(wgan_gp.build(SMALL["thesis"]))
        inputs, targets = batch(model.config)
        truth = wgan_gp.frames_of(targets)
        other, _ = batch(model.config, seed=9)
        score = opinion(model, inputs, truth, truth).numpy()
        np.testing.assert_array_equal(opinion(model, other, truth, truth), score)
        assert np.abs(opinion(model, inputs, 1 - truth, truth) - score).min() > 1e-5


class TestPenalty:
    def test_by_hand(self):
        """With c(x) = a·x₀ + x₁² the slope is (a, 2x₁)."""
        real = tf.constant([[1.0, 2.0], [0.0, -1.0]])
        fake = tf.constant([[3.0, 0.0], [5.0, 3.0]])
        share = tf.constant([[0.25], [0.5]])  # mixed: x₁ = 1.5 and 1
        found = gradient_penalty(lambda x: 4 * x[:, 0] + x[:, 1] ** 2, real, fake, share)
        # Lengths √(16 + 9) = 5 and √(16 + 4).
        expected = ((5 - 1) ** 2 + (math.sqrt(20) - 1) ** 2) / 2
        assert float(found) == pytest.approx(expected, rel=1e-6)

    def test_its_gradient_by_hand(self):
        weight = tf.Variable(3.0)
        points = tf.zeros((2, 4))
        with tf.GradientTape() as tape:
            # The slope is (w, w, w, w), of length 2w.
            found = gradient_penalty(
                lambda x: weight * tf.reduce_sum(x, axis=1), points, points, tf.zeros((2, 1))
            )
        assert float(found) == pytest.approx((2 * 3 - 1) ** 2)
        assert float(tape.gradient(found, weight)) == pytest.approx(2 * (2 * 3 - 1) * 2)

    @pytest.mark.parametrize("flat", ["everywhere", "in one sample"])
    def test_is_finite_and_so_is_its_gradient_where_the_critic_is_flat(self, flat):
        weight = tf.Variable(2.0)
        rows = tf.constant([[0.0], [0.0 if flat == "everywhere" else 1.0]])
        points = tf.random.normal((2, 5), seed=1)
        with tf.GradientTape() as tape:
            found = gradient_penalty(
                lambda x: tf.reduce_sum(weight * rows * x, axis=1), points, points, 0.5
            )
        gradient = float(tape.gradient(found, weight))
        assert np.isfinite(float(found)) and np.isfinite(gradient)
        if flat == "everywhere":
            assert (float(found), gradient) == (1.0, 0.0)
        else:
            length = 2 * math.sqrt(5)
            assert float(found) == pytest.approx((1 + (length - 1) ** 2) / 2, rel=1e-5)
            assert gradient == pytest.approx((length - 1) * math.sqrt(5), rel=1e-5)

    def test_only_the_candidate_is_mixed(self, monkeypatch):
        model = compiled()
        inputs, targets = batch()
        truth = wgan_gp.frames_of(targets)
        seen = []

        def noted(critic, real, fake, share):
            seen.append((real.shape, fake.shape, np.array(share)))
            return gradient_penalty(critic, real, fake, share)

        monkeypatch.setattr(wgan_gp, "gradient_penalty", noted)
        model._train_critic(inputs, truth, 0)
        ((real, fake, share),) = seen
        assert real == fake == truth.shape
        assert share.shape == (4, 1, 1, 1, 1)

    def test_the_places_on_the_line_are_uniform(self):
        found = wgan_gp.mixing_share(np.zeros((4000, 1, 2, 2, 2)), (1, 2)).numpy()
        assert found.shape == (4000, 1, 1, 1, 1) and found.min() >= 0 and found.max() < 1
        counts, _ = np.histogram(found, 4, (0, 1))
        assert np.abs(counts - 1000).max() < 150


class TestStraightThrough:
    def test_rounds_forwards_and_not_backwards(self):
        probability = tf.constant([0.0, 0.2, 0.4999, 0.5, 0.9, 1.0])
        with tf.GradientTape() as tape:
            tape.watch(probability)
            found = binarise(probability)
            loss = tf.reduce_sum(found * [1.0, 2, 3, 4, 5, 6])
        assert found.numpy().tolist() == [0, 0, 0, 1, 1, 1]
        assert tape.gradient(loss, probability).numpy().tolist() == [1, 2, 3, 4, 5, 6]

    def test_the_critic_sees_black_and_white_only_if_asked_to(self):
        grey = {"next": tf.fill((1, 1, GRID, GRID, GRID), 0.3)}
        for straight, seen in ((True, 0.0), (False, 0.3)):
            model = wgan_gp.build(dataclasses.replace(TINY, straight_through=straight))
            assert np.unique(model.candidate(grey)) == pytest.approx([seen])


class TestTraining:
    def test_a_step_trains_the_critic_as_often_as_planned_and_the_generator_once(self):
        model = compiled(dataclasses.replace(TINY, critic_steps=3))
        critic, generator = values(model.critic.weights), values(model.generator.weights)
        model.fit(batches()(0), steps_per_epoch=2, shuffle=False, verbose=0)
        assert any(moved(critic, model.critic.weights))
        assert any(moved(generator, model.generator.weights))
        assert int(model.generator_optimizer.iterations) == 2
        assert int(model.critic_optimizer.iterations) == 2 * 3

    @pytest.mark.parametrize("options", [{"adversarial": 0.0}, {"ramp": 1_000_000_000}])
    def test_without_the_critic_s_weight_it_is_the_training_of_the_cnn(self, options):
        model = compiled(dataclasses.replace(TINY, **options))
        plain = cnn.build(TINY.alone)
        wgan_gp.begin_with(model, plain)
        plain.compile(**cnn.compile_options(TINY.alone, PLAN), run_eagerly=True)
        for each in (model, plain):
            each.fit(batches()(0), steps_per_epoch=2, shuffle=False, verbose=0)
        for ours, theirs in zip(model.generator.weights, plain.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)

    def test_the_losses_are_those_of_the_equations(self, monkeypatch):
        """One step by hand, with plain gradient descent and a critic that stays as it is."""
        options = {"critic_steps": 1, "adversarial": 0.7, "ramp": 0, "straight_through": True}
        config = dataclasses.replace(TINY, **options)
        monkeypatch.setattr(
            wgan_gp, "mixing_share", lambda like, seed: tf.fill((4, 1, 1, 1, 1), 0.3)
        )
        model = randomised(wgan_gp.build(config))
        sgd, loss = keras.optimizers.SGD, {n: training.voxel_loss() for n in ("next", "later")}
        model.compile(sgd(0.1), sgd(0.0), run_eagerly=True, loss=loss)
        inputs, targets = batch()
        truth = wgan_gp.frames_of(targets)
        with tf.GradientTape() as tape:
            forecast = model(inputs)
            probability = wgan_gp.frames_of(forecast)
            hard = (probability.numpy() >= 0.5).astype(np.float32)
            fake = opinion(model, inputs, truth, tf.convert_to_tensor(hard))
            candidate = hard + probability - tf.stop_gradient(probability)
            score = tf.reduce_mean(opinion(model, inputs, truth, candidate))
            rebuilt = sum(loss[name](targets[name], forecast[name]) for name in loss)
            value = rebuilt - 0.7 * score
        weights = model.generator.trainable_variables
        gradients = tape.gradient(value, weights)
        expected = [w.numpy() - 0.1 * g for w, g in zip(weights, gradients)]
        real = opinion(model, inputs, truth, truth).numpy()
        penalty = gradient_penalty(
            lambda x: opinion(model, inputs, truth, x), truth, tf.convert_to_tensor(hard), 0.3
        )
        distance = real.mean() - fake.numpy().mean()
        critic = 10 * float(penalty) - distance
        data = tf.data.Dataset.from_tensors((inputs, targets))
        history = model.fit(data, shuffle=False, verbose=0).history
        found = {name: history[name][0] for name in ("distance", "penalty", "critic", "loss")}
        wanted = {"distance": distance, "penalty": float(penalty), "critic": critic}
        assert found == pytest.approx(wanted | {"loss": float(rebuilt)}, rel=1e-3)
        for ours, theirs in zip(values(weights), expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)

    def test_the_reconstruction_takes_the_nearest_of_several_draws(self):
        config = dataclasses.replace(SMALL["noise"], draws=5)
        model = compiled(config)
        randomised(model.generator)
        inputs, targets = batch(config)
        truth = wgan_gp.frames_of(targets)

        def error(given):
            gap = wgan_gp.frames_of(model(given)) - truth
            return tf.reduce_mean(tf.square(gap), axis=(1, 2, 3, 4)).numpy()

        drawn = [error(model._noisy(inputs, 100 + number)) for number in range(config.draws)]
        assert np.ptp(drawn, axis=0).min() > 0
        np.testing.assert_allclose(
            error(model._nearest(inputs, truth)), np.min(drawn, axis=0), rtol=1e-5
        )

    def test_the_critic_learns_to_tell_truth_from_forecast(self):
        keras.utils.set_random_seed(1)
        model = wgan_gp.build(dataclasses.replace(TINY, critic_steps=1))
        adam, still = keras.optimizers.Adam(1e-2), keras.optimizers.SGD(0.0)
        losses = {name: training.voxel_loss() for name in ("next", "later")}
        model.compile(still, adam, run_eagerly=True, loss=losses)
        inputs, _ = batch(count=8)
        # The truth is emptier than persistence.
        empty = frames(inputs)[:, -1:] * (np.arange(GRID) % 2)
        targets = {"next": empty, "later": empty}
        data = tf.data.Dataset.from_tensors((inputs, targets)).repeat()
        options = {"shuffle": False, "verbose": 0}
        found = model.fit(data, epochs=2, steps_per_epoch=4, **options).history["distance"]
        assert found[1] > max(found[0], 0)

    def test_the_weight_of_the_critic_rises_in_the_ramp(self):
        model = compiled(dataclasses.replace(TINY, ramp=4, adversarial=0.8))
        iterations = model.generator_optimizer.iterations
        found = []
        for step in (0, 1, 2, 4, 30):
            iterations.assign(step)
            found.append(float(model.weight()))
        assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])

    def test_what_a_run_reports(self, straight):
        model, history, folder = straight
        assert history.step == 4
        parts = {"loss", "next_loss", "later_loss", "distance", "next_jaccard_per_frame"}
        names, checked = parts | {"critic", "penalty"}, {f"val_{name}" for name in parts}
        assert set(history.rows[0]) == {"step", "seconds"} | names | checked
        assert history.rows[1]["critic"] != 0
        restored = compiled(model.config)
        best = training.load_best(folder, restored)
        found = restored.evaluate(validation(), verbose=0, return_dict=True)
        assert found["next_jaccard_per_frame"] == best["val_next_jaccard_per_frame"]

    def test_stopped_and_resumed_is_as_if_never_stopped(self, straight, tmp_path):
        event = threading.Event()
        model = compiled(SMALL["noise"])
        history = train(tmp_path, model, stop=event, callbacks=[At(3, event.set)])
        assert history.step == 2  # the begun round is given up
        resumed = compiled(SMALL["noise"], seed=8)
        assert train(tmp_path, resumed).step == 4
        assert int(resumed.critic_optimizer.iterations) == 4 * 2
        ours = [*resumed.weights, *resumed.critic_optimizer.variables]
        theirs = [*straight[0].weights, *straight[0].critic_optimizer.variables]
        for one, other in zip(values(ours), values(theirs), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_the_thesis_s_model_trains(self):
        names = ("generator_optimizer", "critic_optimizer")
        adams = {name: keras.optimizers.Adam(1e-4, beta_1=0.5) for name in names}
        model = compiled(SMALL["thesis"], optimizers=adams)
        weights = model.trainable_variables
        # A bias in front of a normalisation, and that of the score, have no effect.
        kernels = [weight for weight in weights if weight.name == "kernel"]
        before = values(kernels)
        model.fit(batches(model.config)(0), steps_per_epoch=1, shuffle=False, verbose=0)
        assert all(moved(before, kernels))

    def test_mixed_precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = compiled(TINY)
        finally:
            keras.config.set_dtype_policy(before)
        assert isinstance(model.generator_optimizer, keras.optimizers.LossScaleOptimizer)
        layers = [layer for layer in model.critic.layers if layer.weights]
        assert {layer.compute_dtype for layer in layers} == {"float32"}
        assert model.generator.get_layer("mix_0").compute_dtype == "float16"
        assert {weight.dtype for weight in model.weights} == {"float32"}
        full = wgan_gp.build(model.config)
        generator, critic = values(model.generator.weights), values(model.critic.weights)
        history = model.fit(batches()(0), steps_per_epoch=2, shuffle=False, verbose=0).history
        assert all(np.isfinite(each[0]) for each in history.values())
        assert any(moved(generator, model.generator.weights))
        assert any(moved(critic, model.critic.weights))
        inputs, _ = batch()
        full.set_weights(model.get_weights())
        found = model(inputs)["next"]
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, full(inputs)["next"], atol=0.02)

    @pytest.mark.slow
    def test_two_devices_train_as_one(self):
        code = """
import json, tempfile
import test_wgan_gp as g
tf, w = g.tf, g.wgan_gp
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
g.keras.utils.set_random_seed(1)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
# Each device draws its own places on the line, so the same run needs fixed ones.
w.mixing_share = lambda like, seed: tf.fill((tf.shape(like)[0], 1, 1, 1, 1), 0.3)
# Small, since each device has a graph of its own.
options = {"blocks": 0, "patch": 1, "critic_steps": 1}
config = g.dataclasses.replace(g.TINY, **options)
even = lambda start: g.batches()(start).unbatch().batch(4, drop_remainder=True)
one = g.compiled(config)
with strategy.scope():
    two = g.compiled(config, eager=False)
rows = [
    model.fit(even(0), steps_per_epoch=2, shuffle=False, verbose=0).history
    for model in (one, two)
]
apart = max(float(abs(a - b).max()) for a, b in zip(g.values(one.weights), g.values(two.weights)))
print(json.dumps([strategy.num_replicas_in_sync, apart, *rows]))
"""
        ended = python(code)
        assert ended.returncode == 0, ended.stderr
        replicas, apart, one, two = json.loads(ended.stdout.splitlines()[-1])
        assert replicas == 2
        for name in one:
            assert one[name] == pytest.approx(two[name], rel=1e-3, abs=1e-5), name
        assert apart < 1e-3

    def test_parts_of_a_step_and_steps_draw_different_numbers(self):
        model = compiled()
        places = [(number, kind) for number in range(3) for kind in (0, 1)]
        seeds = [tuple(model._seed(*place).numpy()) for place in places]
        model.generator_optimizer.iterations.assign(5)
        seeds += [tuple(model._seed(*place).numpy()) for place in places]
        assert len(set(seeds)) == 12


def test_batches_and_validation_are_those_of_the_cnn(sample_set, tmp_path):
    folder = sample_set / "02_4D_test_datasets"
    split = records.packed(folder, tmp_path / "packed", progress=False)
    config, formats = wgan_gp.plain(), (T20_TINC1, T80_TINC4)
    for make in (
        lambda kind, config: next(kind.batches(split, formats, config, PLAN)(3)),
        lambda kind, config: kind.validation(split, formats, config, 8)[0],
    ):
        for ours, theirs in zip(make(wgan_gp, config), make(cnn, config.alone)):
            for name in ours if isinstance(ours, dict) else ():
                np.testing.assert_array_equal(ours[name], theirs[name])


def histories(count):
    """Four random histories of so many frames."""
    rng = np.random.default_rng(8)
    return (rng.random((4, count, GRID, GRID, GRID)) < 0.3).astype(np.float32)


class TestForecaster:
    def test_gives_what_the_model_gives(self, model):
        wrapped, config = forecaster(model, T20_TINC1, "mine"), model.config
        assert wrapped.name == "mine"
        history = histories(config.history + 2)
        known = np.full(4, config.history), np.ones(4)
        past = cnn.inputs(config, history[:, 2:], *known)
        expected = wgan_gp.frames_of(model({"past": past}))
        found = wrapped(history.astype(np.uint8))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)
        np.testing.assert_allclose(wrapped.several(history), expected, atol=1e-6)

    def test_of_a_long_history_so_many_frames_are_looked_at(self):
        model = randomised(wgan_gp.build(TINY))
        history = histories(4)
        for frames in (1, 2):
            found = forecaster(model, T20_TINC1, frames=frames)(history)
            expected = forecaster(model, T20_TINC1)(history[:, -frames:])
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(forecaster(model, T20_TINC1, frames=9)(history), expected)

    def test_draws_with_a_seed_and_not_without(self):
        model = randomised(wgan_gp.build(SMALL["noise"]))
        history = histories(TINY.history)
        calm = forecaster(model, T20_TINC1)
        np.testing.assert_array_equal(calm(history), calm(history))
        one, same, other = (forecaster(model, T20_TINC1, seed=seed) for seed in (1, 1, 2))
        first, second = one(history), one(history)
        assert np.abs(first - second).max() > 1e-3
        np.testing.assert_array_equal(same(history), first)
        assert np.abs(other(history) - first).max() > 1e-3

    def test_weights_come_back_with_their_configuration(self, model, tmp_path):
        path = save_weights(tmp_path / "w.npz", model, {"seed": 1})
        restored = wgan_gp.load(path)
        assert restored.config == model.config
        history = histories(model.config.history)
        wrapped = (forecaster(each, T20_TINC1) for each in (model, restored))
        np.testing.assert_array_equal(*(each(history) for each in wrapped))

    def test_weights_of_another_kind_are_refused(self, tmp_path):
        model = wgan_gp.build(TINY)
        path = save_weights(tmp_path / "w.npz", model, {"configuration": {"filters": [4]}})
        with pytest.raises(training.CheckpointError, match="not a WGAN-GP of this course"):
            wgan_gp.load(path)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"history": 0}, "history is 0; expected 1 to 20"),
            ({"critic_kernel": 4}, "critic_kernel is 4; expected at least 1, odd"),
            ({"grid": 18}, "grid is 18; expected a multiple of 4"),
            ({"penalty": -1}, "penalty is -1"),
            ({"adversarial": 0, "reconstruction": 0}, "nothing to learn"),
            ({"latent": 4}, "one frame and read no noise"),
            ({"noise": 0, "draws": 2}, "all draws are the same"),
            ({"steps": (1, 1)}, "each time step once"),
        ],
    )
    def test_a_wrong_configuration_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            Config(**options)

    def test_the_thesis_has_models_for_one_and_three_frames(self):
        with pytest.raises(ValueError, match="frames is 2; choose one of 1, 3"):
            thesis(2)

    def test_frames_on_another_grid(self):
        inputs = {"past": np.zeros((1, 7, 8, 8, 13))}
        with pytest.raises(ValueError, match=r"\(1, 7, 8, 8, 13\); expected \(B, 8, 8, 8, 13\)"):
            wgan_gp.build(TINY)(inputs)

    def test_what_is_no_model_or_no_format_of_it(self):
        with pytest.raises(TypeError, match="expected a WGAN-GP"):
            forecaster(None, T20_TINC1)
        model = wgan_gp.build(TINY)
        with pytest.raises(ValueError, match="T40_TINC8 has time step 8"):
            forecaster(model, FrameFormat(40, 8))
        with pytest.raises(ValueError, match="reads no noise"):
            forecaster(model, T20_TINC1, seed=1)
