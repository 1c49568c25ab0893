"""A picture of the idea behind the data: a block at rest, and the slice that moves through it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.pictures.style import FAINT, FILLED, INK, Picture, style

RING, TUBE = 9.5, 4.5  # radii of the doughnut
LONG, WIDE, TALL = 18, 16, 7  # half the edges of the block: time, W and H


@style()
def moving_slice(times: Sequence[float] = (-13, -8, 0, 8, 13)) -> Picture:
    """Draw a doughnut at rest in a block, the slice that moves through it, and the film it gives.

    One axis is left out: the block has the axes time, W and H, so a slice is a flat picture.

    Args:
        times: where the slice is shown, -18 to 18; the doughnut reaches from -14 to 14.
    """
    times = sorted(times)
    figure = Picture(figsize=(9, 5))
    block = figure.add_axes((0.02, 0.27, 0.96, 0.7), aspect="equal")
    block.set_axis_off()
    for side in (-1, 1):  # the edges of the block
        for up in (-1, 1):
            _line(block, [-LONG, LONG], np.array([(side * WIDE, up * TALL)] * 2))
        _line(block, side * LONG, _EDGE)
    # What is nearer is drawn later: thin slices of the doughnut, and between them those to see.
    for time in sorted({*times, *np.arange(-14, 14, 0.2).round(1)}):
        shown = time in times
        if shown:
            _fill(block, time, _EDGE, color="white", alpha=0.45)
            _line(block, time, _EDGE, color=INK)
        for outline in _cut(time):
            _fill(block, time, outline, color=FILLED, alpha=1 if shown else 0.05, lw=0)
    names = {f"t = {time}": (time, -WIDE, -TALL - 1.4) for time in times}
    names |= {"time →": (LONG, -WIDE, -TALL - 1.4), "H": (-LONG - 0.7, -WIDE, 0)}
    names |= {"W": (LONG + 1, 0, -TALL - 1)}
    for name, (time, w, h) in names.items():
        x, y = _project(time, np.array([(w, h)]))
        block.text(x[0], y[0], name, fontsize=8, ha="center", va="center")
    for n, time in enumerate(times):
        width = 0.92 / len(times)
        panel = figure.add_axes((0.04 + n * width, 0.01, 0.95 * width, 0.17))
        for outline in _cut(time):
            panel.fill(*outline.T, color=FILLED)
        panel.set(xlim=(-WIDE, WIDE), ylim=(-TALL, TALL), xticks=[], yticks=[], aspect="equal")
        panel.set_title(f"t = {time}", pad=3)
        panel.spines[:].set(color=INK, visible=True)
    figure.text(0.04, 0.95, "The block. Nothing in it moves; only the slice does.", fontsize=10)
    figure.text(0.04, 0.245, "The film. Each frame shows what the slice cuts.", fontsize=10)
    words = ("nothing", "one spot", "two spots")
    said = "; ".join(f"t = {time}: {words[len(_cut(time))]}" for time in times)
    figure.about = (
        "A doughnut at rest in a block with the axes time, W and H, cut by a slice across time at "
        f"{len(times)} places. Below, what each slice shows, as a film. {said}."
    )
    return figure


_EDGE = np.array([(-WIDE, -TALL), (WIDE, -TALL), (WIDE, TALL), (-WIDE, TALL), (-WIDE, -TALL)])


def _cut(time: float) -> list[np.ndarray]:
    """Return the outlines (N, 2) of what a slice cuts out of the doughnut, in (W, H)."""
    w = np.linspace(-WIDE, WIDE, 1601)
    squared = TUBE**2 - (np.hypot(time, w) - RING) ** 2
    inside = np.flatnonzero(squared >= 0)
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    halves = [np.column_stack([w[run], np.sqrt(squared[run])]) for run in runs if len(run)]
    return [np.concatenate([half, half[::-1] * (1, -1)]) for half in halves]


def _project(time, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where points (N, 2) at a time, in (W, H), are on paper: W runs away from us."""
    return 1.6 * np.asarray(time) + 0.42 * points[:, 0], points[:, 1] + 0.3 * points[:, 0]


def _fill(block, time, points: np.ndarray, **look) -> None:
    block.fill(*_project(time, points), **look)


def _line(block, time, points: np.ndarray, **look) -> None:
    block.plot(*_project(time, points), **{"color": FAINT, "lw": 0.8, **look})
