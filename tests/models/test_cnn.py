"""The network that reads the whole history: what it sees, what it must not, examples, files."""

import dataclasses

import keras
import numpy as np
import pytest
from random_weights import randomised

from helpers import convlstm, records, sequences, training, workshop
from helpers.models import cnn
from helpers.models.cnn import Config
from helpers.models.shared import Examples
from helpers.models.weights import save_weights
from helpers.rollout import next_frames, rollout
from helpers.sequences import T20_TINC1, T40_TINC2, T80_TINC4, THESIS_FORMATS, FrameFormat

GRID = 8
SMALL = Config(history=6, ahead=3, width=8, blocks=2, grid=GRID)
SAMPLE = workshop.REPOSITORY / "data" / "sample"


@pytest.fixture(scope="module")
def model():
    return randomised(cnn.build(SMALL))


@pytest.fixture
def frames(rng):
    """Nine random frames of two sequences, float32 (2, 9, 8, 8, 8)."""
    return (rng.random((2, 9, GRID, GRID, GRID)) < 0.3).astype(np.float32)


# What the network sees


def read(values, observed, **options):
    """Return what is read of one voxel, as a vector."""
    frames = np.reshape(np.array(values, np.float32), (1, len(values), 1, 1, 1))
    config = Config(history=len(values), patch=1, grid=1, **options)
    return cnn.inputs(config, frames, np.array([observed]), np.array([2]))[0, 0, 0, 0]


def test_inputs_by_hand():
    """One voxel with history . . 0 1 1 0 0, two frames unknown, whatever they hold."""
    # The last flip is 2 frames old, the one before it 4; 2 of 6 pairs of frames flipped.
    flips = [2 / 6, 1, 2 / 7, 1 / 2, 1, 4 / 7, 1 / 4]
    expected = [0, 0, -1, 1, 1, -1, -1, *flips, 0, 1, 0, 5 / 7]
    for unknown in (0, 1):
        found = read([unknown, 0, 0, 1, 1, 0, 0], 5)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert cnn.channels(Config(history=7)) == len(expected)


@pytest.mark.parametrize("count", [3, 20])
def test_inputs_against_a_loop(count, rng):
    frames = rng.integers(2, size=(2, count, 3, 3, 3)).astype(np.uint8)
    frames[0] = frames[0, :1]  # nothing flips
    config = Config(history=count, patch=1, grid=3)
    found = cnn.inputs(config, frames, np.full(2, count - 1), np.full(2, 1))
    for index in np.ndindex(2, 3, 3, 3):
        values = frames[(index[0], slice(None), *index[1:])].astype(int)
        pairs = range(count - 1, 1, -1)
        ages = [count - place for place in pairs if values[place] != values[place - 1]]
        expected = [0, *(2 * values[1:] - 1), len(ages) / (count - 1)]
        for age in ([*ages, None, None])[:2]:
            expected += [0, 0, 0] if age is None else [1, age / count, 1 / age]
        np.testing.assert_allclose(found[index], [*expected, 1, 0, 0, 1 - 1 / count], atol=1e-6)


def test_inputs_without_flips_and_of_one_frame():
    np.testing.assert_array_equal(read([1] * 4, 4), [1] * 4 + [0] * 7 + [0, 1, 0, 1])
    np.testing.assert_array_equal(read([1], 1), [1] + [0] * 7 + [0, 1, 0, 1])
    np.testing.assert_array_equal(read([1, 0], 2, flip_times=False), [1, -1, 0, 1, 0, 1])


def test_starts_as_persistence(frames):
    model = cnn.forecaster(cnn.build(SMALL), T20_TINC1)
    several = model.several(frames)
    assert several.shape == (2, 3, GRID, GRID, GRID)
    np.testing.assert_array_equal(several >= 0.5, np.repeat(frames[:, -1:], 3, axis=1) == 1)
    # The farther ahead, the less sure.
    sure = np.abs(several - 0.5).mean(axis=(0, 2, 3, 4))
    assert sure[0] > sure[1] > sure[2]


def test_gradients_are_finite_where_nothing_is():
    """Empty frames, and patches of zeros, which a norm scales: no slope is NaN."""
    tf = workshop.tensorflow()
    model = cnn.build(SMALL)
    with tf.GradientTape() as tape:
        found = model({"past": tf.zeros((1, GRID, GRID, GRID, cnn.channels(SMALL)))})
        loss = sum(keras.ops.sum(part) for part in found.values())
    for slope in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("length", [1, 5, 6, 9])
