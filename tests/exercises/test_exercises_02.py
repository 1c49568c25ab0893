"""The exercises of notebook 02, and what it teaches against the helpers."""

import functools

import numpy as np
import tensorflow as tf
from answers import says
from notebook_code import definition

from helpers import exercises, records
from helpers.sequences import (
    THESIS_FORMATS,
    FrameFormat,
    Shifted,
    Windows,
    apply_symmetry,
    cube_symmetries,
)
from helpers.world import cavities


def select(frames, T, TINC):
    first = (len(frames) - T) // 2
    return frames[first : first + T : TINC]


test_select = says(
    exercises.check_select,
    (select, "solved"),
    (lambda f, T, TINC: f[:T:TINC], "starts at time 0"),
    (lambda f, T, TINC: select(f, T, 1), "keep every 4th"),
    (lambda f, T, TINC: f[(128 - T) // 2 : (128 + T) // 2 + 1 : TINC], "one too many"),
    (lambda f, T, TINC: select(f, T, TINC)[::-1], "expected [24, 28, 32]…[100]"),
    (lambda f, T, TINC: select(f, T, TINC)[..., 0], "has shape"),
)


def counts(files, steps, history, batch):
    windows = files * (steps - history)
    return windows, -(-windows // batch)


test_count_windows = says(
    exercises.check_count_windows,
    (counts, "solved"),
    (lambda f, s, h, b: (f * (s - h + 1), 1), "one window less"),
    (lambda f, s, h, b: (f * s - h, 1), "from one file into the next"),
    (lambda f, s, h, b: (s - h, 1), "one sequence only"),
    (lambda f, s, h, b: (f * s, 1), "expected 170 windows"),
    (lambda f, s, h, b: (f * (s - h), f * (s - h) // b), "found 5 batches"),
    (lambda f, s, h, b: (f * (s - h), f * (s - h) // b + 1), "none when nothing is left"),
)


def pack(frames):
    return np.packbits(frames.reshape(len(frames), -1), axis=-1)


def unpack(bits, shape):
    return np.unpackbits(bits, axis=-1, count=np.prod(shape)).reshape(-1, *shape)


test_packing = says(
    exercises.check_packing,
    ((pack, unpack), "solved"),
    ((np.packbits, unpack), "a row of its own"),
    ((lambda f: pack(f).astype(int), unpack), "expected bits uint8"),
    ((lambda f: pack(f)[:, ::-1], unpack), "differ from np.packbits"),
    ((pack, lambda b, s: np.unpackbits(b, axis=-1).reshape(-1, *s)), "is filled up"),
    ((pack, lambda b, s: np.repeat(unpack(b, s), 2, axis=1)), "is filled up"),
    ((pack, lambda b, s: 1 - unpack(b, s)), "expected the same frames"),
    ((pack, lambda b, s: unpack(b, s).reshape(len(b), -1)), "expected the same frames"),
    ((pack, lambda b, s: b.reshape(2, 2)), "raised ValueError"),
)


test_mended_pipeline = says(
    exercises.check_mended_pipeline,
    (lambda data, n, b: data.cache().shuffle(n).batch(b), "solved"),
    (lambda data, n, b: data.cache().shuffle(10 * n, seed=1).batch(b).prefetch(2), "solved"),
    (lambda data, n, b: data.batch(b, drop_remainder=True).shuffle(2).cache(), "is dropped"),
    (lambda data, n, b: data.shuffle(n).cache().batch(b), "the same order"),
    (lambda data, n, b: data.cache().batch(b), "the same order"),
    (lambda data, n, b: data.cache().batch(b).shuffle(n), "you shuffle batches"),
    (lambda data, n, b: data.shuffle(n).batch(b), "put the cache back"),
    (lambda data, n, b: data.cache().shuffle(3).batch(b), "a buffer of 26"),
    (lambda data, n, b: data.cache().repeat(2).shuffle(n).batch(b), "exactly once"),
    (lambda data, n, b: data.cache().shuffle(n).batch(1), "Expected 7 batches"),
    (lambda data, n, b: data.cache().shuffle(n), "can't be read as batches"),
    (lambda data, n, b: [1, 2], "can't be read as batches"),
)


def test_the_times_taught_are_the_helpers():
    times_of = definition("02", "times_of", np=np)
    for ours in (*THESIS_FORMATS, FrameFormat(60, 3), FrameFormat(128, 8)):
        np.testing.assert_array_equal(times_of(ours.T, ours.TINC), ours.times)


def test_the_pipeline_stages_taught_are_the_helpers(rng):
    frames = rng.integers(0, 2, (20, 2, 2, 2), dtype=np.uint8)
    known = {"tf": tf, "HISTORY": 3}
    taught = list(definition("02", "windows", **known)(frames).as_numpy_iterator())
    history, target = Windows(3).split(frames[Windows(3).windows(20)])
    np.testing.assert_array_equal([example[0][..., 0] for example in taught], history)
    np.testing.assert_array_equal([example[1][..., 0] for example in taught], target)
    inputs, targets = definition("02", "shifted", **known)(frames)
    expected = Shifted().split(frames[Shifted().windows(20)])
    np.testing.assert_array_equal(inputs[..., 0], expected[0][0])
    np.testing.assert_array_equal(targets[..., 0], expected[1][0])


def test_the_record_parser_taught_reads_what_the_helper_writes(tmp_path):
    sample = cavities.sample_sequence(np.random.default_rng(2))
    path = records.write_sample(tmp_path, sample)
    (message,) = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    np.testing.assert_array_equal(definition("02", "parse", tf=tf)(message), sample.frames)


def test_the_symmetries_taught_are_the_helpers(rng):
    transform = definition("02", "transform", np=np)
    is_rotation = definition("02", "is_rotation", np=np)
    frames = rng.random((2, 4, 4, 4))
    for number, (order, flips) in enumerate(cube_symmetries()):
        np.testing.assert_array_equal(
            transform(frames, order, flips), apply_symmetry(frames, number)
        )
    assert sum(is_rotation(*symmetry) for symmetry in cube_symmetries()) == 24


def test_the_footprint_taught_finds_a_leak(rng):
    footprint = definition("02", "footprint", np=np)
    frames = rng.integers(0, 2, (6, 2, 2, 2), dtype=np.uint8)
    drawn = {}
    for name in ("right_windows", "leaky_windows"):
        make = functools.partial(definition("02", name, np=np), k=2)
        drawn[name] = ["".join(row) for row in footprint(make, frames)]
    assert drawn["right_windows"] == ["hhT···", "·hhT··", "··hhT·", "···hhT"]
    assert drawn["leaky_windows"] == ["h!!····", "·h!!···", "··h!!··", "···h!!·"]
