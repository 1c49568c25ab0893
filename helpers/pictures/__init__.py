"""Every figure of the course: slices, curves and bars with matplotlib, 3D scenes with PyVista.

All functions return the figure and show nothing by themselves; a notebook shows it when it is the
last line of a cell. Each figure has words for those who cannot see it, in `figure.alt`.

In a slice, which is across D, W points right and H upward. In 3D x is W, y is H and z is D, which
points up.
"""

from helpers.pictures.concepts import moving_slice, stack
from helpers.pictures.curves import curves, differences, learning_curves, loss_curves, seeds
from helpers.pictures.frames import compare_slices, film_strip, posteriors, slices
from helpers.pictures.process import surface_mesh
from helpers.pictures.results import (
    breakdown,
    comparison,
    floor_curves,
    long_term_curves,
    result_distributions,
    shape_curves,
)
from helpers.pictures.solids import Scene, animate_3d, compare_3d, view_3d
from helpers.pictures.style import FAINT, FALSE_ALARM, FILLED, HIT, INK, MISS, SERIES, Picture
