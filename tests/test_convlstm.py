"""The ConvLSTM: its cell against Keras and NumPy, causality, its carried state, its files."""

import dataclasses
import json
import math

import numpy as np
import pytest
from benchmarks.rollout import WholeHistory, in_keras_layers
from random_weights import randomised
from scipy import ndimage, special

from helpers import convlstm, evaluation, records, training
from helpers.convlstm import Config, Memory, forecaster, thesis, workshop
from helpers.models.weights import FORMAT_VERSION, save_weights
from helpers.rollout import is_recurrent, next_frames, rollout
from helpers.sequences import T80_TINC4
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402
from keras import ops  # noqa: E402

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
    {"kernel": kernel, "activation": activation, "gate": gate}
    for kernel in (1, 3, 5)
    for activation, gate in (("tanh", "sigmoid"), ("relu", "keras2_hard_sigmoid"))
]


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_the_cell_computes_its_equations(rng, options):
    memory = a_memory(rng, **options)
    x = rng.random((2, 4, 3, 4, 5, 2), dtype=np.float32)
    np.testing.assert_allclose(memory(x), reference(memory, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_the_cell_agrees_with_keras(rng, options):
    memory = a_memory(rng, **options)
    theirs = keras.layers.ConvLSTM3D(
        memory.filters,
        memory.kernel_edge,
        padding="same",
        return_sequences=True,
        activation=convlstm.ACTIVATIONS[memory.activation],
        recurrent_activation=convlstm.GATES[memory.gate],
    )
    x = rng.random((2, 4, 3, 4, 5, 2), dtype=np.float32)
    theirs.build(x.shape)
    theirs.set_weights(memory.get_weights())
    np.testing.assert_allclose(memory(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_one_voxel_by_hand():
    memory = Memory(1, 1)
    memory.build((None, None, 1, 1, 1, 1))
    w, u, b = (0.5, -1.0, 2.0, 0.25), (0.1, 0.2, -0.3, 0.4), (0.0, 1.0, -0.5, 0.2)
    memory.set_weights([np.reshape(new, old.shape) for new, old in zip((w, u, b), memory.weights)])
    h = c = 0.0
    expected = []
    for x in (1.0, 0.0, 0.5):
        i, f, o = (1 / (1 + math.exp(-(w[n] * x + u[n] * h + b[n]))) for n in (0, 1, 3))
        c = f * c + i * math.tanh(w[2] * x + u[2] * h + b[2])
        h = o * math.tanh(c)
        expected.append(h)
    found = memory(np.reshape(np.float32([1.0, 0.0, 0.5]), (1, 3, 1, 1, 1, 1)))
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-6)


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
    for length in (2, 5):
        history = frames(rng, 2, length)
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
    table = evaluation.long_term(untrained, sequences, history=2, horizon=3, feedback="binary")
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


def test_a_prediction_depends_on_the_first_frame(rng, model):
    """The memory reaches back, further than the two frames that a cell may see at once."""
    history = frames(rng, 1, 6)
    other = history.copy()
    other[:, 0] = 1 - other[:, 0]
    assert np.abs(forecaster(model)(history) - forecaster(model)(other)).max() > 1e-6


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


@pytest.mark.parametrize("feedback", ["probability", "binary"])
def test_a_carried_state_gives_what_recomputing_gives(rng, model, feedback):
    wrapped = forecaster(model, name="mine")
    assert is_recurrent(wrapped) and wrapped.name == "mine"
    history = frames(rng, 3, 3)
    found = rollout(wrapped, history, 4, feedback=feedback, batch_size=2)
    expected = rollout(wrapped, history, 4, feedback=feedback, batch_size=2, recompute=True)
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
    steps.clear()
    rollout(forecaster(small), history, 5, recompute=True)
    assert len(steps) == 4 + 5 + 6 + 7 + 8


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


@pytest.mark.parametrize("name", list(SMALL))
def test_mixed_precision_gives_float32_probabilities(rng, half_precision, name):
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
    restored = convlstm.ConvLSTM.from_config(half.get_config())
    assert {layer.compute_dtype for layer in restored.layers} == {"bfloat16"}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_block_reads_what_is_normalised(rng, policy):
    norm, mix = keras.layers.RMSNormalization(dtype=policy), convlstm.Mix(8, dtype=policy)
    for layer in (norm, mix):
        layer.build((None, 3, 3, 3, 8))
        for weight in layer.weights:
            weight.assign(rng.normal(size=weight.shape))
    x = tf.constant(3 * rng.normal(size=(2, 3, 3, 3, 8)), mix.compute_dtype)
    wanted, found = [x, norm.scale, *mix.trainable_variables], []
    for added in (lambda: mix.added(norm(x)), lambda: mix.added(x, norm)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = added()
            assert result.dtype == x.dtype
            slopes = tape.gradient(ops.sum(ops.cast(result, "float32") ** 2), wanted)
        found.append([np.asarray(ops.cast(values, "float32")) for values in (result, *slopes)])
    tolerance = 1e-4 if policy == "float32" else 0.05
    for expected, values in zip(*found):
        np.testing.assert_allclose(values, expected, atol=tolerance * np.abs(expected).max())


def test_the_gradient_of_a_row_of_zeros_is_finite():
    norm, mix = keras.layers.RMSNormalization(), convlstm.Mix(4)
    for layer in (norm, mix):
        layer.build((None, 1, 1, 1, 4))
    with tf.GradientTape() as tape:
        tape.watch(x := tf.zeros((1, 1, 1, 1, 4)))
        result = mix.added(x, norm)
    for slope in tape.gradient(result, [x, norm.scale, mix.down.kernel]):
        assert np.isfinite(slope).all()


# Files


def test_weights_come_back_with_their_configuration(rng, model, tmp_path):
    path = save_weights(tmp_path / "w.npz", model, {"seed": 1})
    restored = convlstm.load(path)
    assert restored.config == model.config and restored is not model
    history = frames(rng, 2, 3)
    np.testing.assert_array_equal(forecaster(restored)(history), forecaster(model)(history))


@pytest.fixture
def shipped(small, tmp_path):
    """Weights as they are shipped."""
    return save_weights(tmp_path / "weights.npz", small, {"seed": 1})


def rewrite(path, **changes):
    beside = path.with_suffix(".json")
    record = {**json.loads(beside.read_text()), **changes}
    beside.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))


@pytest.mark.parametrize(
    "configuration",
    [{"latent": 256}, {"filters": [4], "kernels": [2]}, {"filters": [4]}, None, [1], "lstm", ...],
)
def test_weights_of_another_kind_are_refused(shipped, configuration):
    rewrite(shipped, configuration=configuration)
    with pytest.raises(training.CheckpointError, match="not a ConvLSTM of this course"):
        convlstm.load(shipped)


def test_weights_of_another_size_are_refused(small, shipped):
    rewrite(shipped, configuration={**small.config.as_dict(), "width": 8})
    with pytest.raises(training.CheckpointError, match="does not fit the model"):
        convlstm.load(shipped)


def test_weights_from_before_an_option_existed_still_load(rng, tmp_path):
    plain = randomised(convlstm.build(Config((2,), (3,), grid=GRID)))
    path = save_weights(tmp_path / "old.npz", plain, {})
    rewrite(path, configuration={"filters": [2], "kernels": [3], "grid": GRID})
    history = frames(rng, 1, 2)
    np.testing.assert_array_equal(
        forecaster(convlstm.load(path))(history), forecaster(plain)(history)
    )


def test_truncated_newer_and_missing_weights_are_refused(shipped):
    whole = shipped.read_bytes()
    shipped.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(training.CheckpointError, match="truncated or damaged"):
        convlstm.load(shipped)
    shipped.write_bytes(whole)
    convlstm.load(shipped)
    rewrite(shipped, format_version=FORMAT_VERSION + 1)
    with pytest.raises(training.CheckpointError, match="Update the course"):
        convlstm.load(shipped)
    shipped.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="weights.json is missing"):
        convlstm.load(shipped)


def test_a_model_is_made_again_from_its_configuration(rng, model, tmp_path):
    assert Config(**json.loads(json.dumps(model.config.as_dict()))) == model.config
    restored = convlstm.ConvLSTM.from_config(model.get_config())
    restored.build()
    assert restored.config == model.config and restored.name == model.name
    restored.set_weights(model.get_weights())
    history = frames(rng, 2, 2)[..., np.newaxis]
    np.testing.assert_array_equal(restored(history), model(history))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(history), model(history))


