"""The Jaccard distance and what is built on it."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from helpers import metrics, workshop

SHAPES = hnp.array_shapes(min_dims=4, max_dims=5, min_side=2, max_side=4)


def pairs(elements=st.booleans(), dtype=bool):
    """Two arrays (…, T, D, H, W) of the same shape."""
    return SHAPES.flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(dtype, shape, elements=elements, fill=st.nothing()) for _ in range(2)]
        )
    )


def by_hand(truth, prediction) -> float:
    """The definition, with Python's sets."""
    a = {tuple(i) for i in np.argwhere(truth)}
    b = {tuple(i) for i in np.argwhere(prediction)}
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


@given(pairs())
def test_agrees_with_the_definition_on_sets(pair):
    truth, prediction = pair
    found = metrics.jaccard_distance(truth, prediction)
    assert found.shape == truth.shape[:-3]
    for index in np.ndindex(found.shape):
        assert found[index] == pytest.approx(by_hand(truth[index], prediction[index]), abs=1e-15)


@given(pairs())
def test_symmetric_in_range_and_zero_only_for_equal_frames(pair):
    truth, prediction = pair
    found = metrics.jaccard_distance(truth, prediction)
    np.testing.assert_array_equal(found, metrics.jaccard_distance(prediction, truth))
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found == 0, (truth == prediction).all(axis=(-3, -2, -1)))


def test_empty_against_empty_is_zero_and_against_anything_else_one():
    empty, one = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    one[0, 1, 0] = 1
    assert metrics.jaccard_distance(empty, empty) == 0
    assert metrics.jaccard_distance(empty, one) == metrics.jaccard_distance(one, empty) == 1
    assert metrics.pooled(empty[None], empty[None]) == 0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float64])
def test_every_dtype_gives_the_same(dtype, rng):
    a, b = rng.random((2, 3, 4, 5, 6, 7)) < 0.3
    expected = metrics.jaccard_distance(a, b)
    np.testing.assert_array_equal(metrics.jaccard_distance(a.astype(dtype), b), expected)
    np.testing.assert_array_equal(metrics.jaccard_distance(a, b.astype(dtype)), expected)


def test_from_a_half_on_a_voxel_is_filled():
    truth = np.ones((1, 1, 4))
    guess = np.array([0.4, 0.5, np.nextafter(0.5, 0), 0.6]).reshape(1, 1, 4)
    assert metrics.jaccard_distance(truth, guess) == 0.5


def test_axes_may_be_any_and_arrays_may_be_strided(rng):
    a, b = rng.random((2, 4, 6, 5, 8, 3)) < 0.4
    expected = metrics.jaccard_distance(a, b)
    for axes in [(2, 3, 4), (-1, -3, -2), [4, 2, 3]]:
        np.testing.assert_array_equal(metrics.jaccard_distance(a, b, axes=axes), expected)
    moved = metrics.jaccard_distance(
        a.transpose(2, 0, 3, 1, 4), b.transpose(2, 0, 3, 1, 4), axes=(0, 2, 4)
    )
    np.testing.assert_array_equal(moved, expected)
    channels = metrics.jaccard_distance(a[..., None], b[..., None], axes=(-4, -3, -2, -1))
    np.testing.assert_array_equal(channels, expected)
    whole = metrics.jaccard_distance(a, b, axes=range(5))
    assert whole.shape == () and whole == pytest.approx(by_hand(a, b))
    np.testing.assert_array_equal(
        metrics.jaccard_distance(a[::2, ::-1], b[::2, ::-1]), expected[::2, ::-1]
    )


def test_no_samples_give_no_distances():
    nothing = np.zeros((0, 5, 4, 4, 4))
    assert metrics.jaccard_distance(nothing, nothing).shape == (0, 5)
    assert metrics.pooled(nothing, nothing).shape == (0,)
    assert metrics.births(nothing, nothing).shape == (0,)


