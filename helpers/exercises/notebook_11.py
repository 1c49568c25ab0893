"""The exercises of notebook 11."""

from collections.abc import Callable

import numpy as np

from helpers.exercises._shared import array, ask, compare, exercise, try_seeds


@exercise("11.1")
def check_surroundings(expected: str, measured: dict, distance_without: Callable):
    """Check exercise 11.1: a guess, and the distance of a SurfaceNet without this and that."""
    try_seeds(expected, measured, distance_without)


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
