"""Every figure of the course: slices, curves and bars with matplotlib, 3D scenes with PyVista.

All functions return the figure and show nothing by themselves; a notebook shows it when it is the
last line of a cell. Each figure has words for those who cannot see it, in `figure.alt`.

In a slice across D, W points right and H upward; in slices across H and W, D points upward. In 3D
x is W, y is H and z is D, which points up.
"""

from helpers.pictures.frames import compare_slices, orthogonal_slices, outcomes, slices
from helpers.pictures.results import (
    bars,
    breakdown,
    comparison,
    curves,
    learning_curves,
    long_term_curves,
    loss_curves,
    occupancy,
    over_horizon,
    result_distributions,
    shape_curves,
    skill_horizons,
    summary_curves,
)
from helpers.pictures.solids import (
    Animation,
    Scene,
    animate_3d,
    camera,
    compare_3d,
    export_meshes,
    view_3d,
)
from helpers.pictures.style import FAINT, FALSE_ALARM, FILLED, HIT, INK, MISS, SERIES, Picture
