"""Frame formats, the order of examples, the pipelines and the cube symmetries."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import records
from helpers.sequences import (
    T20_TINC1,
    T40_TINC2,
    T80_TINC4,
    FrameFormat,
    Order,
    Shifted,
    Windows,
    apply_symmetry,
    cube_symmetries,
    from_packed,
    inverse_symmetry,
)
from helpers.world import cavities

TIMES, EDGE, COUNT = 16, 4, 7
SMALL = FrameFormat(12, 2, time_points=TIMES)  # frames 2, 4, 6, 8, 10, 12 of 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven records of random voxels, (16, 4, 4, 4) each."""
    rng = np.random.default_rng(3)
    place = tmp_path_factory.mktemp("split")
    for number in range(COUNT):
        objects = np.array([number + 1, 0, 0, 0], np.uint8)
        frames = rng.integers(0, 2, (TIMES, EDGE, EDGE, EDGE), dtype=np.uint8)
        records.write_sample(
            place, cavities.Sample(frames, cavities.betti_numbers(objects), objects, number)
        )
    return place


@pytest.fixture(scope="module")
def split(folder, tmp_path_factory):
    return records.packed(folder, tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="module")
def frames(folder):
    """All samples in the order of their names, uint8 (7, 16, 4, 4, 4)."""
    return np.stack([sample.frames for sample in records.read_folder(folder)])


def arrays(dataset, count=None):
    """Take batches out as NumPy arrays."""
    return [(x.numpy(), y.numpy()) for x, y in (dataset.take(count) if count else dataset)]


def assert_same(one, other):
    assert len(one) == len(other)
    for (x, y), (u, v) in zip(one, other):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


# Formats


