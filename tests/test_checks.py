"""Numbers, configurations and arrays of voxels are checked in one way."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from helpers import _checks, metrics, records, rollout, sequences
from helpers.world.cavities import Sample


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_whole_numbers_become_pythons_own(value):
    found = _checks.whole("count", value, 1, 3)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "2", None, [2], np.array([1, 2])])
def test_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match="count is .*; expected a whole number, at least 1."):
        _checks.whole("count", value, 1)


@pytest.mark.parametrize("value", [0.5, 1, Fraction(1, 2), np.float32(0.25)])
def test_numbers_become_pythons_own(value):
    assert type(_checks.Range(0, 1).check("share", value)) is float


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match="share is .*; expected a number, 0 to 1."):
        _checks.Range(0, 1).check("share", value)


@pytest.mark.parametrize(
    "ends, bad, expected",
    [
        (dict(least=1), (0, -math.inf), "at least 1"),
        (dict(least=0, most=1), (-0.1, 1.1, math.nan), "0 to 1"),
        (dict(least=0, below=1), (1, math.nan), "at least 0, below 1"),
        (dict(above=0, most=1), (0, 1.5), "above 0, at most 1"),
        (dict(above=0), (0, math.nan, math.inf), "above 0"),
        (dict(above=0, optional=True), (0,), "above 0 or None"),
        ({}, (math.nan, math.inf), "a finite number"),
    ],
)
def test_ranges_say_what_was_expected(ends, bad, expected):
    for value in bad:
        with pytest.raises(ValueError, match=f"rate is .*; expected {expected}\\."):
            _checks.Range(**ends).check("rate", value)
    if ends.get("optional"):
        assert _checks.Range(**ends).check("rate", None) is None


def test_a_configuration_carries_its_ranges():
    @dataclass(frozen=True)
    class Config:
        width: int = _checks.field(least=1, whole=True)
        rate: float = _checks.field(0.1, above=0, optional=True)
        kind: str = _checks.field("one", choices=("one", "two"))
        edges: tuple[int, ...] = _checks.field((3,), least=1, whole=True, odd=True, several=True)
        free: object = None

        def __post_init__(self):
            _checks.configuration(self)

    found = Config(np.int8(2), np.float32(0.5), "two", [np.int8(1), 5], [1])
    assert found == Config(2, 0.5, "two", (1, 5), [1]) and hash(found.edges)
    assert type(Config(np.int8(2)).width) is int and Config(1, None).rate is None
    with pytest.raises(ValueError, match="width is 0; expected at least 1"):
        Config(0)
    with pytest.raises(ValueError, match="kind is 'three'; choose one of one, two"):
        Config(1, kind="three")
    with pytest.raises(ValueError, match="edges is 4; expected at least 1, odd"):
        Config(1, edges=(3, 4))
    for wrong in (3, ()):
        with pytest.raises(TypeError, match="expected a tuple such as"):
            Config(1, edges=wrong)
    assert str(Config.__dataclass_fields__["rate"].metadata["range"]) == "above 0 or None"


# Arrays


FULL = np.ones((2, 3, 4, 4, 4), np.float32)
MASKED = np.ma.masked_array(FULL, np.arange(FULL.size).reshape(FULL.shape) % 7 == 0)
WITHOUT = np.ma.masked_array(FULL, np.zeros(FULL.shape, bool))


def test_voxels_that_are_good():
    for array in (FULL, FULL.astype(bool), FULL.astype(np.uint8), FULL.tolist(), WITHOUT):
        found = _checks.voxels("frames", array, axes=(5,))
        assert type(found) is np.ndarray and np.array_equal(found, FULL)
    assert _checks.voxels("frames", np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    "array, error, message",
    [
        (MASKED, TypeError, "frames is masked in 55 places.*fill or crop first"),
        ([MASKED[0], FULL[0]], TypeError, "masked"),
        (np.full(3, np.nan), ValueError, "frames holds NaN in 3 of 3 voxels"),
        (FULL * 2, ValueError, "frames has values from 2.0 to 2.0; expected 0…1"),
        (FULL - 2, ValueError, "from -1.0 to -1.0"),
        (FULL.astype(complex), TypeError, "dtype complex128"),
        (np.array(["1"]), TypeError, "dtype"),
    ],
)
def test_voxels_that_are_not(array, error, message):
    with pytest.raises(error, match=message):
        _checks.voxels("frames", array)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (["a"], TypeError, "expected numbers"),
        ([], ValueError, "shape .0,."),
        (1.0, ValueError, "expected an array"),
        ([1, np.nan, -np.inf], ValueError, "2 values that are NaN or infinite"),
    ],
)
def test_numbers_that_are_not_finite(array, error, message):
    assert _checks.finite("x", [[1, 2.5]]).tolist() == [[1, 2.5]]
    with pytest.raises(error, match=f"x has .*{message}"):
        _checks.finite("x", array)


def test_the_number_of_axes():
    with pytest.raises(ValueError, match="shape .2, 3, 4, 4, 4.; expected 3 or 4 axes"):
        _checks.voxels("frames", FULL, axes=(3, 4))


DOORS = {
    "jaccard_distance": lambda a: metrics.jaccard_distance(a, FULL),
    "jaccard_distance, prediction": lambda a: metrics.jaccard_distance(FULL, a),
    "per_frame": lambda a: metrics.per_frame(FULL, a),
    "pooled": lambda a: metrics.pooled(a, FULL),
    "persistence": lambda a: metrics.persistence(a, 2),
    "moving_null": lambda a: metrics.moving_null(a, FULL),
    "moving_null, future": lambda a: metrics.moving_null(FULL, a),
    "births": lambda a: metrics.births(a, FULL),
    "select": lambda a: sequences.FrameFormat(2, time_points=2).select(a[:, :2]),
    "apply_symmetry": lambda a: sequences.apply_symmetry(a, 5),
    "rollout": lambda a: rollout.rollout(rollout.Persistence(), a, 2),
    "next_frames": lambda a: rollout.next_frames(rollout.Persistence(), a),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=list(DOORS))
def test_masked_arrays_are_refused_at_every_door(door):
    with pytest.raises(TypeError, match="masked in .* fill or crop first"):
        door(MASKED)
    assert np.array_equal(door(WITHOUT), door(FULL))


@pytest.mark.parametrize("name", ["frames", "betti", "objects"])
def test_masked_samples_are_not_written(tmp_path, name):
    arrays = {
        "frames": np.ones((2, 4, 4, 4), np.uint8),
        "betti": np.array([1, 0, 0, 1], np.uint8),
        "objects": np.array([1, 0, 0, 0], np.uint8),
    }
    masked = arrays | {name: np.ma.masked_array(arrays[name], arrays[name] == 1)}
    with pytest.raises(TypeError, match=f"sample 0: {name} is masked"):
        records.write_sample(tmp_path, Sample(**masked))
    whole = {key: np.ma.masked_array(array) for key, array in arrays.items()}
    path = records.write_sample(tmp_path, Sample(**whole))
    assert np.array_equal(records.read_sample(path).frames, arrays["frames"])