def test_histories_of_any_length(model, frames, length):
    """Shorter than the network reads, or longer: then the oldest frames do not matter."""
    ours = cnn.forecaster(model, T40_TINC2)
    found = ours(frames[:, -length:])
    assert found.shape == (2, GRID, GRID, GRID) and np.isfinite(found).all()
    if length > SMALL.history:
        np.testing.assert_array_equal(found, ours(frames[:, -SMALL.history :]))
    elif length < SMALL.history:
        assert not np.array_equal(found, ours(frames[:, -length - 1 :]))


def test_shipped_network_reads_19_frames():
    assert cnn.shipped().history == 19
    assert cnn.build(cnn.shipped()).count_params() * 4 < 5e6


def test_causality(model, frames):
    ours = cnn.forecaster(model, T20_TINC1)
    other = frames.copy()
    other[:, 5] = 1 - other[:, 5]
    before, after = next_frames(ours, frames), next_frames(ours, other)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert all((before[:, t] != after[:, t]).any() for t in range(5, 8))


def test_it_is_told_the_time_step(model, frames):
    found = [cnn.forecaster(model, each)(frames) for each in THESIS_FORMATS]
    assert not np.array_equal(found[0], found[1]) and not np.array_equal(found[1], found[2])


# Several frames at once


def test_rollouts_take_blocks(model, frames):
    ours = cnn.forecaster(model, T20_TINC1)
    found = rollout(ours, frames[:, :4], 5)
    np.testing.assert_array_equal(found[:, :3], ours.several(frames[:, :4]))
    fed = np.concatenate([frames[:, :4], found[:, :3]], axis=1)
    np.testing.assert_array_equal(found[:, 3:], ours.several(fed)[:, :2])


# Training examples


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield records.packed(SAMPLE / workshop.SPLITS["validation"], progress=False)


def test_examples_are_windows_of_their_format(split):
    config = dataclasses.replace(SMALL, grid=16)
    drawn = Examples(split, THESIS_FORMATS, config, 64, augment=False, format_weights={1: 3, 2: 2})
    frames, observed, step, weight = drawn.batch(5)
    assert frames.shape == (64, 9, 16, 16, 16) and set(step) == {1, 2, 4}
    assert set(observed) == set(range(1, 7))
    np.testing.assert_array_equal(weight, 3 - np.log2(step))
    everything = split.frames()
    for example in range(10):
        # The observed frames and those ahead must be somewhere in one of the samples.
        real = frames[example, config.history - observed[example] :]
        length = (len(real) - 1) * step[example] + 1
        places = [
            (sample, start)
            for sample in range(len(split))
            for start in range(128 - length + 1)
            if np.array_equal(everything[sample, start : start + length : step[example]], real)
        ]
        assert places, example
        assert any(drawn.border <= start <= 128 - drawn.border - length for _, start in places)


class Numbered:
    """A split whose frames, random ones, tell their time."""

    shape = (128, 4, 4, 4)
    films = np.random.default_rng(4).integers(0, 2, shape, dtype=np.uint8)

    def __len__(self):
        return 3

    def frames(self, samples, times):
        return self.films[times]


def test_an_example_is_turned_as_a_whole_and_may_run_backwards():
    options = (Numbered(), THESIS_FORMATS, SMALL, 48)
    plain, augmented = (Examples(*options, augment=each).batch(1)[0] for each in (False, True))
    times = {frame.tobytes(): time for time, frame in enumerate(Numbered.films)}
    used = []
    for window, found in zip(plain, augmented):
        backwards = Numbered.films[[127 - times[frame.tobytes()] for frame in window]]
        used += [
            (way, index)
            for way, frames in enumerate((window, backwards))
            for index in range(48)
            if np.array_equal(sequences.apply_symmetry(frames, index), found)
        ]
    assert len(used) == 48  # one for each: random frames have no symmetry of their own
    assert 10 < sum(way for way, _ in used) < 38 and len({index for _, index in used}) > 20


@pytest.mark.parametrize("fives", [0.0, 0.5])
def test_histories_are_as_long_as_when_it_is_judged(split, fives):
    """All lengths that the format has, cut to what the network reads; and some of five frames."""
    config = dataclasses.replace(SMALL, history=8, grid=16)
    drawn = Examples(split, [T20_TINC1], config, 400, fives=fives)
    counts = np.mean([np.bincount(drawn.batch(k)[1], minlength=9) for k in range(20)], 0) / 400
    expected = np.full(9, (1 - fives) / 19)
    expected[0], expected[8] = 0, (1 - fives) * 12 / 19
    expected[5] += fives
    np.testing.assert_allclose(counts, expected, atol=0.02)


