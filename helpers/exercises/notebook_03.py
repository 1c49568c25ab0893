"""The exercises of notebook 03."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from helpers import metrics
from helpers.exercises._shared import array, ask, compare, exercise, one_number, require


@exercise("3.1")
def check_pooled(pooled: Callable):
    """Check exercise 3.1: the pooled Jaccard distance per sequence of boolean arrays (N, T, …)."""
    rng = np.random.default_rng(31)
    truth, prediction = rng.random((2, 4, 3, 6, 6, 6)) < 0.2
    truth[3] = prediction[3] = False
    result = array(ask(pooled, truth, prediction), (4,), "one number per sequence")
    hint = "A sequence that is empty in both gives 0/0. Its distance is 0."
    require(np.isfinite(result[3]), hint)
    expected, over_frames = metrics.pooled(truth, prediction), metrics.per_frame(truth, prediction)
    hint = "That is the Jaccard index; the distance is 1 minus it."
    require(not np.allclose(1 - result[:3], expected[:3]), hint)
    hint = "That is the mean over frames. Add up over all frames first, then divide."
    compare(result, expected, {hint: over_frames})


@exercise("3.2")
def check_copying_ratio(ratio: Callable):
    """Check exercise 3.2: distance to the input over distance to the target, both per frame."""
    rng = np.random.default_rng(32)
    inputs, targets, predictions = rng.random((3, 4, 3, 6, 6, 6)) < 0.3
    hint = "Average over frames and sequences before dividing. Return one number"
    found = one_number(ask(ratio, inputs, targets, predictions), hint)

    def at_once(one, other):
        return metrics.jaccard_distance(one, other, axes=range(5))

    measures = metrics.per_frame, metrics.jaccard_distance, metrics.pooled, at_once
    top, frame_top, pooled_top, all_top = (each(inputs, predictions) for each in measures)
    below, frame_below, pooled_below, all_below = (each(targets, predictions) for each in measures)
    persistence = metrics.per_frame(inputs, targets).mean()
    mistakes = {
        "Upside down: the distance to the input goes on top.": below.mean() / top.mean(),
        "You divide first and average the ratios. Average each distance first, then divide once.": [
            (top / below).mean(),
            (frame_top / frame_below).mean(),
        ],
        "You pool: take the distance of each frame by itself, then average.": [
            pooled_top.mean() / pooled_below.mean(),
            all_top / all_below,
        ],
        "On top: from the *prediction* to the input.": persistence / below.mean(),
        "Below: from the *prediction* to the target. You divide by the distance between input and "
        "target, which is that of persistence.": top.mean() / persistence,
        "That is the distance to the input alone. Divide it by the distance to the target.": (
            top.mean()
        ),
    }
    compare(found, top.mean() / below.mean(), mistakes)


@exercise("3.3")
def check_blurred_extrapolation(forecast: Callable):
    """Check exercise 3.3: linear extrapolation of frames blurred in space, sigma 0.7."""
    frames = np.zeros((2, 5, 16, 16, 16), np.uint8)  # the type of the frames in the records
    for t in range(5):  # a block that moves along D, and one that stands still
        frames[0, t, 2 + t : 6 + t, 5:10, 5:10] = 1
    frames[1, :, 4:9, 4:9, 4:9] = 1
    result = array(ask(forecast, frames.copy()), (2, 3, 16, 16, 16), "frames 2, 3 and 4")
    require(result.dtype == bool, "Return a boolean array: compare with 0.5.")

    def ahead(frames, sigma=(0, 0, 0.7, 0.7, 0.7), kind=float):
        blurred = gaussian_filter(frames, sigma).astype(kind)
        return 2 * blurred[:, 1:-1] - blurred[:, :-2] >= 0.5

    truth = frames.astype(float)
    whole = [ahead(frames), ahead(frames, kind=np.uint8)]
    unblurred = 2 * frames[:, 1:-1] - frames[:, :-2]
    wrapped = [unblurred >= 0.5, gaussian_filter(unblurred, (0, 0, 0.7, 0.7, 0.7)) >= 0.5]
    mistakes = {
        "0 - 1 is 255 in whole numbers without a sign (uint8): turn the frames into floats first, "
        "frames.astype(float).": wrapped,
        "Frames are whole numbers (uint8), and so is what `gaussian_filter` makes of them: blur "
        "frames.astype(float).": whole,
        "You blur over time and over sequences too, so the forecast sees the future. "
        "Blur over the last three axes only: sigma=(0, 0, sigma, sigma, sigma).": ahead(truth, 0.7),
        "That is persistence: without the blur, this extrapolation adds nothing.": ahead(truth, 0),
    }
    compare(result, ahead(truth), mistakes)