GOOD = np.zeros((2, 3, 4, 4, 4))


@pytest.mark.parametrize(
    ("truth", "prediction", "options", "error", "words"),
    [
        (GOOD, GOOD[:, :2], {}, ValueError, "shapes must agree"),
        (np.full(GOOD.shape, np.nan), GOOD, {}, ValueError, "truth holds NaN"),
        (GOOD, GOOD - 0.1, {}, ValueError, "from -0.1"),
        (GOOD, GOOD.astype(object), {}, TypeError, "object"),
        (GOOD, GOOD, {"axes": (-6, -1)}, ValueError, "axis -6"),
        (GOOD, GOOD, {"axes": (4, -1)}, ValueError, "repeated axis"),
        (GOOD[..., None], GOOD[..., None], {}, ValueError, "looks like a channel"),
        (GOOD[:, :, :0], GOOD[:, :, :0], {}, ValueError, "no voxels"),
        (np.zeros(3), np.zeros(3), {}, ValueError, "axis -3"),
    ],
)
def test_bad_input_is_refused(truth, prediction, options, error, words):
    with pytest.raises(error, match=words):
        metrics.jaccard_distance(truth, prediction, **options)


@given(pairs())
def test_protocols_agree_with_their_definition(pair):
    truth, prediction = pair
    single = metrics.jaccard_distance(truth, prediction)
    np.testing.assert_allclose(metrics.per_frame(truth, prediction), single.mean(-1), rtol=1e-15)
    found = metrics.pooled(truth, prediction)
    for index in np.ndindex(found.shape):
        assert found[index] == pytest.approx(by_hand(truth[index], prediction[index]), abs=1e-15)
    union = (truth | prediction).sum(axis=(-3, -2, -1))
    weights = union / np.maximum(union.sum(-1, keepdims=True), 1)
    np.testing.assert_allclose(found, (weights * single).sum(-1), atol=1e-14)


@pytest.mark.parametrize("shape", [(0, 4, 4, 4), (4, 4, 4), (3, 2, 4, 4, 4, 1), ()])
def test_protocols_want_a_time_axis_and_no_channel(shape):
    with pytest.raises(ValueError, match="at least one frame"):
        metrics.pooled(np.zeros(shape), np.zeros(shape))
    with pytest.raises(ValueError, match="at least one frame"):
        metrics.persistence(np.zeros(shape))


# Coarse values, so that many voxels of a frame are equally likely.
EIGHTHS = st.integers(0, 8).map(lambda n: n / 8)
PROBABILITIES = hnp.arrays(np.float32, (3, 2, 3, 2), elements=EIGHTHS)


@given(PROBABILITIES, st.sampled_from([0, metrics.EMPTY, 0.5]))
def test_the_expected_cut_is_the_best_of_all_prefixes(frames, empty):
    for frame, found in zip(frames, metrics.cut(frames, "expected", empty=empty)):
        falling = sorted(frame.ravel().tolist(), reverse=True)
        if falling[0] < max(empty, 0.001):
            assert not found.any()
            continue

        def expected_ratio(count):
            filled = sum(falling[:count])
            return filled / (count + sum(falling[count:]))

        best = max(map(expected_ratio, range(1, len(falling) + 1)))
        assert expected_ratio(found.sum()) == pytest.approx(best, abs=1e-12)
        assert frame[found].min() > frame[~found].max(initial=0)  # falling; equals stay together


@given(PROBABILITIES)
def test_what_is_likely_filled_is_called_filled_by_both_cuts(frames):
    half, expected = (metrics.cut(frames, rule) for rule in metrics.CUTS)
    np.testing.assert_array_equal(half, frames >= 0.5)
    assert not (half & ~expected).any()
    np.testing.assert_array_equal(metrics.cut(half, "expected"), half)
    for dtype in (np.uint8, np.float64):  # frames of 0 and 1, some of them empty, stay
        np.testing.assert_array_equal(metrics.cut(half.astype(dtype), "expected", empty=1), half)
    fuller, emptier = (metrics.cut(frames, "expected", empty=empty) for empty in (0, 0.5))
    assert not (expected & ~fuller).any() and not (emptier & ~expected).any()


