"""People's own 4D data: arrays become records in the course's layout, and a report says how."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from helpers import _checks, _files, metrics, records
from helpers.sources.readers import Frames, library
from helpers.workshop import SPLITS
from helpers.world.cavities import UNLABELLED, Sample

LEAST = 6  # time points: five are seen in a rollout, and one is forecast
GRIDS = (8, 16, 24, 32)  # voxels along the edge of a frame that all networks of the course take
STEPS = (1, 2, 4)  # between the frames that the report compares
MARK = "own.json"
Step = Callable[[np.ndarray], tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Report:
    """What `from_arrays` made; `print` it. The folder keeps it as `own.json`."""

    sequences: int
    words: dict[str, int]  # what was done -> in how many sequences
    records: dict[str, int]  # how many there are in each split
    shape: tuple[int, ...]  # (T, D, H, W) of each record
    before: float  # share of the voxels that were filled before the steps
    filled: float  # and in the records
    # Steps -> mean Jaccard distance between frames so many steps apart, pooled over a record.
    persistence: dict[int, float]
    names: dict[int, str]  # sample id -> its sequence, and its first and last time point there

    def __str__(self) -> str:
        times = self.shape[0]
        shown = f"{times // 2 * 2}, 1, time_points={times}{', own=True' * (times == 128)}"
        lines = [f"{what} ({n} of {self.sequences})" for what, n in self.words.items()]
        if len(lines) > 15:
            lines[15:] = [f"… and {len(lines) - 15} more, see {MARK}"]
        return "\n".join(
            [
                f"{self.sequences} sequences. What was done, and in how many of them:",
                *(f"  {line}" for line in lines),
                "Records: " + ", ".join(f"{n} {split}" for split, n in self.records.items()),
                f"Each has {times} time points of {self.shape[1]}³ voxels: FrameFormat({shown})",
                f"Filled: {self.filled:.2%} of the voxels; {self.before:.2%} before these steps",
                "Persistence, the distance that a forecast has to beat (0 nothing moves, 1 nothing "
                "stays): "
                + ", ".join(f"{d:.4f} at step {step}" for step, d in self.persistence.items()),
            ]
        )


# Steps: each takes the frames of a sequence and returns them anew, with what it did in words


def threshold(
    frames: ArrayLike, at: float | str | None = None, *, below: bool = False
) -> tuple[np.ndarray, str]:
    """Call each voxel filled or empty: (T, D, H, W) to uint8 in {0, 1}.

    Args:
        frames: bool, integers or floats.
        at: filled is what lies above this number; `"otsu"` takes the number that divides the
            sequence's histogram best, by scikit-image; None expects two values and keeps them.
        below: filled is what does not lie above, such as pores in bright material.
    """
    frames = _checks.finite("frames", frames)
    low, high = frames.min(), frames.max()
    if at is None:
        if not all(np.all((each == low) | (each == high)) for each in frames):
            raise ValueError(
                f"values from {low:g} to {high:g}; expected two: say from where on a voxel is "
                'filled, at=… (--threshold), a number or "otsu".'
            )
        # One value everywhere is taken as it is: `from_arrays` says what is wrong with it.
        at, said = (low if low < high else 0), f"two values, {low:g} and {high:g}"
    elif at == "otsu":
        filters = library("skimage.filters", "Otsu's threshold")
        counts, edges = np.histogram(frames, 256)
        at = float(filters.threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))
        said = f"threshold {at:g} by Otsu, of values from {low:g} to {high:g}"
    else:
        at = _checks.number("at", at)
        said = f"threshold {at:g}"
    filled = np.asarray(frames <= at if below else frames > at)
    return filled.view(np.uint8), f"{said}: filled is {'not ' * below}what lies above {at:g}"


def fit(
    frames: np.ndarray, edge: int | None = None, *, how: str = "max", crop: bool = False
) -> tuple[np.ndarray, str]:
    """Make cubes around the middle of the frames, and one voxel of each block: to (T, edge³).

    Args:
        frames: (T, D, H, W) in {0, 1}.
        edge: of the grid; None takes the first of `GRIDS` that holds a frame as it is, or else 16.
        how: `"max"`: filled where any voxel of the block is; `"mean"`: where half of them are.
        crop: cut off what makes a frame longer than wide, in place of padding with empty voxels.
    """
    _checks.choice("how", how, ("max", "mean"))
    sizes, before = frames.shape[1:], frames.sum()
    size = min(sizes) if crop else max(sizes)
    edge = _checks.whole("edge", edge or next((n for n in GRIDS if n >= size), 16), 1)
    blocks = max(size // edge, 1) if crop else -(-size // edge)
    full = blocks * edge
    first = [max(each - full, 0) // 2 for each in sizes]
    frames = frames[(slice(None), *(slice(n, n + full) for n in first))]
    around = [full - each for each in frames.shape[1:]]
    frames = np.pad(frames, [(0, 0), *((n // 2, n - n // 2) for n in around)])
    said = " × ".join(map(str, sizes)) + f" voxels cropped or padded to {full}³"
    if before > frames.sum():
        said += f": {1 - frames.sum() / before:.2%} of the filled voxels are lost"
    if blocks == 1:
        return frames, said
    share = frames.reshape(-1, edge, blocks, edge, blocks, edge, blocks).mean(axis=(2, 4, 6))
    rule, found = ("any of them is", share > 0) if how == "max" else ("half are", share >= 0.5)
    said += f"; blocks of {blocks}³ voxels became one: filled where {rule}"
    return found.view(np.uint8), said


def resample(frames: np.ndarray, every: int) -> tuple[np.ndarray, str]:
    """Keep the first time point, and from there on one in `every`."""
    found = frames[:: _checks.whole("every", every, 1)]
    return found, f"{len(found)} of {len(frames)} time points kept"


# From arrays to records


def from_arrays(
    frames: ArrayLike | Mapping[str, object],
    folder: str | Path,
    *,
    at: float | str | None = None,
    below: bool = False,
    steps: Sequence[Step] = (),
    by: str = "sequence",
    length: int | None = None,
    seed: int = 1,
    time_axis: int | None = None,
) -> Report:
    """Write sequences as records in the course's layout, with a training, validation and test part.

    The folder appears when it is whole. The labels are marked as absent.

    Args:
        frames: one sequence (T, D, H, W), several (N, T, D, H, W), or a mapping of names to
            sequences or to functions that read them, as `helpers.sources.readers.find` gives.
        at, below: see `threshold`, which every sequence goes through first.
        steps: functions from frames to frames and words, in their order, such as
            `lambda frames: fit(frames, 32)`. At the end D = H = W is one of `GRIDS`.
        by: `"sequence"`: a tenth of the sequences, at least one, is for validation, a tenth for
            test. `"time"`: each sequence is cut into pieces; the last tenth of them, at least one,
            is for test, those before for validation. No frame is in two of the parts.
        length: cut the sequences into pieces of so many time points, at least 6. None leaves them
            whole, or makes ten pieces if split by time.
        seed: of the choice of sequences.
        time_axis: which of the four axes is time. None takes the first, and refuses an array that
            looks as if it were another.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed.
        TypeError, ValueError: a sequence, or a choice, is not what is expected; nothing is written.
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: it is there already; choose another name.")
    _checks.choice("by", by, ("sequence", "time"))
    found, about = {}, {}
    for name, source in _named(frames).items():
        try:
            found[name], about[name] = _prepared(source, at, below, steps, time_axis)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"sequence {name}: {error}") from error
    time_steps = {name: each["time step"] for name, each in about.items()}
    if len(set(time_steps.values())) > 1:
        raise ValueError(
            f"the time steps differ, in seconds: {time_steps}; a forecast needs one. Resample them "
            "first, or make a folder of each kind."
        )
    lengths = {name: len(each) for name, each in found.items()}
    grids = {name: each.shape[1:] for name, each in found.items()}
    if len(set(grids.values())) > 1:
        raise ValueError(f"the frames have different shapes: {grids}; use fit().")
    parts = _deal(lengths, by, length, seed)
    pieces = [piece for part in parts.values() for piece in part]
    words = collections.Counter(said for each in about.values() for said in each["words"])
    if left := sum(lengths.values()) - sum(stop - start for _, start, stop in pieces):
        words[f"{left} time points in all left out, after the last whole pieces"] += 1
    cut = [found[name][start:stop] for name, start, stop in pieces]
    report = Report(
        sequences=len(found),
        words=dict(words),
        records={split: len(part) for split, part in parts.items()},
        shape=cut[0].shape,
        before=float(np.mean([each["before"] for each in about.values()])),
        filled=float(np.mean([each.mean() for each in cut])),
        persistence={
            step: float(np.mean([metrics.pooled(each[:-step], each[step:]) for each in cut]))
            for step in STEPS
        },
        names={n: f"{name}, {start} to {stop - 1}" for n, (name, start, stop) in enumerate(pieces)},
    )
    with _files.writing(folder, "choose another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _files.replacing_folder(folder) as place:
            splits = [split for split, part in parts.items() for _ in part]
            for name in SPLITS.values():
                (place / name).mkdir()
            for number, (split, each) in enumerate(zip(splits, cut)):
                sample = Sample(each, UNLABELLED, UNLABELLED, number)
                records.write_sample(place / SPLITS[split], sample)
            _files.write_json(place / MARK, dataclasses.asdict(report))
    return report


def _named(frames) -> dict[str, object]:
    """Return sequences by name, whichever way they came."""
    if not isinstance(frames, Mapping):
        frames = _checks.unmasked("frames", frames)
        frames = dict(enumerate(frames if frames.ndim == 5 else [frames]))
    if not frames:
        raise ValueError("there are no sequences; expected at least one.")
    return {str(name): each for name, each in frames.items()}


def _prepared(source, at, below, steps, time_axis) -> tuple[np.ndarray, dict]:
    """Read a sequence, take the steps, and see that records can hold what comes out."""
    source = source() if callable(source) else source
    told = source if isinstance(source, Frames) else Frames(_checks.unmasked("frames", source))
    frames = told.array
    if frames.ndim != 4 or min(frames.shape[1:]) < 2:
        raise ValueError(
            f"it has shape {frames.shape}; expected (T, D, H, W), without a channel axis."
        )
    if time_axis is not None:
        frames = np.moveaxis(frames, _checks.whole("time_axis", time_axis, -4, 3), 0)
    frames, said = threshold(frames, at, below=below)
    words, before = [*told.words, said], float(frames.mean())
    if before in (0, 1):
        kind = "filled" if before else "empty"
        raise ValueError(f"all of its voxels are {kind} ({said}); there is nothing to forecast.")
    if time_axis is None and told is not source:
        _check_time_axis(frames)
    for step in steps:
        frames, said = step(frames)
        words.append(said)
    if len(frames) < LEAST:
        raise ValueError(f"it has {len(frames)} time points; expected at least {LEAST}.")
    if len(set(frames.shape[1:])) > 1 or frames.shape[1] not in GRIDS:
        raise ValueError(
            f"its frames are {frames.shape[1:]}; expected D = H = W of {GRIDS}: take fit()."
        )
    if frames.min() == frames.max():
        raise ValueError(f"all voxels are alike after these steps: {'; '.join(words)}.")
    return frames, {"words": words, "before": before, "time step": told.time_step}


def _check_time_axis(frames: np.ndarray) -> None:
    """Refuse frames whose time axis seems to be another than the first, by shape or continuity."""
    shape, changes = frames.shape, []
    for axis in range(4):
        lines = np.moveaxis(frames, axis, 0)
        changes.append(float(np.mean(lines[1:] != lines[:-1])) if len(lines) > 1 else 1.0)
    calmest, next_one = np.argsort(changes)[:2]
    if shape[0] == shape[1] == shape[2] != shape[3]:
        found, why = 3, "the first three axes are equally long"
    elif calmest and 2 * changes[calmest] < changes[next_one]:
        found, why = calmest, f"least changes along axis {calmest}"
    else:
        return
    raise ValueError(
        f"it has shape {shape}, and {why}: time seems to be axis {found}, expected first. Say "
        f"which one it is: time_axis={found}, or time_axis=0 if this is right (--time-axis)."
    )


def _deal(lengths: dict[str, int], by: str, length: int | None, seed: int) -> dict[str, list]:
    """Return which pieces belong to which split: (name of the sequence, start, stop) each."""
    if length is not None:
        length = _checks.whole("length", length, LEAST)
    elif by == "time":
        length = max(LEAST, min(lengths.values()) // 10)
    elif len(set(lengths.values())) > 1:
        raise ValueError(
            f"the sequences have different numbers of time points: {lengths}; cut them into pieces "
            f"with length={min(lengths.values())} or less (--length)."
        )
    else:
        length = min(lengths.values())
    pieces = {
        name: [(name, at, at + length) for at in range(0, whole - length + 1, length)]
        for name, whole in lengths.items()
    }
    least = 3 * length if by == "time" else length
    if short := {name: whole for name, whole in lengths.items() if whole < least}:
        raise ValueError(
            f"these sequences have too few time points: {short}; expected at least {least} for "
            f"pieces of {length}. Take a smaller length, {LEAST} at least."
        )
    if by == "time":
        parts = zip(*(_in_three(each) for each in pieces.values()))
    elif len(pieces) < 3:
        raise ValueError(
            f"{len(pieces)} sequences cannot be dealt out to three splits; split them in time: "
            'by="time" (--split time).'
        )
    else:
        order = np.random.default_rng(seed).permutation(len(pieces))
        found = list(pieces.values())
        parts = ([found[n] for n in sorted(part)] for part in _in_three(order))
    return {split: [p for each in part for p in each] for split, part in zip(SPLITS, parts)}


def _in_three(found: Sequence) -> tuple[Sequence, Sequence, Sequence]:
    """Cut a sequence in three: two tenths, at least one each, come last."""
    tenth = max(1, round(len(found) / 10))
    return found[: -2 * tenth], found[-2 * tenth : -tenth], found[-tenth:]
