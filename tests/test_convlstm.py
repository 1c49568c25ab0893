"""The ConvLSTM: its cell against Keras and NumPy, causality, its carried state, its files."""

import dataclasses

import numpy as np
import pytest
from benchmarks.rollout import WholeHistory, in_keras_layers
from random_weights import randomised
from scipy import ndimage, special

from helpers import convlstm, evaluation, records, training
from helpers.convlstm import Config, Memory, forecaster, thesis, workshop
from helpers.models.weights import read_card, save_weights, write_card
from helpers.rollout import next_frames, rollout
from helpers.sequences import T80_TINC4
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402

GRID = 6
SMALL = {
    "thesis": dataclasses.replace(thesis(), grid=GRID),
    "workshop": dataclasses.replace(workshop(), width=16, blocks=2, grid=GRID),
    "two layers": Config(
        (3, 2), (3, 1), batch_normalisation=True, patch=3, width=5, residual=1.0, grid=GRID
    ),
}


@pytest.fixture(scope="module", params=list(SMALL))
def model(request):
    """A small model of each configuration, with weights at random."""
    return randomised(convlstm.build(SMALL[request.param]))


@pytest.fixture(scope="module")
def small():
    """A small model of the workshop's configuration."""
    return randomised(convlstm.build(SMALL["workshop"]))


def frames(rng, *shape, grid=GRID):
    """Random frames of 0 and 1, float32 (*shape, D, H, W)."""
    return (rng.random((*shape, grid, grid, grid)) < 0.3).astype(np.float32)


# The cell


