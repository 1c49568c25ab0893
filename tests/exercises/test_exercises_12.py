"""The exercises of notebook 12."""

import numpy as np
from answers import says

from helpers import exercises, metrics


def distances(frames):
    steps = range(1, frames.shape[1])
    return {n: metrics.jaccard_distance(frames[:, n:], frames[:, :-n]).mean() for n in steps}


test_largest_step = says(
    exercises.check_largest_step,
    (lambda x, most: max(n for n, d in distances(x).items() if d <= most), "solved"),
    (lambda x, most: sum(np.array(list(distances(x).values())) <= most), "solved"),
    (lambda x, most: min(n for n, d in distances(x).items() if d > most), "wrong by more"),
    (
        lambda x, most: max((n for n, d in distances(x[:1]).items() if d <= most), default=0),
        "alone",
    ),
    (lambda x, most: 7, "with most = 0.25: expected 1, found 7"),
    (lambda x, most: np.array([1, 2]), "Return one number"),
)


test_fine_tuning = says(
    exercises.check_fine_tuning,
    ((None, {}, {}.get), "Say first"),
    ((1e-3, {1e-5: 0.3, 1e-3: 0.2}, {1e-3: 0.3}.get), "same seed it is 0.3000"),
    ((1e-5, {1e-5: 0.3, 1e-3: 0.2}, {1e-3: 0.2}.get), "solved"),
)


def ball(step, radius=4):
    """Three sequences of a ball that moves by so many voxels at each time point, grey."""
    time, *place = np.indices((8, 16, 16, 16))
    far = (place[2] - 4 - step * time) ** 2 + (place[0] - 8) ** 2 + (place[1] - 8) ** 2
    return np.stack([np.exp(-far / (radius + n) ** 2) for n in range(3)])


test_own_sequences = says(
    exercises.check_own_sequences,
    (lambda: ball(1)[0], "Return two things"),
    (lambda: (ball(1), None), "expected two"),
    (lambda: (ball(1), 0.5), "solved"),
    (lambda: (ball(0), 0.5), "nothing moves"),
    (lambda: (ball(1)[0], 0.5), "split them in time"),
    (lambda: (np.random.default_rng(1).random((3, 8, 8, 8, 8)), 0.96), "stays where it was"),
)
