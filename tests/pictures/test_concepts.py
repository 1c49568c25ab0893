"""Pictures of ideas: what a doughnut's slices are, and the layers of a network."""

import numpy as np
import pytest
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


LAYERS = [("frame", "(16, 16, 16, 1)"), ("memory", "(8, 8, 8, 4)"), ("last", "(16, 16, 16, 1)")]


def test_layers_are_told_in_order_with_their_shapes_and_what_passes_them_by():
    figure = pictures.stack(LAYERS, jumps=[(0, 2, "added")], loops={1: "to the next step"})
    said = [f"{name}, {shape}" for name, shape in LAYERS]
    assert all(part in figure.alt for part in said)
    places = [figure.alt.index(part) for part in said]
    assert places == sorted(places)
    assert "line from frame to last: added" in figure.alt
    assert "memory back to itself: to the next step" in figure.alt


@pytest.mark.parametrize("count", [2, 12])
def test_no_text_leaves_the_picture_or_touches_another(count):
    layers = [(f"layer number {n} of a network", "(16, 16, 16, 128)") for n in range(count)]
    figure = pictures.stack(layers, jumps=[(0, 1, "beside it")], loops={0: "and round again"})
    figure.canvas.draw()
    whole = figure.bbox
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])
