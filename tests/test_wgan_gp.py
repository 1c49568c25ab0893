"""The WGAN-GP: its networks, the penalty, the training step, resume, forecasts, bad input."""

import dataclasses
import json
import math
import threading

import numpy as np
import pytest
from random_weights import randomised
from test_training import At, python

from helpers import training, wgan_gp, workshop
from helpers.models import cnn
from helpers.models.weights import save_weights
from helpers.sequences import T20_TINC1, T40_TINC2, T80_TINC4, FrameFormat
from helpers.wgan_gp import Config, binarise, forecaster, gradient_penalty, thesis

tf = workshop.tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)

GRID = 8
SIZES = {"width": 8, "blocks": 1, "critic_width": 8, "grid": GRID}
TINY = Config(frames=2, critic_steps=2, warm_up=1, **SIZES)
SMALL = {
    "workshop": TINY,
    "noise": dataclasses.replace(TINY, noise=2),
    "thesis": thesis(1, width=16, latent=4, kernel=3, critic_width=16, critic_kernel=3, grid=GRID),
}
PLAN = training.Plan(steps=4, batch_size=4, learning_rate=1e-2, validate_every=2)


def batch(config=TINY, count=4, seed=5):
    """A batch of random frames: the mapping that a model reads, and targets (B, D, H, W)."""
    rng = np.random.default_rng(seed)
    frames = (rng.random((count, config.frames + 1, *[config.grid] * 3)) < 0.3).astype(np.float32)
    steps = np.resize(np.array(config.steps), count)
    return wgan_gp.inputs(config, frames[:, :-1], steps), frames[:, -1]


def shown(inputs, config=TINY):
    """The frames in what is read, (B, T, D, H, W)."""
    return np.asarray(wgan_gp.frames_of(config, inputs))