def test_the_memory_stands_on_its_own(rng):
    memory = a_memory(rng, kernel=3, activation="relu")
    restored = Memory.from_config(memory.get_config())
    x = rng.random((1, 2, 3, 3, 3, 2), dtype=np.float32)
    restored.build(x.shape)
    restored.set_weights(memory.get_weights())
    np.testing.assert_array_equal(restored(x), memory(x))


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"filters": ()}, ValueError, "one number for each ConvLSTM layer"),
        ({"filters": (2, 2)}, ValueError, "one number for each ConvLSTM layer"),
        ({"filters": 2}, TypeError, "filters is 2; expected a tuple"),
        ({"filters": (0,)}, ValueError, "filters is 0; expected at least 1"),
        ({"filters": (2.5,)}, TypeError, "filters is 2.5; expected a whole number"),
        ({"kernels": (4,)}, ValueError, "edge 4; expected an odd number"),
        ({"kernels": (-1,)}, ValueError, "kernels is -1"),
        ({"kernels": "3"}, TypeError, "kernels is '3'"),
        ({"output_kernel": 2}, ValueError, "edge 2; expected an odd number"),
        ({"output_kernel": 0}, ValueError, "output_kernel is 0"),
        ({"activation": "sine"}, ValueError, "'sine'.*choose from tanh, relu"),
        ({"gate": "hard_sigmoid"}, ValueError, "'hard_sigmoid'.*keras2_hard_sigmoid"),
        ({"patch": 3}, ValueError, "patch is 3, grid is 16"),
        ({"patch": 0}, ValueError, "patch is 0"),
        ({"grid": 0}, ValueError, "grid is 0"),
        ({"grid": "16"}, TypeError, "grid is '16'"),
        ({"blocks": 2}, ValueError, "residual blocks need a width"),
        ({"blocks": -1, "width": 8}, ValueError, "blocks is -1"),
        ({"width": -8}, ValueError, "width is -8"),
        ({"batch_normalisation": "no"}, TypeError, "batch_normalisation is 'no'"),
        ({"previous": 1}, TypeError, "previous is 1"),
        ({"residual": -1.0}, ValueError, "residual is -1.0"),
        ({"residual": math.nan}, ValueError, "residual is nan"),
        ({"residual": "4"}, TypeError, "residual is '4'"),
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
        ((2, 3, 6, 6, 6, 2), r"expected \(B, T, 6, 6, 6, 1\)"),
        ((2, 3, 6, 6, 6), r"expected \(B, T, D, H, W, C\)"),
        ((2, 0, 6, 6, 6, 1), "known and above 0"),
    ],
)
def test_frames_of_another_shape_are_refused(small, shape, message):
    with pytest.raises(ValueError, match=message):
        small(np.zeros(shape, np.float32))