def reference(memory, frames):
    """Evaluate the equations one by one in float64: (B, T, D, H, W, C) to (B, T, D, H, W, F)."""
    split = (np.split(weights.numpy().astype(float), 4, -1) for weights in memory.weights)
    kernels, recurrent, biases = split
    sigma, phi = (
        {
            "sigmoid": special.expit,
            "keras2_hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        }[memory.gate],
        {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[memory.activation],
    )

    def convolve(volume, kernel):
        return sum(
            np.stack(
                [
                    ndimage.correlate(volume[..., c], kernel[..., c, k], mode="constant")
                    for k in range(kernel.shape[-1])
                ],
                axis=-1,
            )
            for c in range(volume.shape[-1])
        )

    found = np.zeros((*frames.shape[:-1], memory.filters))
    for sequence, out in zip(frames.astype(float), found):
        h = c = np.zeros((*frames.shape[2:-1], memory.filters))
        for time, x in enumerate(sequence):
            i, f, g, o = (
                convolve(x, kernels[n]) + convolve(h, recurrent[n]) + biases[n] for n in range(4)
            )
            c = sigma(f) * c + sigma(i) * phi(g)
            h = out[time] = sigma(o) * phi(c)
    return found


def a_memory(rng, channels=2, **options):
    memory = Memory(3, **options)
    memory.build((None, None, None, None, None, channels))
    memory.set_weights([rng.normal(0, 0.4, w.shape) for w in memory.weights])
    return memory


CELLS = [
    {"kernel": 3, "activation": "tanh", "gate": "sigmoid"},
    {"kernel": 1, "activation": "relu", "gate": "keras2_hard_sigmoid"},
    {"kernel": 5, "activation": "relu", "gate": "keras2_hard_sigmoid"},
]


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_the_cell_computes_its_equations(rng, options):
    memory = a_memory(rng, **options)
    x = rng.random((2, 4, 3, 4, 5, 2), dtype=np.float32)
    np.testing.assert_allclose(memory(x), reference(memory, x), rtol=1e-4, atol=1e-5)


def test_a_new_memory_forgets_nothing_yet():
    memory, theirs = Memory(3, 3), keras.layers.ConvLSTM3D(3, 3, padding="same")
    for layer in (memory, theirs):
        layer.build((None, 4, 6, 6, 6, 2))
    assert [w.shape for w in memory.weights] == [w.shape for w in theirs.weights]
    assert memory.bias.numpy().tolist() == [0] * 3 + [1] * 3 + [0] * 6
    np.testing.assert_array_equal(memory.bias, theirs.cell.bias)


# The networks


def test_the_thesis_network_has_the_thesis_s_parameters():
    model = convlstm.build(thesis())
    assert model.count_params() == 762_017
    assert [layer.count_params() for layer in model.layers] == [
        *(528_128, 221_312, 8_320),  # the memories
        *(128, 128),  # the normalisations
        4_001,
    ]
    assert model(np.zeros((1, 1, 16, 16, 16, 1))).shape == (1, 1, 16, 16, 16, 1)


def test_the_thesis_network_agrees_with_keras_s_layers(rng):
    ours = randomised(convlstm.build(SMALL["thesis"]))
    theirs = WholeHistory(in_keras_layers(ours))
    history = frames(rng, 2, 3)
    expected = theirs(history)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(forecaster(ours)(history), expected, rtol=1e-5, atol=1e-6)


def test_the_workshop_network_starts_as_persistence(sample_set):
    paths = records.record_paths(sample_set / "02_4D_test_datasets", limit=3)
    sequences = np.stack([T80_TINC4.select(records.read_sample(p).frames) for p in paths])
    sequences = sequences[:, 4:12]
    untrained = forecaster(convlstm.build(workshop()))
    guess = next_frames(untrained, sequences)
    np.testing.assert_array_equal(guess >= 0.5, sequences[:, :-1])
    np.testing.assert_allclose(np.unique(guess), special.expit([-4, 4]), rtol=1e-6)
    pooled = evaluation.next_frame(untrained, sequences)
    assert (pooled["persistence_jaccard"] > 0.1).all()
    np.testing.assert_array_equal(pooled["prediction_jaccard"], pooled["persistence_jaccard"])
    table = evaluation.long_term(untrained, sequences, history=2, horizon=3, feedback="half")
    np.testing.assert_array_equal(table["prediction_jaccard"], table["persistence_jaccard"])


def test_no_prediction_depends_on_a_later_frame(rng, model):
    """A changed frame t + 1 moves nothing at or before t, and does move t + 1 and after."""
    before = frames(rng, 2, 5)[..., np.newaxis]
    expected = model(before).numpy()
    for time in range(5):
        changed = before.copy()
        changed[0, time] = 1 - changed[0, time]
        found = model(changed).numpy()
        np.testing.assert_array_equal(found[:, :time], expected[:, :time])
        np.testing.assert_array_equal(found[1], expected[1])
        moved = np.abs(found - expected)[0].max(axis=(1, 2, 3, 4))
        assert (moved[time:] > 1e-6).all()


def test_step_by_step_equals_all_at_once(rng, model):
    history = frames(rng, 2, 4)[..., np.newaxis]
    expected = model(history).numpy()
    assert expected.dtype == np.float32 and expected.std() > 0.01
    states = model.start(history[:, 0])
    for time in range(4):
        found, states = model.step(history[:, time], states)
        np.testing.assert_allclose(found, expected[:, time], rtol=1e-5, atol=1e-6)
    for time in range(4):
        found = forecaster(model)(history[:, : time + 1, ..., 0])
        np.testing.assert_allclose(found, expected[:, time, ..., 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("feedback", ["probability", "half", "expected"])
def test_a_carried_state_gives_what_recomputing_gives(rng, model, feedback):
    wrapped = forecaster(model, name="mine")
    assert wrapped.name == "mine"
    history = frames(rng, 3, 3)
    found = rollout(wrapped, history, 4, feedback=feedback, batch_size=2)
    forgetful = lambda history: wrapped(history)  # noqa: E731
    expected = rollout(forgetful, history, 4, feedback=feedback, batch_size=2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 3]).max() > 1e-3
    every = [wrapped(history[:, :time]) for time in range(1, history.shape[1])]
    np.testing.assert_allclose(next_frames(wrapped, history), np.stack(every, 1), atol=1e-6)


def test_a_rollout_costs_a_step_for_each_frame(rng, small, monkeypatch):
    steps = []
    for name in ("compiled_step", "compiled_remember"):

        def counted(*arguments, original=getattr(small, name)):
            steps.append(1)
            return original(*arguments)

        monkeypatch.setattr(small, name, counted)
    history = frames(rng, 2, 4)
    rollout(forecaster(small), history, 5)
    assert len(steps) == 4 + 5 - 1


def test_a_batch_of_one_and_a_history_of_one(rng, model):
    history = frames(rng, 3, 2)
    together = forecaster(model)(history)
    assert together.shape == (3, GRID, GRID, GRID) and together.dtype == np.float32
    for number in range(3):
        alone = forecaster(model)(history[number : number + 1])
        np.testing.assert_allclose(alone[0], together[number], rtol=1e-5, atol=1e-6)
    assert forecaster(model)(history[:1, :1]).shape == (1, GRID, GRID, GRID)


def test_every_weight_gets_a_gradient(rng, model):
    sequences = frames(rng, 2, 4)[..., np.newaxis]
    with tf.GradientTape() as tape:
        guess = model(sequences[:, :-1], training=True)
        loss = training.voxel_loss()(sequences[:, 1:], guess)
    weights = model.trainable_variables
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path
        # A bias before a normalisation of zeros only has no effect; no weight is like that here.
        assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_hold_the_voxels_of_their_place(rng, patch):
    volumes = rng.random((2, GRID, GRID, GRID, 3), dtype=np.float32)
    patches = np.asarray(convlstm.to_patches(volumes, patch))
    edge = GRID // patch
    assert patches.shape == (2, edge, edge, edge, 3 * patch**3)
    block = volumes[1, patch : 2 * patch, :patch, -patch:]
    np.testing.assert_array_equal(patches[1, 1, 0, -1], block.ravel())
    np.testing.assert_array_equal(convlstm.to_voxels(patches, patch), volumes)


def test_a_pointwise_layer_is_a_dense_one(rng):
    """To rows of voxels, whose number the graph need not know, and to a single row."""
    dense = keras.layers.Dense(4, activation="silu")
    pointwise = convlstm.Pointwise(4, activation="silu")
    for layer in (dense, pointwise):
        layer.build((None, 3))
    pointwise.set_weights([kernel := rng.random((3, 4)), bias := rng.random(4)])
    dense.set_weights([kernel, bias])
    compiled = tf.function(pointwise, [tf.TensorSpec((None, 2, None, 3))])
    for shape in ((5, 2, 6, 3), (1, 2, 1, 3)):
        x = rng.random(shape, dtype=np.float32)
        assert compiled(x).shape == (*shape[:-1], 4)
        np.testing.assert_allclose(compiled(x), dense(x), atol=1e-6)
        np.testing.assert_allclose(pointwise(x[0, 0]), dense(x[0, 0]), atol=1e-6)


@pytest.fixture
def half_precision():
    """The policy of a mixed-precision training."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_mixed_precision_gives_float32_probabilities(rng, half_precision):
    name = "two layers"
    half = convlstm.build(SMALL[name])
    assert {layer.compute_dtype for layer in half.layers} == {"bfloat16"}
    keras.config.set_dtype_policy("float32")
    full = randomised(convlstm.build(SMALL[name]))
    half.set_weights(full.get_weights())
    assert {weight.dtype for weight in half.weights} == {"float32"}
    # The policy at the time of a call plays no role, nor do the frames' own types.
    history = frames(rng, 2, 3)
    found = half(history[..., np.newaxis].astype(np.uint8)).numpy()[:, -1, ..., 0]
    assert found.dtype == np.float32
    expected = forecaster(full)(history)
    for each in (found, forecaster(half)(history)):
        assert each.dtype == np.float32
        np.testing.assert_allclose(each, expected, atol=0.02)
    assert np.abs(found - expected).max() > 0


# Files


def test_weights_come_back_with_their_configuration(rng, small, tmp_path):
    path = save_weights(tmp_path / "w.npz", small, {"seed": 1})
    restored = convlstm.load(path)
    assert restored.config == small.config and restored is not small
    history = frames(rng, 2, 3)
    np.testing.assert_array_equal(forecaster(restored)(history), forecaster(small)(history))


@pytest.mark.parametrize("configuration", [{"latent": 256}, {"filters": [4], "kernels": [2]}, None])
def test_weights_of_another_kind_are_refused(small, tmp_path, configuration):
    path = save_weights(tmp_path / "w.npz", small, {})
    write_card(path, read_card(path) | {"configuration": configuration})
    with pytest.raises(training.CheckpointError, match="not a ConvLSTM of this course"):
        convlstm.load(path)


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"filters": (2, 2)}, ValueError, "one number for each ConvLSTM layer"),
        ({"filters": 2}, TypeError, "filters is 2; expected a tuple"),
        ({"kernels": (4,)}, ValueError, "kernels is 4; expected at least 1, odd"),
        ({"activation": "sine"}, ValueError, "'sine'; choose one of tanh, relu"),
        ({"patch": 3}, ValueError, "patch is 3, grid is 16"),
        ({"blocks": 2}, ValueError, "residual blocks need a width"),
        ({"batch_normalisation": "no"}, ValueError, "batch_normalisation is 'no'"),
        ({"residual": -1.0}, ValueError, "residual is -1.0"),
    ],
)
def test_a_wrong_configuration_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Config(**{"filters": (2,), "kernels": (3,), **options})


def test_a_configuration_s_lists_and_numpy_integers_are_taken():
    config = Config(filters=[np.int64(2)], kernels=[3], residual=4)
    assert config == Config(filters=(2,), kernels=(3,), residual=4.0)
    assert type(config.filters[0]) is int and hash(config)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 6, 6, 5, 1), r"shape \(2, 3, 6, 6, 5, 1\); expected \(B, T, 6, 6, 6, 1\)"),
        ((2, 0, 6, 6, 6, 1), "known and above 0"),
    ],
)
def test_frames_of_another_shape_are_refused(small, shape, message):
    with pytest.raises(ValueError, match=message):
        small(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:1], "frame has 1 sequences, the memory 2"),
        (lambda f: f[..., :-1], r"expected \(6, 6, 6\)"),
        (lambda f: f + 1, "frame has values"),
    ],
)
def test_a_forecaster_refuses_a_bad_frame(rng, small, change, message):
    wrapped = forecaster(small)
    _, state = wrapped.begin(frames(rng, 2, 3))
    with pytest.raises(ValueError, match=message):
        wrapped.advance(change(frames(rng, 2)), state)


def test_only_a_convlstm_is_wrapped():
    with pytest.raises(TypeError, match="expected a ConvLSTM"):
        forecaster("weights.npz")


def test_one_graph_serves_every_batch_length_and_forecaster(rng):
    """TensorFlow warns of retracing otherwise, and the last digits would depend on what was run."""
    model = convlstm.build(SMALL["workshop"])
    for number in range(4):
        history = frames(rng, 1 + number % 3, 1 + number)
        forecaster(model)(history)
        rollout(forecaster(model), history, 2, batch_size=2)
        next_frames(forecaster(model), frames(rng, 5, 4), batch_size=2)
    assert model.compiled_step.experimental_get_tracing_count() == 1
    assert model.compiled_remember.experimental_get_tracing_count() == 1


def test_training_moves_every_weight_and_running_statistic(rng):
    keras.utils.set_random_seed(1)
    model = convlstm.build(SMALL["two layers"])
    before = [weight.numpy() for weight in model.weights]
    sequences = frames(rng, 2, 4)[..., np.newaxis]
    model.compile(keras.optimizers.Adam(0.05), training.voxel_loss(), run_eagerly=True)
    history = model.fit(sequences[:, :-1], sequences[:, 1:], epochs=4, batch_size=2, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] - 0.05
    for weight, old in zip(model.weights, before):
        assert not np.array_equal(weight, old), weight.path


def test_multiply_adds_of_the_thesis_by_hand():
    cells = 125 * (1 + 32) * 128 + 27 * (32 + 32) * 128 + (32 + 32) * 128
    assert convlstm.multiply_adds(convlstm.thesis()) == 4096 * (cells + 125 * 32)
