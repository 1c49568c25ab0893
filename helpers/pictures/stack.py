"""The layers of a network, one above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.pictures.style import INK, SERIES, Picture, style


@style()
def stack(
    layers: Sequence[tuple[str, str]],
    *,
    jumps: Sequence[tuple[int, int, str]] = (),
    loops: Mapping[int, str] | None = None,
) -> Picture:
    """Draw the layers of a network from top to bottom, each with the shape that leaves it.

    Args:
        layers: the name of each and its shape.
        jumps: from which layer what is handed on to which later one, past those between, and how.
        loops: what a layer hands to itself at the next time step.
    """
    said = [f"{name}, {shape}" for name, shape in layers]
    figure = Picture(figsize=(7.6, 0.55 * len(layers)), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 10), ylim=(len(layers) - 0.5, -0.5))
    axes.axis("off")
    box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": INK}
    arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    for n, (name, shape) in enumerate(layers):
        axes.text(4.6, n, name.center(28), ha="center", va="center", family="monospace", bbox=box)
        axes.text(7.5, n, shape, va="center", fontsize=10)
        if n:
            axes.annotate("", (4.6, n - 0.29), (4.6, n - 0.71), arrowprops=arrow)
    for place, (start, end, how) in enumerate(jumps):
        colour, left = SERIES[place], 1.6 - 1.1 * place
        axes.plot([2.9, left, left, 2.7], [start, start, end, end], color=colour)
        axes.annotate("", (2.9, end), (2.6, end), arrowprops=arrow | {"color": colour})
        middle = (start + end) / 2
        axes.text(left - 0.1, middle, how, rotation=90, ha="right", va="center", color=colour)
        said.append(f"A line from {layers[start][0]} to {layers[end][0]}: {how}")
    for n, how in (loops or {}).items():
        axes.text(7.5, n + 0.36, how, va="center", fontsize=9, color=SERIES[2])
        said.append(f"From {layers[n][0]} back to itself: {how}")
    figure.about = f"The layers of a network from top to bottom. {'. '.join(said)}."
    return figure