def test_each_frame_is_cut_by_itself(rng):
    frames = rng.random((2, 3, 4, 5, 6), dtype=np.float32) ** 3
    found = metrics.cut(frames, "expected")
    assert found.dtype == bool and found.shape == frames.shape
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[index], metrics.cut(frames[index], "expected"))
    turned = metrics.cut(frames[..., ::-1].swapaxes(-3, -1), "expected")
    np.testing.assert_array_equal(turned, found[..., ::-1].swapaxes(-3, -1))
    assert metrics.cut(frames[:0], "expected").shape == (0, 3, 4, 5, 6)


def test_the_expected_cut_pays_where_forecasts_are_right(rng):
    """Truths drawn from the probabilities themselves: no cut of all frames at once does better."""
    probability = rng.random((400, 4, 4, 4)) ** 4
    truth = rng.random(probability.shape) < probability
    half, expected = (
        metrics.jaccard_distance(truth, metrics.cut(probability, rule)).mean()
        for rule in metrics.CUTS
    )
    assert expected < half - 0.02


@pytest.mark.parametrize(
    ("probability", "options", "error", "words"),
    [
        (np.zeros((2, 2, 2)), {"rule": "best"}, ValueError, "choose one of half, expected"),
        (np.zeros((2, 2, 2)), {"empty": 1.1}, ValueError, "empty is 1.1"),
        (np.full((2, 2, 2), 1.5), {"rule": "expected"}, ValueError, "from 1.5"),
        (np.zeros((2, 2, 2, 1)), {"rule": "expected"}, ValueError, "looks like a channel"),
    ],
)
def test_bad_cuts(probability, options, error, words):
    with pytest.raises(error, match=words):
        metrics.cut(probability, **options)


@pytest.mark.parametrize("horizon", [1, 5])
def test_persistence_repeats_the_last_frame(rng, horizon):
    history = rng.integers(0, 2, (2, 4, 3, 3, 3), dtype=np.uint8)
    forecast = metrics.persistence(history, horizon)
    assert forecast.shape == (2, horizon, *history.shape[2:]) and forecast.dtype == np.uint8
    for step in range(horizon):
        np.testing.assert_array_equal(forecast[:, step], history[:, -1])
    forecast[:] = 7  # a copy: the history stays what it was
    assert history.max() <= 1


def test_moving_null_is_the_true_frame_before(rng):
    frames = rng.integers(0, 2, (2, 9, 3, 3, 3), dtype=np.uint8)
    found = metrics.moving_null(frames[:, :4], frames[:, 4:])
    np.testing.assert_array_equal(found, frames[:, 3:8])
    np.testing.assert_array_equal(found[:, :1], metrics.persistence(frames[:, :4]))
    for future in (frames[:1, 4:], frames[:, 4:, ..., None], frames[:, 4:, :2], frames[:, :0]):
        with pytest.raises(ValueError):
            metrics.moving_null(frames[:, :4], future)


