"""Arguments, configurations and arrays of voxels, checked once at the public door."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Range:
    """The numbers that an argument may be; `str` says which.

    Attributes:
        least, most: the ends, which belong to it.
        above, below: ends that do not belong to it.
        whole: whole numbers only.
        optional: None may stand in place of a number.
        odd: odd numbers only.
        several: a tuple of such numbers, at least one.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False
    optional: bool = False
    odd: bool = False
    several: bool = False

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            ends = [f"{self.least:g} to {self.most:g}"]
        else:
            words = ("at least", "above", "at most", "below")
            found = zip(words, (self.least, self.above, self.most, self.below))
            ends = [f"{word} {end:g}" for word, end in found if end is not None]
        return ", ".join(ends + ["odd"] * self.odd) + " or None" * self.optional

    def __contains__(self, value: float) -> bool:
        return (  # NaN is in no range
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.whole or math.isfinite(value))
            and (not self.odd or value % 2 == 1)
        )

    def check(self, name: str, value: Any) -> Any:
        """Return a value as a Python number, or say what is wrong with it. True is no number."""
        if value is None and self.optional:
            return None
        if self.several:
            if not isinstance(value, (tuple, list)) or not value:
                raise TypeError(f"{name} is {value!r}; expected a tuple such as (1, 2, 4).")
            one = dataclasses.replace(self, several=False)
            return tuple(one.check(name, each) for each in value)
        kind = "a whole number" if self.whole else "a number"
        expected = ", ".join(filter(None, (kind, str(self))))
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            if not self.whole and not isinstance(value, numbers.Real):
                raise TypeError
            found = operator.index(value) if self.whole else float(value)
        except TypeError:
            raise TypeError(f"{name} is {value!r}; expected {expected}.") from None
        if found not in self:
            raise ValueError(f"{name} is {found}; expected {str(self) or 'a finite number'}.")
        return found


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number as a Python integer, or say what is wrong with it: `Range.check`."""
    return Range(least, most, whole=True).check(name, value)


def number(name: str, value: Any, least: float | None = None, most: float | None = None, **ends):
    """Return a number as a Python float, see `Range.check`; `ends` as in `Range`."""
    return Range(least, most, **ends).check(name, value)


def choice(name: str, value: Any, choices: Sequence) -> Any:
    """Return a value that is one of the choices, or name them in a ValueError."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}.")
    return value


def field(default: Any = dataclasses.MISSING, *, choices: Sequence = (), **ends) -> Any:
    """Declare a field of a configuration with what it may be, for `configuration` to check.

    It is one of `choices`, or else a number of the `Range` with these `ends`.
    """
    found = {"choices": tuple(choices)} if choices else {"range": Range(**ends)}
    return dataclasses.field(default=default, metadata=found)


def configuration(owner: Any) -> None:
    """Check the fields of a frozen dataclass that were declared by `field`; call it at the end.

    Numbers are kept as Python's own, whatever kind they came as. What is wrong is said by
    `Range.check` or `choice`.
    """
    for each in dataclasses.fields(owner):
        value = getattr(owner, each.name)
        if "range" in each.metadata:
            value = each.metadata["range"].check(each.name, value)
        elif "choices" in each.metadata:
            choice(each.name, value, each.metadata["choices"])
        object.__setattr__(owner, each.name, value)


def unmasked(name: str, array: ArrayLike) -> np.ndarray:
    """Return anything like an array as a plain one, if no voxel of it is masked.

    `np.asarray` drops a mask without a word, and what lies below it would count as a voxel.
    """
    masked = _masked(array)
    if masked:
        raise TypeError(
            f"{name} is masked in {masked} places, where it has no value; fill or crop first: "
            "array.filled(0) makes them empty."
        )
    return np.asarray(array)


def voxels(
    name: str,
    array: ArrayLike,
    *,
    axes: Sequence[int] = (),
    remedy: str = "scale it or apply a sigmoid",
) -> np.ndarray:
    """Return an array of voxels as a plain NumPy array, or say what is wrong with it.

    Args:
        name: what it is called in an error.
        array: bool, integers or floats with values 0…1.
        axes: how many axes it may have; any number when empty.
        remedy: what to do with values that lie outside 0…1.
    """
    array = unmasked(name, array)
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected bool, integers or floats with values 0…1."
        )
    if axes and array.ndim not in axes:
        raise ValueError(
            f"{name} has shape {array.shape}; expected {' or '.join(map(str, axes))} axes."
        )
    if array.dtype == bool or not array.size:
        return array
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # NaN is neither
        if np.isnan(low):
            count = np.count_nonzero(np.isnan(array))
            raise ValueError(
                f"{name} holds NaN in {count} of {array.size} voxels; expected a number for every "
                "voxel."
            )
        raise ValueError(f"{name} has values from {low} to {high}; expected 0…1: {remedy}.")
    return array


def finite(name: str, array: ArrayLike) -> np.ndarray:
    """Return numbers as a plain NumPy array, or say what is wrong with them."""
    array = unmasked(name, array)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {array.dtype}; expected numbers.")
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong or not array.ndim or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape} and {wrong} values that are NaN or infinite; "
            "expected an array of numbers."
        )
    return array


def _masked(array: Any) -> int:
    """Count what is masked in an array, or in a list of arrays."""
    if isinstance(array, np.ma.MaskedArray):
        return int(np.count_nonzero(np.ma.getmaskarray(array))) if np.ma.is_masked(array) else 0
    if isinstance(array, (list, tuple)):
        return sum(map(_masked, array))
    return 0