def batches(config=TINY):
    """Batch number n holds the same examples whenever it is asked for."""
    inputs, target = batch(config, 24)

    def from_step(start):
        def choose(step):
            seed = (5, tf.cast(step, tf.int32))
            places = tf.random.stateless_uniform((4,), seed, 0, 24, tf.int32)
            return {k: tf.gather(v, places) for k, v in inputs.items()}, tf.gather(target, places)

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
    monitor = "val_jaccard_per_frame"
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
    @pytest.mark.parametrize(("frames", "generator"), [(1, 9_636_065), (3, 18_024_673)])
    def test_the_thesis_s_networks_have_the_thesis_s_parameters(self, frames, generator):
        model = wgan_gp.build(thesis(frames))
        parts = (model.encoder, model.generator, model.critic)
        assert [p.count_params() for p in parts] == [9_620_416, generator, 5_445_281]

    def test_a_forecast_is_a_probability_for_each_voxel(self, model):
        inputs, target = batch(model.config, 3)
        found = model(inputs)
        assert found.shape == target.shape and found.dtype == tf.float32
        assert 0 <= np.min(found) < np.max(found) <= 1
        assert model.score(inputs, target, target).shape == (3,)

    def test_every_weight_gets_a_gradient(self, model):
        inputs, target = batch(model.config, 3)
        if model.config.noise:
            inputs["noise"] = model.noise_for(3, (1, 2))
        # Some pieces of the thesis's networks are left out at random.
        options = {"training": False}
        with tf.GradientTape(persistent=True) as tape:
            loss = training.voxel_loss()(target, model(inputs, **options))
            score = tf.reduce_sum(tf.square(model.score(inputs, target, target, **options)))
        for value, weights in (
            (loss, model.generator_variables),
            (score, model.critic.trainable_variables),
        ):
            for weight, gradient in zip(weights, tape.gradient(value, weights)):
                assert gradient is not None and np.isfinite(gradient).all(), weight.path
                assert np.abs(gradient).max() > 0, weight.path

    def test_an_untrained_workshop_generator_is_persistence(self):
        inputs, _ = batch()
        found = wgan_gp.build(TINY)(inputs).numpy()
        np.testing.assert_array_equal(found >= 0.5, shown(inputs)[:, -1] == 1)

    def test_noise_changes_the_forecast_and_is_0_unless_given(self):
        model = randomised(wgan_gp.build(SMALL["noise"]))
        inputs, _ = batch()
        calm = model(inputs).numpy()
        noise = model.noise_for(4, (1, 2))
        assert noise.shape == (4, GRID // 4, GRID // 4, GRID // 4, 2)
        np.testing.assert_array_equal(calm, model({**inputs, "noise": 0 * noise}))
        assert np.abs(model({**inputs, "noise": noise}) - calm).max() > 1e-3

    @pytest.mark.parametrize("norm", ["layer", "group"])
    def test_the_critic_judges_each_sample_by_itself(self, norm):
        config = dataclasses.replace(TINY, critic_norm=norm)
        model = randomised(wgan_gp.build(config))
        inputs, target = batch(count=3)
        together = model.score(inputs, target, target, training=True).numpy()
        alone = model.score({k: v[:1] for k, v in inputs.items()}, target[:1], target[:1])
        np.testing.assert_allclose(alone[0], together[0], rtol=1e-4)
        names = [type(layer).__name__ for layer in model.critic.layers]
        assert "BatchNormalization" not in names and "Dropout" not in names

    def test_a_conditional_critic_looks_at_the_history_and_not_at_the_target(self):
        model = randomised(wgan_gp.build(TINY))
        inputs, target = batch()
        other, _ = batch(seed=9)
        score = model.score(inputs, target, target).numpy()
        np.testing.assert_array_equal(model.score(inputs, 1 - target, target), score)
        assert np.abs(model.score(other, target, target) - score).min() > 1e-5
        changed = wgan_gp.inputs(TINY, shown(inputs), np.array([2, 4, 1, 2]))
        assert np.abs(model.score(changed, target, target) - score).min() > 1e-6

    def test_the_thesis_s_critic_looks_at_the_target_and_not_at_the_history(self):
        model = randomised(wgan_gp.build(SMALL["thesis"]))
        inputs, target = batch(model.config)
        other, _ = batch(model.config, seed=9)
        score = model.score(inputs, target, target).numpy()
        np.testing.assert_array_equal(model.score(other, target, target), score)
        assert np.abs(model.score(inputs, 1 - target, target) - score).min() > 1e-5


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
        inputs, target = batch()
        seen = []

        def noted(critic, real, fake, share):
            seen.append((real.shape, fake.shape, np.array(share)))
            return gradient_penalty(critic, real, fake, share)

        monkeypatch.setattr(wgan_gp, "gradient_penalty", noted)
        model._train_critic(inputs, target)
        ((real, fake, share),) = seen
        assert real == fake == target.shape
        assert share.shape == (4, 1, 1, 1)

    def test_the_places_on_the_line_are_uniform(self):
        found = wgan_gp.mixing_share(np.zeros((4000, 2, 2, 2)), (1, 2)).numpy()
        assert found.shape == (4000, 1, 1, 1) and found.min() >= 0 and found.max() < 1
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
        grey = tf.fill((1, GRID, GRID, GRID), 0.3)
        assert np.unique(wgan_gp.build(TINY).candidate(grey)).tolist() == [0]
        plain = wgan_gp.build(dataclasses.replace(TINY, straight_through=False))
        np.testing.assert_array_equal(plain.candidate(grey), grey)


class TestTraining:
    def test_a_step_without_the_critic_leaves_the_critic_alone(self):
        model = compiled(dataclasses.replace(TINY, warm_up=2))
        critic, generator = values(model.critic.weights), values(model.generator.weights)
        model.fit(batches()(0), steps_per_epoch=2, shuffle=False, verbose=0)
        assert not any(moved(critic, model.critic.weights))
        assert any(moved(generator, model.generator.weights))
        assert int(model.generator_optimizer.iterations) == 2
        assert int(model.critic_optimizer.iterations) == 0

    def test_the_critic_learns_as_often_as_planned(self, steps=3):
        model = compiled(dataclasses.replace(TINY, critic_steps=steps, warm_up=1))
        model.fit(batches()(0), steps_per_epoch=1, shuffle=False, verbose=0)
        critic, generator = values(model.critic.weights), values(model.generator.weights)
        model.fit(batches()(1), steps_per_epoch=2, shuffle=False, verbose=0)
        assert any(moved(critic, model.critic.weights))
        assert any(moved(generator, model.generator.weights))
        assert int(model.generator_optimizer.iterations) == 1 + 2
        assert int(model.critic_optimizer.iterations) == 2 * steps

    def test_without_adversarial_weight_it_is_plain_training(self):
        plain = compiled(dataclasses.replace(TINY, adversarial=0.0, warm_up=0))
        trunk = cnn.build(TINY.network)
        keras.utils.set_random_seed(3)
        trunk.set_weights(plain.generator.get_weights())
        optimizer = PLAN.optimizer()
        for inputs, target in batches()(0).take(2):
            with tf.GradientTape() as tape:
                found = trunk(inputs)["next"][:, 0]
                loss = training.voxel_loss()(target, found)
            optimizer.apply(
                tape.gradient(loss, trunk.trainable_variables), trunk.trainable_variables
            )
        plain.fit(batches()(0), steps_per_epoch=2, shuffle=False, verbose=0)
        for ours, theirs in zip(plain.generator.weights, trunk.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)

    def test_the_losses_are_those_of_the_equations(self, monkeypatch):
        """One step by hand, with plain gradient descent and a critic that stays as it is."""
        config = dataclasses.replace(TINY, warm_up=0, critic_steps=1, adversarial=0.7)
        monkeypatch.setattr(wgan_gp, "mixing_share", lambda like, seed: tf.fill((4, 1, 1, 1), 0.3))
        model = randomised(wgan_gp.build(config))
        sgd = keras.optimizers.SGD
        model.compile(sgd(0.1), sgd(0.0), run_eagerly=True)
        inputs, target = batch()
        with tf.GradientTape() as tape:
            probability = model(inputs)
            hard = (probability.numpy() >= 0.5).astype(np.float32)
            fake = model.score(inputs, target, tf.convert_to_tensor(hard))
            candidate = hard + probability - tf.stop_gradient(probability)
            score = tf.reduce_mean(model.score(inputs, target, candidate))
            loss = training.voxel_loss()(target, probability) - 0.7 * score
        gradients = tape.gradient(loss, model.generator_variables)
        expected = [w.numpy() - 0.1 * g for w, g in zip(model.generator_variables, gradients)]
        real = model.score(inputs, target, target).numpy()
        penalty = gradient_penalty(
            lambda x: model.score(inputs, target, x),
            *(tf.convert_to_tensor(each) for each in (target, hard)),
            0.3,
        )
        distance = real.mean() - fake.numpy().mean()
        critic = 10 * float(penalty) - distance
        data = tf.data.Dataset.from_tensors((inputs, target))
        history = model.fit(data, shuffle=False, verbose=0).history
        found = {name: history[name][0] for name in ("distance", "penalty", "critic")}
        wanted = {"distance": distance, "penalty": float(penalty), "critic": critic}
        assert found == pytest.approx(wanted, rel=1e-3)
        for ours, theirs in zip(values(model.generator_variables), expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)

    def test_the_critic_learns_to_tell_truth_from_forecast(self):
        keras.utils.set_random_seed(1)
        model = wgan_gp.build(dataclasses.replace(TINY, warm_up=0, critic_steps=1))
        adam, still = keras.optimizers.Adam(1e-2), keras.optimizers.SGD(0.0)
        model.compile(still, adam, run_eagerly=True)
        inputs, _ = batch(count=8)
        # The truth is emptier than persistence.
        target = shown(inputs)[:, -1] * (np.arange(GRID) % 2)
        data = tf.data.Dataset.from_tensors((inputs, target)).repeat()
        options = {"shuffle": False, "verbose": 0}
        found = model.fit(data, epochs=2, steps_per_epoch=4, **options).history["distance"]
        assert found[1] > max(found[0], 0)

    def test_the_weight_of_the_critic_rises_after_the_warm_up(self):
        model = compiled(dataclasses.replace(TINY, warm_up=4, adversarial=0.8))
        iterations = model.generator_optimizer.iterations
        found = []
        for step in (4, 5, 7, 30):
            iterations.assign(step)
            found.append(float(model._weight()))
        assert found == pytest.approx([0.2, 0.4, 0.8, 0.8])

    def test_what_a_run_reports(self, straight):
        model, history, folder = straight
        assert history.step == 4
        names = {"loss", "critic", "distance", "penalty", "jaccard_per_frame"}
        checked = {"val_loss", "val_distance", "val_jaccard_per_frame"}
        assert set(history.rows[0]) == {"step", "seconds"} | names | checked
        assert history.rows[1]["critic"] != 0
        restored = compiled(model.config)
        best = training.load_best(folder, restored)
        found = restored.evaluate(validation(), verbose=0, return_dict=True)
        assert found["jaccard_per_frame"] == best["val_jaccard_per_frame"]

    def test_stopped_and_resumed_is_as_if_never_stopped(self, straight, tmp_path):
        event = threading.Event()
        model = compiled(SMALL["noise"])
        history = train(tmp_path, model, stop=event, callbacks=[At(3, event.set)])
        assert history.step == 2  # the begun round is given up
        resumed = compiled(SMALL["noise"], seed=8)
        assert train(tmp_path, resumed).step == 4
        assert int(resumed.critic_optimizer.iterations) == 3 * 2
        ours = [*resumed.weights, *resumed.critic_optimizer.variables]
        theirs = [*straight[0].weights, *straight[0].critic_optimizer.variables]
        for one, other in zip(values(ours), values(theirs), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_the_thesis_s_model_trains(self):
        names = ("generator_optimizer", "critic_optimizer")
        adams = {name: keras.optimizers.Adam(1e-4, beta_1=0.5) for name in names}
        model = compiled(SMALL["thesis"], optimizers=adams)
        weights = [*model.generator_variables, *model.critic.trainable_variables]
        # A bias in front of a normalisation, and that of the score, have no effect.
        kernels = [weight for weight in weights if weight.name == "kernel"]
        before = values(kernels)
        model.fit(batches(model.config)(0), steps_per_epoch=1, shuffle=False, verbose=0)
        assert all(moved(before, kernels))

    def test_mixed_precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = compiled(dataclasses.replace(TINY, warm_up=1))
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
        assert model(inputs).dtype == tf.float32
        np.testing.assert_allclose(model(inputs), full(inputs), atol=0.02)

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
w.mixing_share = lambda like, seed: tf.fill((tf.shape(like)[0], 1, 1, 1), 0.3)
# Small, since each device has a graph of its own.
options = {"blocks": 0, "critic_steps": 1, "warm_up": 0}
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

    def test_devices_and_steps_draw_different_numbers(self):
        model = compiled()
        seeds = [tuple(model._seed(number).numpy()) for number in range(3)]
        model.generator_optimizer.iterations.assign(5)
        seeds += [tuple(model._seed(number).numpy()) for number in range(3)]
        assert len(set(seeds)) == 6


class TestData:
    @pytest.fixture(scope="class")
    def split(self, sample_set, tmp_path_factory):
        from helpers import records

        folder = sample_set / "02_4D_test_datasets"
        return records.packed(folder, tmp_path_factory.mktemp("packed"), progress=False)

    def test_batches_take_turns_from_any_step_on(self, split):
        config, plan = wgan_gp.workshop(3), training.Plan(steps=9, batch_size=4)
        made = wgan_gp.batches(split, (T20_TINC1, T80_TINC4), config, plan)
        five = list(made(0).take(5))
        told = [inputs["past"][0, 0, 0, 0, -4:-1].numpy().tolist() for inputs, _ in five]
        assert told == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0]]
        for inputs, target in five:
            assert inputs["past"].shape == (4, 16, 16, 16, 3 + 7 + 4)
            assert target.shape == (4, 16, 16, 16)
            assert set(np.unique(target)) <= {0, 1}
        for inputs, target in made(3).take(2):
            expected, wanted = five[3 + int(inputs["past"][0, 0, 0, 0, -4])]
            np.testing.assert_array_equal(inputs["past"], expected["past"])
            np.testing.assert_array_equal(target, wanted)

    def test_validation_holds_windows_of_each_format(self, split):
        config = wgan_gp.workshop(3)
        found = list(wgan_gp.validation(split, (T20_TINC1, T40_TINC2), config, 8))
        told = np.concatenate([inputs["past"][:, 0, 0, 0, -4:-1] for inputs, _ in found])
        assert len(told) == 96 // 32 * 32 and told.any(axis=0).tolist() == [True, True, False]
        frames = T20_TINC1.select(split.frames(np.arange(8)))
        first = {"past": found[0][0]["past"][:8].numpy()}
        np.testing.assert_array_equal(shown(first, config), frames[:, :3])
        np.testing.assert_array_equal(found[0][1][:8], frames[:, 3])

    def test_a_format_that_the_model_does_not_know_is_refused(self, split):
        config, plan = wgan_gp.workshop(3), training.Plan(steps=9)
        with pytest.raises(ValueError, match=r"T40_TINC8; expected.*\(1, 2, 4\)"):
            wgan_gp.batches(split, [FrameFormat(40, 8)], config, plan)
        with pytest.raises(ValueError, match="formats are none"):
            wgan_gp.validation(split, [], config)


