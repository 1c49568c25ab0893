"""What stands in a figure, for the tests of figures."""

import io

import numpy as np
from PIL import Image


def texts(figure) -> list[str]:
    """All that is written in a figure or on its axes."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        if axes.get_visible():
            labels = [axes.get_xlabel(), axes.get_ylabel(), axes.get_title()]
            found += labels + [text.get_text() for text in axes.texts]
    for legend in figure.legends:
        found += [text.get_text() for text in legend.get_texts()]
    return found


def shown(figure) -> list:
    """The axes that hold an image."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.images]


def pixels(figure) -> np.ndarray:
    """The figure as a notebook shows it, (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB")).astype(int)


def line(axes, name):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == name]
    return found


def legend_texts(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]
