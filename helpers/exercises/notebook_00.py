"""The exercise of notebook 00."""

from collections.abc import Callable

from helpers.exercises._shared import ask, exercise, require, two


@exercise("0.1")
def check_shapes(shapes: Callable):
    """Check exercise 0.1: the shapes of a history of 8 frames and of its forecast, batch 32."""
    hint = "Return two tuples, the history's shape and the forecast's."
    history, forecast = two(ask(shapes), tuple, hint)
    require(len(history) == 5, "A history has five axes: (B, T, D, H, W).")
    hint = f"Look at each axis of the history again: you have {history}."
    require(history == (32, 8, 16, 16, 16), hint)
    require(len(forecast) == 4, "A forecast is one frame per sequence, so it has no time axis.")
    hint = f"Look at each axis of the forecast again: you have {forecast}."
    require(forecast == (32, 16, 16, 16), hint)
