"""Frames as slices: of one sequence, through one voxel, and of a forecast beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from helpers._checks import voxels, whole
from helpers.metrics import jaccard_distance
from helpers.pictures.style import FAINT, FALSE_ALARM, FILLED, HIT, MISS, Picture, style
from helpers.world.ideal import Posterior

OUTCOMES = ("hit", "miss", "false alarm")
SHADES = LinearSegmentedColormap.from_list("shades", ["white", FILLED])
BESIDE = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8}
CODES = ListedColormap(["white", HIT, "#F6D9C4", FALSE_ALARM])


def pick(
    frames, prediction=None, *, times=None, captions=None, count: int | None = None
) -> tuple[list[list[np.ndarray]], list[str], list[int]]:
    """Choose what a figure of frames shows: rows of frames, their captions, and which they are.

    Args:
        frames: (D, H, W), (T, D, H, W), or a list of (D, H, W) frames whose sizes may differ.
        prediction: frames of the same shapes, for a second row.
        times, captions: one for each frame; a caption stands in place of the time.
        count: at most so many equally spaced frames, the first and the last among them.
    """
    rows = [_frames("frames", frames)]
    if prediction is not None:
        rows.append(_frames("prediction", prediction))
    if len({tuple(frame.shape for frame in row) for row in rows}) > 1:
        found = " and ".join(f"{len(row)} frames of {row[0].shape}" for row in rows)
        raise ValueError(f"Truth and prediction must have one shape; found {found}.")
    length = len(rows[0])
    if captions is None:
        single = times is None and not isinstance(frames, (list, tuple)) and np.ndim(frames) == 3
        captions = [f"t = {t}" for t in (range(length) if times is None else times)]
        captions = [""] if single else captions
    if len(captions) != length:
        raise ValueError(f"There are {len(captions)} times or captions for {length} frames.")
    shown = min(whole("count", length if count is None else count, 1), length)
    chosen = np.linspace(0, length - 1, shown).round().astype(int).tolist()
    return [[row[n] for n in chosen] for row in rows], [str(captions[n]) for n in chosen], chosen


def _frames(name: str, frames) -> list[np.ndarray]:
    if isinstance(frames, (list, tuple)):
        found = [voxels(f"{name}[{n}]", frame, axes=(3,)) for n, frame in enumerate(frames)]
    else:
        array = voxels(name, frames, axes=(3, 4))
        found = list(array) if array.ndim == 4 else [array]
    if not found or not all(frame.size for frame in found):
        raise ValueError(f"{name}: there is no frame, or one without voxels.")
    return found


def outcomes(truth, prediction, threshold: float) -> tuple[np.ndarray, ...]:
    """Sort voxels into hits, misses and false alarms; filled means value >= threshold."""
    true, predicted = truth >= threshold, prediction >= threshold
    return true & predicted, true & ~predicted, ~true & predicted


def counts(parts: Sequence[np.ndarray]) -> str:
    """Write down how many voxels are hits, misses and false alarms."""
    return "{} hit · {} miss · {} false".format(*(np.count_nonzero(part) for part in parts))


@style()
def slices(
    frames,
    prediction=None,
    *,
    times: Sequence[int] | None = None,
    count: int = 18,
    index: int | str = "max",
    names: tuple[str, str] = ("truth", "prediction"),
    size: int = 98,
) -> Picture:
    """Draw equally spaced frames of a sequence as small panels, the time under each.

    Args:
        frames: (T, D, H, W), values 0…1, drawn as shades.
        prediction: the same shape; becomes a second row below each row of frames.
        times: of each of the T frames; 0…T-1 unless told.
        count: at most so many frames, the first and the last among them.
        index: which slice across D, or `"max"` for the maximum over D.
        size: pixels along the edge of a panel.
    """
    rows, captions, _ = pick(frames, prediction, times=times, count=count)
    cuts = {name: [_slice(frame, index) for frame in row] for name, row in zip(names, rows)}
    columns = min(9, len(captions))
    blocks = -(-len(captions) // columns)
    shift = 0.0 if prediction is None else 0.3
    figure, panels = _grid(
        blocks * len(rows), columns, size / 100, gap=(0.06, 0.36), edges=(0.42, 0.3 - shift, 0.36)
    )
    where = "maximum over D" if index == "max" else f"slice D = {index}"
    _title(figure, where)
    for (row, column), panel in np.ndenumerate(panels):
        block, which = divmod(row, len(rows))
        n = block * columns + column
        if n >= len(captions):
            panel.set_visible(False)
            continue
        name, last = list(cuts)[which], which == len(rows) - 1
        _image(panel, cuts[name][n], SHADES, 1, ticks=last and n == 0)
        if last:
            _below(panel, captions[n])
        else:  # close to the prediction below it
            place = panel.get_position()
            panel.set_position(place.translated(0, -shift / figure.get_figheight()))
        if column == 0 and prediction is not None:
            _aside(panel, name, 24)
    at = ", ".join(caption.removeprefix("t = ") for caption in captions)
    figure.about = f"Slices of {len(captions)} frames, {where}, at t = {at}. Filled, in %: "
    figure.about += "; ".join(
        f"{name} " * (prediction is not None) + ", ".join(f"{100 * cut.mean():.0f}" for cut in row)
        for name, row in cuts.items()
    )
    figure.about += "."
    return figure


@style()
def compare_slices(
    truth,
    prediction,
    *,
    times: Sequence[int] | None = None,
    count: int = 6,
    index: int | None = None,
    threshold: float = 0.5,
) -> Picture:
    """Draw hits, misses and false alarms of a prediction in one slice, frame by frame.

    The numbers under each panel count the three in that slice.

    Args:
        truth, prediction: (D, H, W) or (T, D, H, W), values 0…1; filled means >= threshold.
        times, count: as in `slices`.
        index: which slice across D; the fullest one unless told.
    """
    rows, captions, _ = pick(truth, prediction, times=times, count=count)
    if index is None:
        filled = np.maximum(*rows).sum(axis=(0, 2, 3))  # in each slice
        index = int(filled.argmax()) if filled.any() else len(filled) // 2
    columns = min(6, len(captions))
    inches = 1.6 if columns > 2 else 2.6
    figure, panels = _grid(
        -(-len(captions) // columns), columns, inches, gap=(0.08, 0.52), edges=(0.4, 0.34, 0.8)
    )
    _title(figure, f"slice D = {index}")
    symbols = ({"marker": "x", "color": MISS}, {"marker": "o", "color": "white"})
    said = []
    for panel in panels.flat[len(captions) :]:
        panel.set_visible(False)
    for panel, true, predicted, caption in zip(panels.flat, *rows, captions):
        cuts = (_slice(frame, index) for frame in (true, predicted))
        hit, miss, false_alarm = parts = outcomes(*cuts, threshold)
        _image(panel, hit + 2 * miss + 3 * false_alarm, CODES, 3, ticks=not said)
        points = inches * 72 / max(hit.shape)
        # Where voxels are tiny, every so many of them carry a symbol.
        step = int(np.ceil(4 / points))
        for part, symbol in zip(parts[1:], symbols):
            up, across = (step * places + step / 2 for places in np.nonzero(part[::step, ::step]))
            panel.plot(across, up, ls="", ms=0.5 * step * points, **symbol)
        said.append("\n".join(filter(None, (caption, counts(parts)))))
        _below(panel, said[-1])
    handles = [Patch(facecolor=HIT)] + [
        (Patch(facecolor=CODES.colors[n]), Line2D([], [], ls="", ms=5, **symbols[n - 2]))
        for n in (2, 3)
    ]
    figure.legend(handles, OUTCOMES, loc="lower center", ncols=3, fontsize=8)
    figure.about = f"Prediction against truth in the slice D = {index}, voxels: "
    figure.about += "; ".join(text.replace("\n", ": ") for text in said) + "."
    return figure


@style()
def posteriors(frames, step: int, *, seen: Sequence[int], truth: tuple[float, float]) -> Picture:
    """Draw what is known of a single ball, the more frames of it are seen: a column for each.

    Above the last frame seen, in the middle how likely each radius is together with each time of
    the centre, below the probability of the next frame with the outline of the true one.

    Args:
        frames: (T, D, H, W), 0 and 1, of a world with exactly one ball, seen in the first of them.
        step: time points from frame to frame, each one voxel of the cube's time axis.
        seen: how many of the first frames are seen, below T.
        truth: the time of the centre since the first frame, and the radius: marked by a ring.
    """
    frames = voxels("frames", frames, axes=(4,))
    seen = [whole("A number of frames seen", n, 1, len(frames) - 1) for n in seen]
    times, said = step * np.arange(len(frames)), []
    figure = Picture(figsize=(0.7 + 1.75 * len(seen), 5.9), layout="constrained")
    panels = figure.subplots(3, len(seen), squeeze=False)
    for column, (n, (last, middle, ahead)) in enumerate(zip(seen, panels.T)):
        found = Posterior(frames[:n], times[:n])
        radii, joint = found.by_moment_and_radius()
        if column == 0:  # the largest radius, and the times that all columns share
            ends = found.moments[0] - 0.5, found.moments[-1] + 0.5, 6, np.ceil(radii[-1])
            bins = np.arange(ends[2], ends[3] + 0.5, 0.5)
        shown = np.array([np.histogram(radii, bins, weights=row)[0] for row in joint]).T
        extent = (found.moments[0] - 0.5, found.moments[-1] + 0.5, *ends[2:])
        options = {"origin": "lower", "interpolation": "none", "aspect": "auto", "vmin": 0}
        middle.imshow(shown, cmap=SHADES, extent=extent, vmax=shown.max(), **options)
        middle.set(xlim=ends[:2], ylim=ends[2:], xlabel="time of the centre")
        middle.plot(*truth, "o", color=MISS, ms=11, mew=1.2, mfc="none")
        probability, true = found.probability(times[[n]])[0].max(axis=0), frames[n].max(axis=0)
        _image(last, frames[n - 1].max(axis=0), SHADES, 1, ticks=column == 0)
        _image(ahead, probability, SHADES, 1, ticks=column == 0)
        if true.any() and not true.all():
            lines = np.kron(true, np.ones((20, 20)))  # so fine that an outline has corners
            place = np.linspace(0, len(true), len(lines))
            ahead.contour(place, place, lines, levels=[0.5], colors=MISS, linewidths=1)
        title = "1 frame seen" if n == 1 else f"{n} frames seen"
        last.set_title(title)
        count, (*_, spread) = int((found.weights > 0).sum()), found.spread()
        size = f"radius {radii @ joint.sum(axis=0):.1f} ± {spread:.2g}"
        centres = "1 centre" if count == 1 else f"{count} centres"
        middle.set_title(f"{centres}\n{size}")
        said.append(f"{title}: {centres}, {size}")
    for row, label in zip(panels, ("last frame seen", "radius", "next frame")):
        _aside(row[0], label, 26)
    figure.about = "What is known of a ball narrows with the frames seen; voxels. "
    figure.about += "; ".join(said) + "."
    return figure


@style()
def film_strip(truth, forecasts: Mapping, *, times: Sequence[int]) -> Picture:
    """Draw truth and forecasts under each other, a column for each time, maximum over D.

    Args:
        truth: (T, D, H, W), 0 or 1.
        forecasts: name -> the same shape, cut to 0 and 1; under each frame stands its distance.
    """
    rows = {"truth": truth} | dict(forecasts)
    figure, panels = _grid(len(rows), len(times), 0.98, gap=(0.06, 0.3), edges=(0.42, 0.3, 0.26))
    _title(figure, "maximum over D; under each forecast its Jaccard distance")
    said = []
    for (name, frames), line in zip(rows.items(), panels):
        distance = jaccard_distance(truth, pick(frames)[0][0])
        told = [f"t = {t}" for t in times] if name == "truth" else [f"{d:.2f}" for d in distance]
        said.append(f"{name} {', '.join(told)}")
        for panel, frame, text in zip(line, frames, told):
            _image(panel, np.max(frame, axis=0), SHADES, 1, ticks=False)
            _below(panel, text)
        _aside(line[0], name, 12)
    figure.about = f"Frames of truth and forecasts, and their distances: {'; '.join(said)}."
    return figure


def _grid(rows: int, columns: int, inches: float, *, gap, edges) -> tuple[Picture, np.ndarray]:
    """Make square panels; gap is (across, down) and edges (left, top, bottom), in inches."""
    (across, down), (left, top, bottom) = gap, edges
    width = left + columns * inches + (columns - 1) * across + 0.1
    height = top + rows * inches + (rows - 1) * down + bottom
    figure = Picture(figsize=(width, height))
    figure.subplots_adjust(left / width, bottom / height, 1 - 0.1 / width, 1 - top / height)
    figure.subplots_adjust(wspace=across / inches, hspace=down / inches)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _image(panel, cut: np.ndarray, colours, largest: float, *, ticks: bool) -> None:
    """Draw one slice (H, W) with its first row at the bottom, and label its axes."""
    up, across = cut.shape
    scale = {"vmin": 0, "vmax": largest, "extent": (0, across, 0, up)}
    panel.imshow(cut, cmap=colours, origin="lower", interpolation="none", aspect="equal", **scale)
    panel.spines[:].set(color=FAINT, visible=True)
    panel.set_xticks([0, across] if ticks else [])
    panel.set_yticks([0, up] if ticks else [])
    panel.tick_params(labelsize=7, length=2, pad=1, color=FAINT)
    if ticks:
        panel.set_xlabel("W", fontsize=8, labelpad=-7)
        panel.set_ylabel("H", fontsize=8, labelpad=-5, rotation=0, va="center")


def _title(figure: Picture, text: str) -> None:
    figure.suptitle(text, fontsize=9, y=1 - 0.06 / figure.get_figheight(), va="top")


def _below(panel, text: str) -> None:
    """Write a caption under a panel, clear of its ticks."""
    panel.annotate(text, (0.5, 0), (0, -11), ha="center", va="top", **BESIDE)


def _aside(panel, text: str, points: float) -> None:
    """Write what a row is called upright to the left of its first panel."""
    panel.annotate(text, (0, 0.5), (-points, 0), rotation=90, ha="center", va="center", **BESIDE)


def _slice(frame: np.ndarray, index: int | str) -> np.ndarray:
    """Cut a frame (D, H, W) across D; the result is (H, W)."""
    if index == "max":
        return frame.max(axis=0)
    return frame[whole("The slice across D", index, 0, len(frame) - 1)]
