"""The picture of a network's layers."""

import pytest

from helpers import pictures

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
