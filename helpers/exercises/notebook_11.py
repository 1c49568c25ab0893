"""The exercises of notebook 11."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import array, ask, compare, exercise, one_number


@exercise("11.1")
def check_past_numbers(past_numbers: Callable):
    """Check exercise 11.1: the pasts of all voxels of frames (n, D, H, W) as numbers."""
    rng = np.random.default_rng(111)
    for count in (3, 1, 4, 19):
        frames = rng.integers(2, size=(count, 2, 3, 2))
        digits = ["".join(map(str, states)) for states in frames.reshape(count, -1).T]

        def numbers(read, digits=digits):
            return np.array([read(each) for each in digits], float).reshape(2, 3, 2)

        expected = numbers(lambda each: int("1" + each, 2)).astype(int)
        result = array(ask(past_numbers, frames.copy()), (2, 3, 2), "one number for each voxel")
        place = tuple(np.argwhere(result != expected)[:1].T)
        states = frames[(slice(None), *place)].ravel().tolist()
        otherwise = f"{states}: expected {expected[place]}, found {result[place]}."
        bare = numbers(lambda each: int(each, 2))
        backwards = numbers(lambda each: int("1" + each[::-1], 2))
        decimal = numbers(lambda each: int("1" + each))
        missing = "the 1 in front is missing; without it [0, 1] and [1] are the same number."
        behind = "the extra 1 goes in front of the oldest frame, not behind the latest one."
        mistakes = {
            missing: bare,
            "the latest frame is the last binary digit, not the first.": backwards,
            behind: 2 * bare + 1,
            "these are binary digits, not decimal ones: each counts twice the next one.": decimal,
        }
        compare(result, expected, mistakes, otherwise)


@exercise("11.2")
def check_in_pose(in_pose: Callable):
    """Check exercise 11.2: a neighbourhood in its canonical pose, for slopes without ties."""
    rng = np.random.default_rng(112)
    slopes = [(3.0, 2.0, 1.0), (3.0, -2.0, 1.0), (1.0, 2.0, 3.0), (2.0, 3.0, 1.0)]
    for slope in [*slopes, (-0.5, 0.1, -4.0), (1.0, -3.0, -2.0)]:
        cube, slope = rng.random((5, 5, 5)), np.array(slope)
        result = array(ask(in_pose, cube.copy(), slope.copy()), cube.shape, "as the cube had")
        negative, order = np.flatnonzero(slope < 0), np.argsort(-np.abs(slope))
        mirrored, ordered = np.flip(cube, negative), np.transpose(cube, order)
        rising, signed, inverse = (
            np.transpose(mirrored, axes)
            for axes in (order[::-1], np.argsort(-slope), np.argsort(order))
        )
        late = np.flip(ordered, negative)
        mistakes = {
            "mirrored, but its axes are not in order yet.": mirrored,
            "its axes are in order, but it is not mirrored where the slope is negative.": ordered,
            "the axis with the largest |slope| comes first, not last.": rising,
            "order the axes by the size of the slope, whatever its sign.": signed,
            "np.transpose wants to know which old axis comes to each new place.": inverse,
            "mirror before you change the order: afterwards the axes have other numbers.": late,
        }
        otherwise, case = "that is not its canonical pose.", f"Slope {slope.tolist()}"
        compare(result, np.transpose(mirrored, order), mistakes, otherwise, case)


@exercise("11.3")
def check_how_many(how_many: Callable):
    """Check exercise 11.3: how many voxels are worth calling filled."""
    rng = np.random.default_rng(113)
    drawn = [rng.permutation(rng.random(30) ** power) for power in (0.5, 1, 2, 4)]
    for p in [np.array([0.9, 0.9, 0.4, 0.4, 0.4, 0.4, 0.1]), np.array([0.6, 0.2]), *drawn]:
        found, expected = one_number(ask(how_many, p.copy())), most_to_expect(np.sort(p)[::-1])
        above = (p > 0.5).sum()
        mistakes = {
            "sort the probabilities, the largest first.": most_to_expect(p),
            "that is the number of those above 1/2; where does I / U have its top?": above,
            "the place of the top counts from 0: one more voxel is taken.": expected - 1,
            "the largest probability comes first.": most_to_expect(np.sort(p)),
        }
        compare(found, expected, mistakes, case=f"{p.round(2).tolist()}")


def most_to_expect(p: np.ndarray) -> int:
    """Return how many of the first voxels have the largest ratio of expectations."""
    hits = p.cumsum()
    return int(np.argmax(hits / (np.arange(1, len(p) + 1) + hits[-1] - hits))) + 1