def test_batches_repeat_and_differ(split):
    config = dataclasses.replace(SMALL, grid=16)
    plan = training.Plan(steps=9, batch_size=4)
    batches = cnn.batches(split, [T80_TINC4], config, plan)
    early, late = ([x["past"] for (x, _, _), _ in zip(batches(step), range(3))] for step in (0, 2))
    np.testing.assert_array_equal(late[0], early[2])
    assert not np.array_equal(early[0], early[1])
    inputs, targets, weights = next(batches(0))
    assert inputs["past"].shape == (4, 16, 16, 16, cnn.channels(config))
    assert targets["later"].shape == (4, 2, 16, 16, 16) and weights["next"].shape == (4,)
    assert set(np.unique(targets["next"])) == {0, 1}


def test_validation_has_every_length(split):
    config = dataclasses.replace(SMALL, history=19, grid=16)
    data = cnn.validation(split, [T20_TINC1, T80_TINC4], config, 19)
    assert len(data) == 2  # batches
    past, following, later = (
        np.concatenate([part[place][name] for part in data])
        for place, name in ((0, "past"), (1, "next"), (1, "later"))
    )
    shares = past[:, 0, 0, 0, -1]
    np.testing.assert_allclose(np.sort(shares), np.repeat(np.arange(1, 20), 2) / 19, atol=1e-6)
    number = 19 + 2  # T80, third sample, 3 frames observed
    chosen = T80_TINC4.select(split.frames([2]))[0]
    np.testing.assert_array_equal(np.moveaxis(past[number, ..., 16:19], -1, 0) > 0, chosen[:3])
    np.testing.assert_array_equal(following[number, 0], chosen[3])
    np.testing.assert_array_equal(later[number], chosen[4:6])


# Files, training, errors


def test_saved_and_loaded(model, frames, tmp_path):
    path = save_weights(tmp_path / "w.npz", model, {"model": "cnn"})
    again = cnn.load(path)
    assert again.config == SMALL
    ours, theirs = (cnn.forecaster(m, T20_TINC1)(frames) for m in (model, again))
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(training.CheckpointError, match="not a ConvLSTM"):
        convlstm.load(path)


def test_weights_of_a_convlstm_are_refused():
    path = workshop.REPOSITORY / "data" / "weights" / "convlstm_T20_TINC1.npz"
    with pytest.raises(training.CheckpointError, match="not a CNN"):
        cnn.load(path)


def test_a_compiled_model_forecasts(frames):
    model = cnn.build(SMALL)
    model.compile("sgd", {part: "mse" for part in ("next", "later")})
    found = cnn.forecaster(model, T20_TINC1)(frames)
    np.testing.assert_array_equal(found >= 0.5, frames[:, -1] == 1)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"history": 21}, ValueError, "history is 21; expected 1 to 20"),
        ({"steps": ()}, TypeError, "steps"),
        ({"steps": (1, 1)}, ValueError, "each time step once"),
        ({"patch": 3}, ValueError, "fill the grid"),
        ({"residual": -1}, ValueError, "at least 0"),
    ],
)
def test_configurations_that_cannot_be(change, error, says):
    with pytest.raises(error, match=says):
        dataclasses.replace(Config(), **change)


def test_wrong_models_formats_and_histories(model, frames):
    with pytest.raises(ValueError, match="knows 1, 2, 4"):
        cnn.forecaster(model, FrameFormat(24, 3))
    with pytest.raises(TypeError, match="expected a CNN"):
        cnn.forecaster("model", T20_TINC1)
    ours = cnn.forecaster(model, T20_TINC1)
    for bad in (frames[:, :0], frames[..., :4], frames + 0.5, np.full_like(frames, np.nan)):
        with pytest.raises(ValueError):
            ours(bad)


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(SMALL, blocks=0, kernel=5, noise=2)])
def test_multiplications_are_those_of_the_kernels(config):
    """Each weight of a kernel multiplies once at each place: voxels, or patches."""
    count, places = 0, {name: GRID**3 for name in ("read", "keep", "head", "first", "second")}
    for layer in cnn.build(config).layers:
        if isinstance(
            layer, (keras.layers.Dense, keras.layers.Conv3D, keras.layers.Conv3DTranspose)
        ):
            count += layer.kernel.shape.num_elements() * places.get(layer.name, (GRID // 2) ** 3)
    assert cnn.multiply_adds(config) == count