@pytest.mark.parametrize("layer", ["model", "memory"])
def test_an_unknown_number_of_frames_is_refused(small, layer):
    found = tf.function({"model": small, "memory": Memory(2, 3)}[layer])
    with pytest.raises(ValueError, match="the number of frames known"):
        found.get_concrete_function(tf.TensorSpec((2, None, GRID, GRID, GRID, 1)))


def test_a_memory_names_the_functions_it_knows():
    with pytest.raises(ValueError, match="choose from tanh, relu and from sigmoid"):
        Memory(2, 3, activation="gelu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h[:, :0], "has 0 frames"),
        (lambda h: h[:0], "nothing to forecast from"),
        (lambda h: h[..., :-1], r"expected \(6, 6, 6\)"),
        (lambda h: h[..., np.newaxis], "drop it"),
        (lambda h: h[0], "np.newaxis"),
        (lambda h: h + 0.5, "expected 0…1"),
        (lambda h: -h, "expected 0…1"),
        (lambda h: np.where(h > 0, np.nan, 0), "NaN"),
        (lambda h: np.where(h > 0, np.inf, 0), "expected 0…1"),
    ],
)
def test_a_forecaster_refuses_a_bad_history(rng, small, change, message):
    with pytest.raises(ValueError, match=message):
        forecaster(small)(change(frames(rng, 2, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:1], "frame has 1 sequences, the memory 2"),
        (lambda f: f[..., :-1], r"expected \(6, 6, 6\)"),
        (lambda f: f * np.nan, "frame holds NaN"),
        (lambda f: f + 1, "frame has values"),
    ],
)
def test_a_forecaster_refuses_a_bad_frame(rng, small, change, message):
    wrapped = forecaster(small)
    _, state = wrapped.begin(frames(rng, 2, 3))
    with pytest.raises(ValueError, match=message):
        wrapped.advance(change(frames(rng, 2)), state)


def test_only_a_convlstm_is_wrapped(small):
    with pytest.raises(TypeError, match="expected a ConvLSTM"):
        forecaster(in_keras_layers(convlstm.build(SMALL["thesis"])))
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
    model.compile(keras.optimizers.Adam(0.02), training.voxel_loss())
    history = model.fit(sequences[:, :-1], sequences[:, 1:], epochs=12, batch_size=2, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] - 0.05
    for weight, old in zip(model.weights, before):
        assert not np.array_equal(weight, old), weight.path


def test_multiply_adds_of_the_thesis_by_hand():
    cells = 125 * (1 + 32) * 128 + 27 * (32 + 32) * 128 + (32 + 32) * 128
    assert convlstm.multiply_adds(convlstm.thesis()) == 4096 * (cells + 125 * 32)
