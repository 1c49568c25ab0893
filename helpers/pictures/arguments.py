"""What figures are given, checked at the door: a picture would hide what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def numbers(array, name: str) -> np.ndarray:
    """Return an array of numbers, neither empty nor with NaN, or say what is wrong with it."""
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}.")
    if array.size == 0 or array.ndim == 0:
        raise ValueError(f"{name}: expected a filled array, found shape {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{name}: {np.count_nonzero(~np.isfinite(array))} of {array.size} values are NaN or "
            "infinite. Find where they come from; a picture would hide them."
        )
    return array


def values(array, name: str, axes: Sequence[str] = ()) -> np.ndarray:
    """Return an array of values 0…1 with the named axes, or say what is wrong with it."""
    array = numbers(array, name)
    if axes and array.ndim != len(axes):
        hint = ""
        if array.ndim == len(axes) + 1:
            hint = " Choose one along the first axis, for example with [0]."
            if array.shape[-1] == 1:
                hint = " Drop the channel axis with [..., 0]."
        raise ValueError(
            f"{name}: expected the axes ({', '.join(axes)}), found shape {array.shape}.{hint}"
        )
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name}: expected values in 0…1, found {array.min():g}…{array.max():g}.")
    return array


def frame_list(frames, name: str) -> list[np.ndarray]:
    """Return the frames (D, H, W) of one frame, a sequence or a list of any sizes."""
    if isinstance(frames, (list, tuple)):
        if not frames:
            raise ValueError(f"{name}: the list is empty; give at least one frame.")
        return [values(frame, f"{name}[{n}]", "DHW") for n, frame in enumerate(frames)]
    frames = np.asarray(frames)
    return list(values(frames[None] if frames.ndim == 3 else frames, name, "TDHW"))


def same_shape(truth, prediction) -> None:
    """Check that two arrays, or two lists of arrays, agree."""
    found = [
        [np.shape(frame) for frame in side] if isinstance(side, list) else np.shape(side)
        for side in (truth, prediction)
    ]
    if found[0] != found[1]:
        raise ValueError(
            f"Truth and prediction must have one shape; truth has {found[0]}, prediction "
            f"{found[1]}."
        )


def some(groups: Mapping) -> Mapping:
    """Return a mapping that has an entry."""
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(f"Expected a mapping name -> values with an entry, found {groups!r}.")
    return groups


def choice(what: str, value, choices: Sequence) -> None:
    """Check that a value is one of those there are."""
    if value not in choices:
        raise ValueError(f"{what} is {value!r}; choose one of {', '.join(map(str, choices))}.")


def asked(names: Sequence[str] | None, found) -> list[str]:
    """Return the names asked for, or those found, each once."""
    if isinstance(names, str):
        raise ValueError(f"Expected a list of names, found {names!r}; write [{names!r}].")
    return list(dict.fromkeys(found if names is None else names))


def time_list(times, count: int) -> list:
    """Return the time of each of so many frames, 0, 1, … where none are given."""
    times = list(range(count) if times is None else times)
    if len(times) != count:
        raise ValueError(f"There are {len(times)} times for {count} frames; give one for each.")
    return times


def caption_list(captions, times, count: int, *, single: bool) -> list[str]:
    """Return a text for each frame: the given ones, or the times."""
    if captions is not None:
        if len(captions) != count:
            raise ValueError(f"There are {len(captions)} captions for {count} frames.")
        return [str(caption) for caption in captions]
    if times is None and single:
        return [""]
    return [f"t = {t}" for t in time_list(times, count)]


def equally_spaced(length: int, count: int) -> list[int]:
    """Return at most count indices of 0…length-1, the first and the last among them."""
    if count < 1:
        raise ValueError(f"count is {count}; at least one frame is needed.")
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()