def histories(count):
    """Four random histories of so many frames."""
    rng = np.random.default_rng(8)
    return (rng.random((4, count, GRID, GRID, GRID)) < 0.3).astype(np.float32)


class TestForecaster:
    def test_gives_what_the_model_gives(self, model):
        wrapped = forecaster(model, T20_TINC1, "mine")
        assert wrapped.name == "mine"
        history = histories(model.config.frames + 2)
        expected = model(wgan_gp.inputs(model.config, history[:, 2:], 1))
        found = wrapped(history.astype(np.uint8))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_a_batch_of_one(self, model):
        history = histories(model.config.frames)
        wrapped = forecaster(model, T20_TINC1)
        np.testing.assert_allclose(wrapped(history[1:2])[0], wrapped(history)[1], atol=1e-5)

    def test_is_told_the_step_of_the_format(self):
        model = randomised(wgan_gp.build(TINY))
        history = histories(TINY.frames)
        found = [forecaster(model, each)(history) for each in (T20_TINC1, T80_TINC4)]
        assert np.abs(found[0] - found[1]).max() > 1e-4

    def test_draws_with_a_seed_and_not_without(self):
        model = randomised(wgan_gp.build(SMALL["noise"]))
        history = histories(TINY.frames)
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
        history = histories(model.config.frames)
        wrapped = (forecaster(each, T20_TINC1) for each in (model, restored))
        np.testing.assert_array_equal(*(each(history) for each in wrapped))

    def test_weights_of_another_kind_are_refused(self, tmp_path):
        model = wgan_gp.build(TINY)
        path = save_weights(tmp_path / "w.npz", model, {"configuration": {"filters": [4]}})
        with pytest.raises(training.CheckpointError, match="not a WGAN-GP of this course"):
            wgan_gp.load(path)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"frames": 0}, ValueError, "frames is 0; expected at least 1"),
            ({"generator": "unet"}, ValueError, "choose one of cnn, bottleneck"),
            ({"critic_kernel": 4}, ValueError, "critic_kernel is 4; expected at least 1, odd"),
            ({"grid": 15}, ValueError, "grid is 15; expected a multiple of 8"),
            ({"grid": 24, "patch": 5}, ValueError, "grid is 24; expected a multiple of 20"),
            ({"penalty": -1}, ValueError, "penalty is -1"),
            ({"adversarial": 0, "reconstruction": 0}, ValueError, "nothing to learn"),
            ({"generator": "bottleneck", "noise": 1}, ValueError, "only generator='cnn'"),
            ({"steps": (1, 1)}, ValueError, "each time step once"),
        ],
    )
    def test_a_wrong_configuration_is_refused(self, options, error, message):
        with pytest.raises(error, match=message):
            Config(**{"frames": 1, **options})

    def test_the_thesis_has_models_for_one_and_three_frames(self):
        with pytest.raises(ValueError, match="frames is 2; choose one of 1, 3"):
            thesis(2)

    def test_a_history_shorter_than_what_the_model_reads(self):
        wrapped = forecaster(wgan_gp.build(TINY), T20_TINC1)
        with pytest.raises(ValueError, match="history has 1 frames.*at least 2"):
            wrapped(np.zeros((1, 1, GRID, GRID, GRID)))

    def test_frames_on_another_grid(self):
        inputs = {"past": np.zeros((1, 7, 8, 8, 13))}
        with pytest.raises(ValueError, match=r"\(1, 7, 8, 8, 13\); expected \(B, 8, 8, 8, 13\)"):
            wgan_gp.build(TINY)(inputs)

    def test_what_is_no_model_or_no_format_of_it(self):
        with pytest.raises(TypeError, match="expected a WGANGP"):
            forecaster(None, T20_TINC1)
        model = wgan_gp.build(TINY)
        with pytest.raises(ValueError, match="T40_TINC8; expected"):
            forecaster(model, FrameFormat(40, 8))
        with pytest.raises(ValueError, match="reads no noise"):
            forecaster(model, T20_TINC1, seed=1)