def test_births_are_voxels_without_a_neighbour_before(rng):
    before, truth = rng.random((2, 3, 2, 5, 5, 5)) < 0.05
    truth[2] = False
    expected = np.zeros(3)
    for n in range(3):
        filled = np.argwhere(truth[n])
        for t, z, y, x in filled:
            near = before[n, t, max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            expected[n] += not near.any()
        expected[n] /= max(len(filled), 1)
    found = metrics.births(before, truth)
    np.testing.assert_allclose(found, expected)
    assert (found[:2] > 0).all() and found[2] == 0
    near = ndimage.binary_dilation(before, np.ones((1, 1, 3, 3, 3), bool))
    born_missed = truth & near
    np.testing.assert_allclose(metrics.pooled(truth, born_missed), found)


def test_summary():
    found = metrics.summary([[0.1, 0.2], [0.3, 0.4]])
    assert found.n == 4 and found.mean == 0.25
    assert found.std == pytest.approx(np.std([0.1, 0.2, 0.3, 0.4], ddof=1))
    assert found.standard_error == found.std / 2
    assert str(found) == "0.2500 ± 0.0645 (sd 0.1291, n = 4)"
    assert math.isnan(metrics.summary(0.5).std)
    for values, words in (([], "0 of 0 values"), ([1, math.nan], "1 of 2 values")):
        with pytest.raises(ValueError, match=words):
            metrics.summary(values)


PROTOCOLS = ("pooled", "per_frame")


def keras_distances(protocol, truth, guess):
    """The distance of each sample, as the metric of a batch of one."""
    metric, found = metrics.keras_jaccard(protocol), []
    for pair in zip(truth, guess):
        metric.reset_state()
        metric.update_state(*(np.asarray(array)[None] for array in pair))
        found.append(float(metric.result()))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("channel", [False, True])
def test_keras_agrees(protocol, channel, rng):
    truth = (rng.random((13, 6, 8, 8, 8)) < 0.05).astype(np.float32)
    truth[:5, 2] = 0
    truth[11] = 0
    guess = np.clip(truth + rng.normal(0, 0.3, truth.shape), 0, 1).astype(np.float32)
    guess[:5, 2] = guess[11] = 0
    expected = getattr(metrics, protocol)(truth, guess)
    if channel:
        truth, guess = truth[..., None], guess[..., None]
    np.testing.assert_allclose(keras_distances(protocol, truth, guess), expected, atol=1e-12)
    metric = metrics.keras_jaccard(protocol)
    for size in (13, 8):  # the result does not depend on the batches
        metric.reset_state()
        for start in range(0, 13, size):
            metric.update_state(truth[start : start + size], guess[start : start + size])
        assert float(metric.result()) == pytest.approx(expected.mean(), abs=1e-12)


@settings(max_examples=8)
@given(hnp.arrays(np.float32, (2, 3, 4, 2, 3, 2), elements=st.floats(0, 1, width=32)))
def test_keras_agrees_on_any_frames(pair):
    for protocol in PROTOCOLS:
        expected = getattr(metrics, protocol)(*pair)
        np.testing.assert_allclose(keras_distances(protocol, *pair), expected, atol=1e-12)


def test_keras_agrees_inside_a_compiled_function(rng):
    import tensorflow as tf

    truth = (rng.random((16, 5, 8, 8, 8)) < 0.1).astype(np.uint8)
    guess = rng.random(truth.shape, dtype=np.float32)
    for protocol in PROTOCOLS:
        metric = metrics.keras_jaccard(protocol)
        step = tf.function(metric.update_state)
        step(truth, guess)
        expected = metrics.summary(getattr(metrics, protocol)(truth, guess)).mean
        assert float(metric.result()) == pytest.approx(expected, abs=1e-12)


def test_keras_metric_works_in_compile_fit_and_evaluate(rng):
    import keras

    truth = (rng.random((10, 4, 4, 4, 1)) < 0.3).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((4, 4, 4, 1)), keras.layers.Conv3D(1, 3, padding="same", activation="sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=[metrics.keras_jaccard()])
    log = model.fit(truth, truth, epochs=2, batch_size=4, validation_data=(truth, truth), verbose=0)
    assert {"jaccard_pooled", "val_jaccard_pooled"} <= set(log.history)
    found = model.evaluate(truth, truth, batch_size=3, verbose=0, return_dict=True)
    guess = model.predict(truth, batch_size=10, verbose=0)
    expected = metrics.jaccard_distance(truth, guess, axes=(-4, -3, -2, -1)).mean()
    assert found["jaccard_pooled"] == pytest.approx(expected, abs=0.02)  # convolutions may round


def test_keras_metric_never_makes_a_number_of_bad_input():
    import tensorflow as tf

    metric = metrics.keras_jaccard()
    good = np.zeros((2, 3, 4, 4, 4), np.float32)
    for value in (np.nan, -0.5, 1.5):
        bad = good.copy()
        bad[1, 2, 0, 0, 0] = value
        metric.reset_state()
        metric.update_state(good, bad)
        assert math.isnan(float(metric.result()))
        assert keras_distances("pooled", good, bad)[0] == 0
    for shape in ((2, 3, 4, 4, 5), (2, 2, 4, 4, 4), (2, 4, 4, 4), (4, 4, 4)):
        with pytest.raises(ValueError, match="has shape"):
            metric.update_state(good, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="protocol"):
        metrics.keras_jaccard("mean")
    metric.reset_state()
    metric.update_state(tf.zeros((2, 3, 4, 4, 4), tf.bool), tf.zeros((2, 3, 4, 4, 4, 1), tf.int32))
    assert float(metric.result()) == 0


@pytest.fixture(scope="module")
def test_files(thesis_folder):
    """The 1,000 published test samples, uint8 (1000, 128, 16, 16, 16)."""
    import tensorflow as tf

    files = sorted((thesis_folder / "data" / workshop.SPLITS["test"]).glob("*.tfrecords"))
    raw = tf.data.TFRecordDataset([str(f) for f in files], "GZIP", num_parallel_reads=2).batch(100)
    field = {"object4d": tf.io.FixedLenFeature([], tf.string)}
    frames = [tf.io.decode_raw(tf.io.parse_example(b, field)["object4d"], tf.uint8) for b in raw]
    return np.concatenate(frames).reshape(-1, 128, 16, 16, 16)


# Format (T, TINC); the thesis's null: pooled (n = 992), pairs of the single-frame GAN (18,976)
# and of the three-frame GAN (16,992, which starts two frames later).
THESIS = [
    ("T20_TINC1", 20, 1, 0.10716, 0.11250, 0.11266),
    ("T40_TINC2", 40, 2, 0.19635, 0.20996, 0.20998),
    ("T80_TINC4", 80, 4, 0.34215, 0.36061, 0.36285),
]


@pytest.mark.parametrize("row", THESIS, ids=lambda row: row[0])
def test_persistence_of_the_thesis(row, test_files, thesis_folder):
    name, length, step, convlstm, single, triple = row
    start = (128 - length) // 2
    frames = test_files[:, start : 128 - start : step]
    truth, null = frames[:, 1:], frames[:, :-1]

    # Of its 1,000 files the thesis dropped 8 at the end of a shuffled read (batches of 32).
    values = metrics.pooled(truth, null)
    found = metrics.summary(values)
    assert found.mean == pytest.approx(convlstm, abs=3 * found.standard_error * math.sqrt(8 / 992))
    with open(thesis_folder / "results" / f"convlstm3d_next_frame_{name}.csv") as file:
        published = sorted(float(line["null_jaccard"]) for line in csv.DictReader(file))
    ours = np.sort(values)
    k = 0
    for value in published:  # each of the 992 published values is one of our 1,000
        while k < len(ours) and ours[k] < value - 6e-6:
            k += 1
        assert k < len(ours) and ours[k] <= value + 6e-6
        k += 1

    # Pairs of all samples are batched together, so only 24 and 8 pairs were dropped.
    assert metrics.summary(metrics.per_frame(truth, null)).mean == pytest.approx(single, abs=1e-4)
    late = metrics.per_frame(truth[:, 2:], null[:, 2:])
    assert metrics.summary(late).mean == pytest.approx(triple, abs=1e-4)
    print(
        f"{name}: pooled {found}, pairs {metrics.summary(metrics.per_frame(truth, null))}, "
        f"births {metrics.births(null, truth).mean():.4f}"
    )
