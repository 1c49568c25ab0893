"""Slices: what they show, and which way up it is."""

import re

import numpy as np
import pytest
from figures import pixels, shown, texts

from helpers import pictures
from helpers.world import cavities


def test_slices_show_eighteen_equally_spaced_frames(sequence):
    figure = pictures.slices(sequence, times=range(50, 70))
    assert len(shown(figure)) == 18
    times = [int(text[4:]) for text in texts(figure) if text.startswith("t = ")]
    assert len(times) == 18 and (times[0], times[-1]) == (50, 69)
    assert {"W", "H"} <= set(texts(figure))


def test_slices_put_the_prediction_below_the_truth(sequence):
    figure = pictures.slices(sequence, sequence / 2, count=4)
    panels = shown(figure)
    assert len(panels) == 8
    truth, prediction = panels[2], panels[6]
    np.testing.assert_array_equal(prediction.images[0].get_array() * 2, truth.images[0].get_array())
    assert prediction.get_position().y1 < truth.get_position().y0
    assert {"truth", "prediction"} <= set(texts(figure))


@pytest.mark.parametrize("index", [12, "max"])
def test_a_voxel_is_in_its_place_in_a_slice(one_voxel, index):
    right, up = 1, 3
    figure = pictures.slices(one_voxel[None], index=index)
    panel = shown(figure)[0]
    assert np.argwhere(panel.images[0].get_array()).tolist() == [[up, right]]
    assert panel.get_xlabel() + panel.get_ylabel() == "WH"
    assert panel.get_aspect() in ("equal", 1)
    # The image as drawn: the green block lies where the axes say.
    image = pixels(figure)
    rows, columns = np.nonzero(np.abs(image - (0, 158, 115)).sum(axis=-1) < 12)
    place = panel.transData.inverted().transform(
        (columns.mean() + 0.5, image.shape[0] - rows.mean() - 0.5)
    )
    np.testing.assert_allclose(place, (right + 0.5, up + 0.5), atol=0.15)


def test_comparison_tells_misses_and_false_alarms_by_symbol_and_colour(one_voxel):
    prediction = np.zeros((16, 16, 16))
    prediction[12, 5, 7] = 0.8
    figure = pictures.compare_slices(one_voxel, prediction, times=[64])
    (panel,) = shown(figure)
    miss, false_alarm = panel.lines
    assert (miss.get_xdata()[0], miss.get_ydata()[0]) == (1.5, 3.5)
    assert (false_alarm.get_xdata()[0], false_alarm.get_ydata()[0]) == (7.5, 5.5)
    assert miss.get_marker() != false_alarm.get_marker()
    assert "t = 64\n0 hit · 1 miss · 1 false" in texts(figure)
    assert {"hit", "miss", "false alarm"} <= set(texts(figure))


def test_a_posterior_narrows_from_column_to_column():
    ball = cavities.Solid(cavities.BALL, (64, 60, 67, 50), np.eye(4), 16.3)
    frames = cavities.render([ball]).frames[52:60:2]
    figure = pictures.posteriors(frames, 2, seen=(1, 3), truth=(12, 16.3))
    first, then, *_ = shown(figure)
    assert (first.get_title(), then.get_title()) == ("1 frame seen", "3 frames seen")
    # Shown from D, the largest value along it.
    for axes, frame in zip((first, then), frames[[0, 2]]):
        assert np.array_equal(axes.images[0].get_array(), frame.max(axis=0))
    known = [axes.images[0].get_array() for axes in figure.axes[2:4]]
    assert known[0].sum() == pytest.approx(1) and known[1].sum() == pytest.approx(1)
    assert np.count_nonzero(known[0]) > 3 * np.count_nonzero(known[1])
    told = re.findall(r"(\d+) centres?, radius ([\d.]+) ± ([\d.]+\d)", figure.alt)
    assert len(told) == 2 and float(told[0][2]) > float(told[1][2])
    ahead = figure.axes[5].images[0].get_array()
    assert np.array_equal(ahead >= 0.5, frames[3].max(axis=0) == 1)
    with pytest.raises(ValueError, match="frames seen is 4"):
        pictures.posteriors(frames, 2, seen=(4,), truth=(12, 16.3))


def test_a_film_strip_has_a_row_for_each_forecast():
    truth = np.zeros((2, 4, 4, 4), np.uint8)
    truth[:, 0, 0, :2] = 1
    half = truth * (np.arange(4) < 1)
    figure = pictures.film_strip(truth, {"good": truth, "half": half}, times=[54, 58])
    assert len(figure.axes) == 3 * 2
    assert figure.alt.endswith("truth t = 54, t = 58; good 0.00, 0.00; half 0.50, 0.50.")
    (shown,) = figure.axes[4].images
    assert shown.get_array().sum() == 1
