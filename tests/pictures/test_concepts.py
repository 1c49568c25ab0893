"""The picture of the block and its moving slice says what a doughnut's slices are."""

import numpy as np
from figures import texts

from helpers import pictures


def test_the_film_shows_what_the_slice_cuts():
    times = (13, -16, 0, 8)  # in any order; at -16 the slice misses the doughnut
    figure = pictures.moving_slice(times)
    _, *film = figure.axes
    assert [panel.get_title() for panel in film] == ["t = -16", "t = 0", "t = 8", "t = 13"]
    assert [len(panel.patches) for panel in film] == [0, 2, 1, 1]
    assert "t = -16: nothing; t = 0: two spots; t = 8: one spot" in figure.alt
    assert {"t = 8", "time →", "W", "H"} <= set(texts(figure))
    left, right = (patch.get_xy() for patch in film[1].patches)
    # Each spot is the round tube, 9.5 from the middle.
    for spot, middle in ((left, -9.5), (right, 9.5)):
        np.testing.assert_allclose(np.hypot(spot[:, 0] - middle, spot[:, 1]), 4.5, atol=0.02)