@pytest.mark.parametrize(
    ("frame_format", "first", "last"),
    [(T20_TINC1, 54, 73), (T40_TINC2, 44, 82), (T80_TINC4, 24, 100)],
)
def test_formats_of_the_thesis(frame_format, first, last):
    length, step = frame_format.T, frame_format.TINC
    expected = np.arange(128)[(128 - length) // 2 : 128 - (128 - length) // 2 : step]
    np.testing.assert_array_equal(frame_format.times, expected)
    assert (frame_format.times[0], frame_format.times[-1], frame_format.steps) == (first, last, 20)
    assert FrameFormat.parse(frame_format.name) == frame_format
    assert frame_format.name == f"T{length}_TINC{step}"


@given(st.integers(2, 129), st.integers(-1, 70), st.integers(-1, 40))
def test_a_format_is_valid_or_refused(points, length, step):
    valid = (
        length % 2 == 0
        and 2 <= length <= points
        and step >= 1
        and length % step == 0
        and length // step >= 2
    )
    if not valid:
        with pytest.raises(ValueError, match="expected|must be"):
            FrameFormat(length, step, points)
        return
    made = FrameFormat(length, step, points)
    sequence = np.broadcast_to(np.arange(points)[:, None, None, None], (3, points, 2, 2, 2))
    chosen = made.select(sequence)
    assert chosen.shape == (3, made.steps, 2, 2, 2)
    np.testing.assert_array_equal(chosen[0, :, 0, 0, 0], made.times)
    after = points - (made.times[-1] + made.TINC)
    assert after - made.times[0] == points % 2  # in the middle
    assert FrameFormat.parse(made.name) == made
    assert (made.name == f"T{length}_TINC{step}") == (points == 128)  # else not the thesis's


@pytest.mark.parametrize("wrong", ["T20", "T20_TINC1 ", "T-2_TINC1", "T21_TINC1"])
def test_other_names_are_refused(wrong):
    with pytest.raises(ValueError):
        FrameFormat.parse(wrong)


def test_formats_want_whole_numbers_and_all_time_points():
    with pytest.raises(TypeError, match="whole number"):
        FrameFormat(20.0, 1)
    assert FrameFormat(np.int64(20), np.uint8(1)) == T20_TINC1
    for shape in ((64, 4, 4, 4), (128, 4, 4)):
        with pytest.raises(ValueError, match=r"expected \(..., 128, D, H, W\)"):
            T20_TINC1.select(np.zeros(shape))


# Tasks


@pytest.mark.parametrize("history", [1, 5])
def test_windows_are_all_the_windows_of_a_sequence(split, frames, history):
    data = arrays(from_packed(split, SMALL, Windows(history), batch_size=1000))
    ((x, y),) = data
    chosen = SMALL.select(frames).astype(np.float32)[..., None]
    n = 0
    for sequence in chosen:
        for start in range(6 - history):
            np.testing.assert_array_equal(x[n], sequence[start : start + history])
            np.testing.assert_array_equal(y[n], sequence[start + history])
            n += 1
    assert n == len(x) == len(y) == COUNT * (6 - history)
    assert x.shape == (n, history, EDGE, EDGE, EDGE, 1) and x.dtype == y.dtype == np.float32


def test_shifted_is_the_sequence_one_frame_later(split, frames):
    ((x, y),) = arrays(from_packed(split, SMALL, Shifted(), batch_size=7))
    chosen = SMALL.select(frames).astype(np.float32)[..., None]
    np.testing.assert_array_equal(x, chosen[:, :-1])
    np.testing.assert_array_equal(y, chosen[:, 1:])


def test_the_target_is_never_in_the_history(tmp_path):
    """Frame t of each sample holds one voxel number t: the times of all frames can be read off."""
    frames = np.zeros((TIMES, 16, 16, 16), np.uint8)
    frames[np.arange(TIMES), 0, 0, np.arange(TIMES)] = 1
    sample = cavities.Sample(
        frames, cavities.betti_numbers([1, 0, 0, 0]), np.array([1, 0, 0, 0], np.uint8)
    )
    records.write_sample(tmp_path, sample)
    split = records.packed(tmp_path, tmp_path / "cache", progress=False)
    seen = set()
    options = {"seed": 1, "batch_size": 2, "repeat": True}
    for x, y in arrays(from_packed(split, SMALL, Windows(3), **options), 40):
        for history, target in zip(x, y):
            times = [int(np.argmax(frame)) for frame in (*history, target)]
            assert (np.diff(times) == 2).all()
            seen.add(tuple(times))
    assert seen == {(t, t + 2, t + 4, t + 6) for t in (2, 4, 6)}


# Batches, and the order of examples

OPTIONS = [
    {"batch_size": 4},
    {"seed": 5, "batch_size": 2, "drop_remainder": True},
    {"seed": 2, "batch_size": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("task", [Shifted(), Windows(2)], ids=str)
def test_batches_hold_the_frames_that_their_order_names(split, frames, task, options):
    one = from_packed(split, SMALL, task, start_step=1, **options)
    found, order = arrays(one), Order(SMALL, task, COUNT, **options)
    for step, batch in enumerate(found, 1):
        samples, times = order.batch(step)
        chosen = frames[samples[:, np.newaxis], times]
        assert_same([batch], [[part[..., np.newaxis] for part in task.split(chosen)]])
    assert len(found) == int(one.cardinality())
    spec = one.element_spec
    for batch in found:
        for array, known in zip(batch, spec):
            assert known.shape.is_compatible_with(array.shape) and known.dtype == array.dtype
            assert None not in known.shape[1:]
    if options.get("drop_remainder"):
        assert spec[0].shape[0] == options["batch_size"]


def identities(data, frames, history):
    """Name each example by its sample and first frame (random frames are all different)."""
    known = {
        frame.tobytes(): (n, t) for n, sample in enumerate(frames) for t, frame in enumerate(sample)
    }
    return [known[h[0, ..., 0].astype(np.uint8).tobytes()] for x, _ in data for h in x]


def test_an_epoch_holds_each_example_once_shuffled_over_the_whole_split(split, frames):
    expected = {(n, t) for n in range(COUNT) for t in (2, 4, 6, 8)}
    orders = []
    for seed, epoch in ((1, 0), (1, 1), (2, 0)):
        options = {"batch_size": 5, "seed": seed, "repeat": True, "start_step": 6 * epoch}
        data = arrays(from_packed(split, SMALL, Windows(2), **options), 6)
        order = identities(data, frames, 2)
        assert len(order) == len(expected) and set(order) == expected
        permutation = np.random.default_rng([seed, epoch]).permutation(28)
        assert order == [(k // 4, (2, 4, 6, 8)[k % 4]) for k in permutation]
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    unshuffled = arrays(from_packed(split, SMALL, Windows(2), batch_size=5))
    assert identities(unshuffled, frames, 2) == sorted(expected)


def test_repeat_goes_through_the_epochs_and_resumes_at_any_step(split):
    options = {"seed": 9, "batch_size": 3}
    once = from_packed(split, SMALL, Windows(2), **options)
    stream = arrays(from_packed(split, SMALL, Windows(2), repeat=True, **options), 30)
    assert Order(SMALL, Windows(2), COUNT, **options).steps_per_epoch == once.cardinality() == 10
    assert_same(stream[:10], arrays(once))
    for start in (1, 9, 10, 23):
        rest = from_packed(split, SMALL, Windows(2), repeat=True, start_step=start, **options)
        assert_same(arrays(rest, 30 - start), stream[start:])


def test_keras_fits_without_a_warning(split):
    import keras

    model = keras.Sequential(
        [
            keras.Input((2, EDGE, EDGE, EDGE, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(EDGE**3, activation="sigmoid"),
            keras.layers.Reshape((EDGE, EDGE, EDGE, 1)),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        once = from_packed(split, SMALL, Windows(2), batch_size=5, seed=1)
        # shuffle=False: Keras 3.15 warns that it can't shuffle a dataset, even by default.
        assert len(model.fit(once, epochs=2, shuffle=False, verbose=0).history["loss"]) == 2
        endless = from_packed(split, SMALL, Windows(2), batch_size=5, seed=1, repeat=True)
        log = model.fit(
            endless, epochs=3, steps_per_epoch=6, shuffle=False, verbose=0, validation_data=once
        )
    assert len(log.history["val_loss"]) == 3


# Bad input


@pytest.mark.parametrize(
    ("task", "options", "error", "words"),
    [
        (lambda: Windows(6), {}, ValueError, "at most 5"),
        (lambda: Windows(0), {}, ValueError, "at least 1"),
        (Shifted, {"batch_size": 2.5}, TypeError, "batch_size is 2.5"),
        (Shifted, {"seed": -1}, ValueError, "seed is -1"),
        (Shifted, {"batch_size": 8, "drop_remainder": True}, ValueError, "make no batch"),
        (Shifted, {"start_step": -1}, ValueError, "start_step is -1"),
        (Shifted, {"shuffle": True}, TypeError, "shuffle"),
    ],
)
def test_bad_arguments_are_refused_at_once(split, task, options, error, words):
    with pytest.raises(error, match=words):
        from_packed(split, SMALL, task(), **options)


def test_bad_sources_are_refused_at_once(folder, split):
    with pytest.raises(TypeError, match="helpers.records.packed"):
        from_packed(folder, SMALL, Shifted())
    with pytest.raises(ValueError, match=r"16 time points.*FrameFormat\(20, 1, time_points=16"):
        from_packed(split, T20_TINC1, Shifted())


# Symmetries


def matrix(index):
    order, flips = cube_symmetries()[index]
    made = np.zeros((3, 3), int)
    made[range(3), order] = np.where(flips, -1, 1)
    return made


def test_the_symmetries_are_the_group_of_the_cube():
    assert len(cube_symmetries()) == 48
    cube = np.arange(27).reshape(3, 3, 3)
    images = [apply_symmetry(cube, index) for index in range(48)]
    known = {image.tobytes(): index for index, image in enumerate(images)}
    assert len(known) == 48 and known[cube.tobytes()] == 0
    for first, second in itertools.product(range(48), repeat=2):
        both = apply_symmetry(images[first], second)
        third = known[both.tobytes()]  # closed
        np.testing.assert_array_equal(matrix(second) @ matrix(first), matrix(third))
        assert (third == 0) == (second == inverse_symmetry(first))
    turns = [np.linalg.det(matrix(index)) > 0 for index in range(48)]
    assert sum(turns) == 24
    for index in range(8):
        assert cube_symmetries()[index][0] == (0, 1, 2)


@settings(max_examples=30)
@given(st.integers(0, 47), st.integers(0, 2**32))
def test_symmetries_keep_the_volume_and_can_be_undone(index, seed):
    frames = np.random.default_rng(seed).integers(0, 2, (2, 3, 4, 4, 4), dtype=np.uint8)
    turned = apply_symmetry(frames, index)
    np.testing.assert_array_equal(turned.sum((-3, -2, -1)), frames.sum((-3, -2, -1)))
    np.testing.assert_array_equal(apply_symmetry(turned, inverse_symmetry(index)), frames)


def test_symmetries_refuse_what_they_cannot_turn():
    with pytest.raises(ValueError, match="channel"):
        apply_symmetry(np.zeros((2, 4, 4, 4, 1)), 3)
    with pytest.raises(IndexError):
        apply_symmetry(np.zeros((4, 4, 4)), 48)
