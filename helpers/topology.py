"""The shape of a frame: how many pieces, tunnels and voids it has, and how far its surface is off.

A frame is taken as the union of its filled voxels as closed cubes. Cubes that share a corner are
one piece, so filled voxels have 26 neighbours and empty ones 6. Seen from the material around the
cavities, by Alexander duality: each piece of a frame is a void of the material, each tunnel a
tunnel, and each void a piece of its own.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from helpers import metrics

BETTI = ("components", "tunnels", "voids")
# So many voxels at a time, with their margins: some tens of MB.
_AT_ONCE = 2**22


def betti_numbers(frames: ArrayLike) -> np.ndarray:
    """Count the components, tunnels and voids of 3D frames: the Betti numbers b0, b1 and b2.

    b0 and b2 are counted by labelling filled and empty voxels; the tunnels follow from the Euler
    characteristic of the cubes, V - E + F - C = b0 - b1 + b2. Two balls are (2, 0, 0), a ring is
    (1, 1, 0), a hollow ball is (1, 0, 1) and an empty frame (0, 0, 0).

    Args:
        frames: (..., D, H, W), values 0…1; filled means 0.5 or more.

    Returns:
        int64 (..., 3), in the order of `BETTI`.

    Source: T. Kaczynski, K. Mischaikow, M. Mrozek, *Computational Homology*, 2004, on cubical
        complexes.
    """
    (filled,), _ = metrics.filled_voxels(frames=frames)
    stack = filled.reshape(-1, *filled.shape[-3:])
    found = np.empty((len(stack), 3), np.int64)
    for part in _parts(stack):
        padded = np.pad(stack[part], ((0, 0), (1, 1), (1, 1), (1, 1)))
        found[part, 0] = _pieces(padded, 3)
        found[part, 2] = _pieces(~padded, 1) - 1  # one of them is the outside
        found[part, 1] = found[part, 0] + found[part, 2] - _euler_characteristic(padded)
    return found.reshape(*filled.shape[:-3], 3)


class SurfaceDistance(NamedTuple):
    """How far two surfaces are from each other, in voxels.

    Attributes:
        mean: the mean distance, over the surface voxels of both.
        hausdorff_95: the distance within which at least 95 % of the surface voxels of either one
            have the other, the larger of the two.
    """

    mean: np.ndarray
    hausdorff_95: np.ndarray


def surface_distance(truth: ArrayLike, prediction: ArrayLike) -> SurfaceDistance:
    """Measure how far the surfaces of truth and prediction are apart.

    The surface of a frame is its filled voxels with an empty one among their 6 neighbours, or
    with a wall of the grid. From each of them the distance to the nearest surface voxel of the
    other frame is taken, centre to centre. Both empty is 0. If only one of them is empty there
    is no distance: NaN, to be counted and not to be averaged.

    Args:
        truth, prediction: (..., D, H, W) of one shape, values 0…1; filled means 0.5 or more.

    Returns:
        Two float64 arrays (...).

    Source: L. Maier-Hein et al., *Metrics reloaded*, Nature Methods 2024: average symmetric
        surface distance, and Hausdorff distance at the 95th percentile.
    """
    (truth, prediction), _ = metrics.filled_voxels(truth=truth, prediction=prediction)
    shape = truth.shape[:-3]
    stacks = [array.reshape(-1, *array.shape[-3:]) for array in (truth, prediction)]
    found = np.empty((2, len(stacks[0])))
    for part in _parts(stacks[0]):
        surfaces = [_surface(stack[part]) for stack in stacks]
        squared = [_squared_distance(surface) for surface in surfaces]
        counts = [_histograms(*pair) for pair in zip(surfaces, reversed(squared))]
        sizes = [count.sum(axis=1) for count in counts]
        distance = np.sqrt(np.arange(counts[0].shape[1]))
        total = sum(count @ distance for count in counts)
        found[0, part] = total / np.maximum(sum(sizes), 1)
        found[1, part] = np.maximum(*(_percentile(count, distance) for count in counts))
        found[:, part][:, (sizes[0] == 0) != (sizes[1] == 0)] = np.nan
    return SurfaceDistance(*(values.reshape(shape) for values in found))


def _parts(stack: np.ndarray):
    """Yield slices of a stack of frames that bound the memory needed."""
    size = math.prod(n + 2 for n in stack.shape[1:])
    at_once = max(1, _AT_ONCE // size)
    return (slice(start, start + at_once) for start in range(0, len(stack), at_once))


def _pieces(stack: np.ndarray, connectivity: int) -> np.ndarray:
    """Count the connected pieces of each frame of a boolean stack (N, D, H, W): (N,)."""
    from scipy import ndimage

    labels, count = ndimage.label(stack, _near(connectivity))
    frame_of = np.zeros(count + 1, np.int64)
    frame_of[labels] = np.arange(len(stack))[:, None, None, None]
    return np.bincount(frame_of[1:], minlength=len(stack))


def _near(connectivity: int) -> np.ndarray:
    """Return which voxels are neighbours, within a frame only: one call takes a whole stack."""
    from scipy import ndimage

    near = np.zeros((3, 3, 3, 3), bool)
    near[1] = ndimage.generate_binary_structure(3, connectivity)
    return near


def _euler_characteristic(padded: np.ndarray) -> np.ndarray:
    """Return V - E + F - C of the cubes of each frame of a stack with an empty margin: (N,)."""
    total = np.zeros(len(padded), np.int64)
    for flat in itertools.product((False, True), repeat=3):
        # A cell that is flat along an axis belongs to the frame if a cube on either side does.
        cells = padded
        for axis, is_flat in zip((1, 2, 3), flat):
            if is_flat:
                cells = cells | np.roll(cells, 1, axis)  # what comes round is empty margin
        sign = -1 if flat.count(False) % 2 else 1
        total += sign * np.count_nonzero(cells, axis=(1, 2, 3))
    return total


def _surface(stack: np.ndarray) -> np.ndarray:
    """Return the filled voxels of a stack (N, D, H, W) that have an empty neighbour or a wall."""
    from scipy import ndimage

    return stack & ~ndimage.binary_erosion(stack, _near(1))


def _squared_distance(stack: np.ndarray) -> np.ndarray:
    """Return the squared distance of each voxel to the nearest filled one of its frame.

    The exact distance transform, axis by axis, for all frames at once: on 16³ voxels five times
    as fast as `scipy.ndimage.distance_transform_edt` frame by frame. In an empty frame the values
    mean nothing.

    Args:
        stack: bool (N, D, H, W).

    Returns:
        int32 (N, D, H, W), or int16 where the grid is small enough.

    Source: P. Felzenszwalb and D. Huttenlocher, *Distance transforms of sampled functions*, 2012,
        for the separation by axes.
    """
    farthest = sum((n - 1) ** 2 for n in stack.shape[1:])
    kind = np.int16 if 2 * farthest < np.iinfo(np.int16).max else np.int32
    # Frames last: the additions below then run over contiguous memory.
    found = np.where(stack, kind(0), kind(farthest)).transpose(1, 2, 3, 0).copy()
    for axis in range(3):
        before = np.moveaxis(found.copy(), axis, 0)
        after = np.moveaxis(found, axis, 0)
        for step in range(1, len(before)):
            square = kind(step * step)
            np.minimum(after[step:], before[:-step] + square, out=after[step:])
            np.minimum(after[:-step], before[step:] + square, out=after[:-step])
    return found.transpose(3, 0, 1, 2)


def _histograms(surface: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Count how often each squared distance occurs on the surface of each frame: (N, values)."""
    frame, *place = np.nonzero(surface)
    values = squared[(frame, *place)].astype(np.int64)
    size = 1 + sum((n - 1) ** 2 for n in surface.shape[1:])
    found = np.bincount(frame * size + values, minlength=len(surface) * size)
    return found.reshape(len(surface), size)


def _percentile(counts: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the smallest distance that holds at least 95 % of each row of counts."""
    reached = counts.cumsum(axis=1) >= 0.95 * counts.sum(axis=1, keepdims=True)
    return distance[reached.argmax(axis=1)]
