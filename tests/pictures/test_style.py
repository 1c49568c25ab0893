"""One look for all figures, the words that they carry, and what they refuse."""

import numpy as np
import pytest

from helpers import pictures

FRAME, FRAMES = np.zeros((4, 4, 4)), np.zeros((3, 4, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures.slices(FRAME), r"expected the axes \(T, D, H, W\)"),
        (lambda: pictures.slices(FRAMES[..., None]), r"\[\.\.\., 0\]"),
        (lambda: pictures.slices(FRAMES + 2), r"values in 0…1, found 2…2"),
        (lambda: pictures.slices(FRAMES, FRAMES[:2]), "one shape"),
        (lambda: pictures.slices(FRAMES, axis="X"), "no axis 'X'"),
        (lambda: pictures.slices(FRAMES, index=4), "choose 0…3"),
        (lambda: pictures.slices(FRAMES, times=[1]), "1 times for 3 frames"),
        (lambda: pictures.slices(FRAMES, count=0), "at least one frame"),
        (lambda: pictures.orthogonal_slices(FRAMES), r"expected the axes \(D, H, W\)"),
        (lambda: pictures.orthogonal_slices(FRAME, (0, 0, 9)), "choose 0…3"),
        (lambda: pictures.compare_slices(FRAME, FRAMES), "expected the axes|one shape"),
        (lambda: pictures.outcomes(FRAME, FRAME * np.nan), "64 of 64 values are NaN"),
        (lambda: pictures.outcomes(FRAME, FRAME - 1), "values in 0…1"),
        (lambda: pictures.view_3d(FRAMES[None]), "expected the axes"),
        (lambda: pictures.view_3d(FRAME * np.nan), "NaN"),
        (lambda: pictures.view_3d(FRAME, np.zeros((5, 5, 5))), "one shape"),
        (lambda: pictures.view_3d([]), "list is empty"),
        (lambda: pictures.view_3d([["a"]]), "expected numbers"),
        (lambda: pictures.view_3d(FRAMES, surface=[True]), "1 entries for 3 frames"),
        (lambda: pictures.view_3d(FRAME, backend="webgl"), "no 3D backend 'webgl'"),
        (lambda: pictures.compare_3d(FRAMES, FRAME), "one shape"),
        (lambda: pictures.over_horizon({}), "name -> values"),
        (lambda: pictures.over_horizon({"m": [0.1, np.nan]}), "NaN"),
        (lambda: pictures.over_horizon({"m": [0.1, 0.2]}, horizons=[1]), "2 values for 1 places"),
        (lambda: pictures.over_horizon({"m": [0.1]}, band="sd"), "band is 'sd'"),
        (lambda: pictures.learning_curves({"loss": [0.1]}), "Expected the column step"),
        (lambda: pictures.learning_curves({"step": [1], "x": [1]}), "found step, x"),
        (lambda: pictures.learning_curves({"step": [1], "loss": [np.nan]}), "loss: 1 of 1 values"),
        (lambda: pictures.learning_curves({"step": [1], "loss": [1, 2]}), "of one length"),
        (lambda: pictures.curves({"m": []}, [], xlabel="", ylabel=""), "filled array"),
        (lambda: pictures.bars({"a": {"x": 1}, "b": {"y": 1}}), "same categories"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
