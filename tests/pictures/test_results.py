"""Curves, bars and the figures of an evaluation: do they show what was measured?"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures import legend_texts, line, texts
from matplotlib.collections import LineCollection

from helpers import evaluation, pictures
from helpers.rollout import Persistence

REPOSITORY = Path(__file__).resolve().parents[2]


def test_learning_curves_stand_beside_persistence():
    table = {
        "step": [10, 20, 30],
        "loss": [0.3, 0.2, 0.1],
        "val_loss": [0.4, 0.3, 0.2],
        "val_jaccard_pooled": [0.5, 0.4, 0.3],
    }
    figure = pictures.learning_curves(table, persistence=0.45)
    losses, distance = figure.axes
    training, validation = losses.lines
    assert training.get_xdata().tolist() == [10, 20, 30]
    assert training.get_ydata().tolist() == [0.3, 0.2, 0.1]
    assert validation.get_ydata().tolist() == [0.4, 0.3, 0.2]
    assert training.get_marker() != validation.get_marker()
    curve, persistence = distance.lines
    assert curve.get_ydata().tolist() == [0.5, 0.4, 0.3]
    assert curve.get_color() == validation.get_color()
    assert set(persistence.get_ydata()) == {0.45}
    assert legend_texts(figure) == ["training", "validation", "persistence 0.45"]
    only = pictures.learning_curves({"step": [1], "loss": [-2.0]})
    assert [axes.get_ylabel() for axes in only.axes] == ["loss"]


def test_bands_are_percentiles(rng):
    values = rng.random((400, 5))
    labels = {"xlabel": "x", "ylabel": "y", "marks": True}
    axes = pictures.curves({"model": values}, range(1, 6), **labels).axes[0]
    corners = axes.collections[0].get_paths()[0].vertices
    at_first = corners[corners[:, 0] == 1, 1]
    edges = np.percentile(values[:, 0], (5, 95))
    np.testing.assert_allclose((at_first.min(), at_first.max()), edges)
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]


def test_curves_show_negative_values_and_names():
    x = np.linspace(-2, 2, 9)
    (axes,) = pictures.curves({"tanh": np.tanh(x)}, x, xlabel="input", ylabel="output").axes
    (line,) = axes.get_lines()
    assert np.array_equal(line.get_xydata(), np.stack([x, np.tanh(x)], axis=1))
    assert axes.get_ylim()[0] < np.tanh(-2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input", "output")
    with pytest.raises(ValueError, match="same first dimension"):
        pictures.curves({"tanh": np.tanh(x)}, x[:3], xlabel="input", ylabel="output")


def test_differences_are_means_with_bars_beside_zero(rng):
    values = rng.normal(0.1, 0.02, (25, 3))
    figure = pictures.differences({"a": values, "persistence": -values}, [1, 2, 3], ylabel="gain")
    (axes,) = figure.axes
    zero, *dots = axes.lines
    assert set(zero.get_ydata()) == {0} and axes.get_xticks().tolist() == [1, 2, 3]
    half = 1.96 * values.std(axis=0, ddof=1) / 5
    for sign, dot, bars in zip((1, -1), dots, axes.collections):
        np.testing.assert_allclose(dot.get_ydata(), sign * values.mean(axis=0))
        ends = np.sort([bar[:, 1] for bar in bars.get_segments()])
        np.testing.assert_allclose(ends.mean(axis=1), dot.get_ydata())
        np.testing.assert_allclose(np.diff(ends)[:, 0], 2 * half)
        assert dot.get_marker() not in ("", "None")
    left, right = (dot.get_transform().transform((2, 0))[0] for dot in dots)  # side by side
    assert left < axes.transData.transform((2, 0))[0] < right
    assert "from 1 to 3: a " in figure.alt
    one = pictures.differences({"a": values[:, :1]}, [4], ylabel="gain")
    assert one.axes[0].get_xticks().tolist() == [4]


def test_long_term_curves_show_models_nulls_and_the_thesis(results):
    figure = pictures.long_term_curves(results)
    fast = figure.axes[1]
    assert [axes.get_title() for axes in figure.axes] == ["T20_TINC1", "T80_TINC4"]
    rows = results.query("model == 'ours' and format == 'T80_TINC4'")
    np.testing.assert_allclose(
        line(fast, "ours").get_ydata(), rows.groupby("horizon")["prediction_jaccard"].mean()
    )
    persistence = rows.groupby("horizon")["persistence_jaccard"].mean()
    np.testing.assert_allclose(line(fast, "persistence").get_ydata(), persistence)
    np.testing.assert_allclose(line(fast, "moving null").get_ydata(), 0.25)
    published = line(fast, "thesis: ConvLSTM3D")
    assert published.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert published.get_ydata()[4] == pytest.approx(0.7533, abs=1e-4)
    assert published.get_markerfacecolor() == "white"
    assert "missing: GAN" in texts(figure) and set(legend_texts(figure)) == {
        *("ours", "GAN", "persistence", "moving null"),
        *("thesis: ConvLSTM3D", "trusted below 0.5"),
    }
    assert set(line(fast, "trusted below 0.5").get_ydata()) == {0.5}
    assert len(fast.collections) == 1  # a band around ours, and none around null models
    assert fast.child_axes[0].get_xlabel() == "time points"
    looks = {(d.get_color(), d.get_linestyle(), d.get_marker()) for d in fast.lines}
    assert len(looks) == len(fast.lines)
    assert fast.get_ylim()[1] > rows["prediction_jaccard"].max() - 0.1  # nothing is cut off
    assert "moving null" not in legend_texts(pictures.long_term_curves(results, moving_null=False))


def test_long_term_difference_is_paired(results):
    results = results[results["format"] == "T80_TINC4"]
    figure = pictures.long_term_curves(results, difference=True)
    (axes,) = figure.axes
    rows = results[results["model"] == "ours"]
    gap = rows["prediction_jaccard"] - rows["persistence_jaccard"]
    np.testing.assert_allclose(line(axes, "ours").get_ydata(), gap.groupby(rows["horizon"]).mean())
    assert legend_texts(figure) == ["ours"]
    band = axes.collections[0].get_paths()[0].vertices
    assert np.ptp(band[band[:, 0] == 1, 1]) < 0.06  # the spread of the samples is not in it


@pytest.mark.parametrize("kind", ["histogram", "box"])
def test_distributions_have_a_panel_for_each_model_and_format(results, kind):
    figure = pictures.result_distributions(results, kind=kind, models=["ours", "GAN"])
    assert len(figure.axes) == 2 * 2
    assert "missing: GAN" in texts(figure)
    assert {"ours · T20_TINC1", "prediction to truth", "persistence to truth"} <= set(texts(figure))
    if kind == "histogram":
        first = figure.axes[0]
        drawn = [np.diff(p.get_path().vertices[:, 1]).clip(0).sum() for p in first.patches]
        assert len(first.patches) == 3 and min(drawn) > 0
        assert not any(patch.get_fill() for patch in first.patches)  # outlines only
    else:
        values = results.query("model == 'ours' and format == 'T20_TINC1' and horizon == 1")
        medians = [round(float(d.get_xdata()[0]), 6) for d in figure.axes[0].lines]
        assert round(float(values["prediction_jaccard"].median()), 6) in medians


def test_few_samples_fall_into_few_bins(results):
    for table, bins in ((results, 6), (results[results["format"] == "T20_TINC1"], 3)):
        figure = pictures.result_distributions(table, kind="histogram", models=["ours"])
        edges = np.unique(figure.axes[0].patches[0].get_path().vertices[:, 0])
        assert len(edges) == bins + 1  # 10 samples in two formats: 2 √10


def test_the_thesis_has_the_colours_of_its_kin(results):
    table = results.replace({"model": {"ours": "CNN", "GAN": "WGAN-GP"}})
    convlstm = results[results["model"] == "ours"].assign(model="ConvLSTM")
    table = evaluation.combine(table, convlstm)
    first = pictures.long_term_curves(table).axes[0]

    def look(name):
        drawn = line(first, name)
        return drawn.get_color(), drawn.get_marker()

    assert look("thesis: ConvLSTM3D") == look("ConvLSTM")
    compared = pictures.comparison(table, horizon=5).axes[0].lines
    marks = [(dot.get_color(), dot.get_marker()) for dot in compared]
    for name in ("ConvLSTM", "WGAN-GP"):
        assert marks.count(look(name)) == 2  # ours and the thesis's
    assert marks.count(look("CNN")) == 1


def test_comparison_shows_every_model_with_its_interval(results):
    figure = pictures.comparison(results, horizon=5)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[:5] == ["ours", "GAN", "persistence", "moving null", "thesis: ConvLSTM3D"]
    assert "missing" in texts(figure)
    mean = results.query("model == 'ours' and format == 'T20_TINC1' and horizon == 5")
    bar, dot = figure.axes[0].lines[:2]
    assert dot.get_xdata()[0] == pytest.approx(mean["prediction_jaccard"].mean())
    assert bar.get_xdata()[0] < dot.get_xdata()[0] < bar.get_xdata()[1]
    assert "0.292" in texts(figure)  # the thesis's, five steps ahead in T20
    assert len({axes.get_xlim() for axes in figure.axes}) == 1  # lengths can be compared


def test_breakdown(results):
    groups = pd.DataFrame({"size": ["small"] * 5 + ["large"] * 5}, index=range(10))
    parts = evaluation.breakdown(results, groups)
    figure = pictures.breakdown(parts, format="T20_TINC1", horizon=2)
    assert [axes.get_title() for axes in figure.axes] == ["size"]
    expected = parts.query("model == 'GAN' and format == 'T20_TINC1' and horizon == 2")
    (drawn,) = [found for found in figure.axes[0].collections if found.get_label() == "GAN"]
    np.testing.assert_allclose(drawn.get_offsets()[:, 0], expected["difference"])
    bars = [found for found in figure.axes[0].collections if isinstance(found, LineCollection)]
    assert [len(found.get_segments()) for found in bars] == [2, 2]
    fewer = evaluation.breakdown(results[results["sample"] > 0], groups)
    (axes,) = pictures.breakdown(fewer, format="T20_TINC1", horizon=2).axes
    bars = [found for found in axes.collections if isinstance(found, LineCollection)]
    assert [len(found.get_segments()) for found in bars] == [1, 1]  # four have no interval
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "large  (n 5)",
        "small  (n 5)",
    ]


def test_long_term_curves_of_a_table_of_means():
    both = pd.read_csv(REPOSITORY / "data" / "results" / "summary.csv").query("history == 5")
    with pytest.raises(ValueError, match="rollouts of one cut"):
        pictures.long_term_curves(both)
    summary = both[both["cut"] == "expected"]
    with pytest.raises(ValueError, match="rollouts of one history"):
        pictures.long_term_curves(pd.concat([summary, summary.assign(history=1)]))
    figure = pictures.long_term_curves(summary)
    rows = summary.query("model == 'ConvLSTM' and format == 'T40_TINC2'")
    drawn = figure.axes[1]
    np.testing.assert_allclose(line(drawn, "ConvLSTM").get_ydata(), rows["jaccard"])
    np.testing.assert_allclose(line(drawn, "persistence").get_ydata(), rows["persistence"])
    theirs = line(drawn, "thesis: ConvLSTM3D")
    np.testing.assert_allclose(theirs.get_ydata(), rows["thesis"].dropna(), atol=1e-5)
    assert not any("GAN3D" in text for text in legend_texts(figure))  # other frames seen
    holed = summary[(summary["model"] != "CNN") | (summary["format"] != "T80_TINC4")]
    assert texts(pictures.long_term_curves(holed)).count("missing: CNN") == 1


def test_loss_curves_of_several_trainings():
    runs = {
        "ours": {"step": [1, 2, 3], "loss": [0.9, 0.5, 0.3], "val_loss": [0.9, 0.6, 0.5]},
        "GAN": {"step": [10, 20], "loss": [-3.0, -1.0]},
    }
    figure = pictures.loss_curves(runs)
    losses, validation = figure.axes
    assert line(losses, "GAN").get_xydata().tolist() == [[10, -3], [20, -1]]
    assert line(validation, "ours").get_ydata().tolist() == [0.9, 0.6, 0.5]
    assert "missing: GAN" in texts(figure)
    assert legend_texts(figure) == ["ours", "GAN"]
    with pytest.raises(KeyError, match="step"):
        pictures.loss_curves({"x": {"loss": [1]}})
    with pytest.raises(ValueError, match="x, loss has shape .1,. and 1 values that are NaN"):
        pictures.loss_curves({"x": {"step": [1], "loss": [np.nan]}}, columns=["loss"])


def test_seeds_are_marks_around_their_mean():
    groups = {"CNN": ([1, 1, 8], [0.30, 0.32, 0.28])}
    figure = pictures.seeds(groups, xlabel="history", ylabel="best", persistence=0.36)
    (axes,) = figure.axes
    assert line(axes, "CNN").get_xydata().tolist() == pytest.approx(
        np.array([[1, 0.31], [8, 0.28]])
    )
    assert axes.lines[0].get_ydata().tolist() == [0.30, 0.32, 0.28]
    assert axes.get_xscale() == "log" and "persistence 0.36" in legend_texts(figure)
    # The axis shows what the runs span: persistence is a word where it is far.
    figure = pictures.seeds(groups, xlabel="history", ylabel="best", persistence=0.9)
    assert figure.axes[0].get_ylim()[1] < 0.4 and "below persistence 0.9" in figure.alt
    words = pictures.seeds({"CNN": (["b", "a"], [1, 2])}, xlabel="model", ylabel="best").axes[0]
    assert line(words, "CNN").get_linestyle() == "None" != line(axes, "CNN").get_linestyle()
    assert [tick.get_text() for tick in words.get_xticklabels()] == ["b", "a"]
    assert words.get_xscale() == "linear"


@pytest.mark.parametrize("draw", ["result_distributions", "long_term_curves", "comparison"])
def test_results_that_cannot_be_compared_are_told(results, draw):
    draw = getattr(pictures, draw)
    mixed = results.drop(columns=[c for c in results if c.startswith("moving")])
    mixed = mixed[mixed["horizon"] == 1].assign(protocol="pooled")
    mixed = pd.concat([mixed, mixed.assign(protocol="per_frame")])
    lacking = results.drop(index=7)
    for bad, words in (
        (lacking, "ours lacks 1 of 10 samples in T20_TINC1 at horizon 2"),
        (mixed, "mixes the protocols pooled, per_frame"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(bad)


def test_other_bad_results_are_told(results):
    next_frames = results.drop(columns=[c for c in results if c.startswith("moving")])
    next_frames = next_frames[next_frames["horizon"] == 1].assign(protocol="pooled")
    for call, words in (
        (
            lambda: pictures.long_term_curves(next_frames),
            "protocol is 'pooled'",
        ),
        (lambda: pictures.comparison(results, horizon=9), "horizon is 9; choose one of 1, 2"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_shape_curves(rng):
    frames = (rng.random((6, 9, 6, 6, 6)) < 0.2).astype(np.uint8)

    def fading(history):
        return 0.75 * history[:, -1]

    options = {"history": 4, "horizon": 5, "shape": True, "frame_format": "T20_TINC1"}
    ours = evaluation.long_term(fading, frames, name="ours", **options)
    table = evaluation.combine(ours, evaluation.long_term(Persistence(), frames, **options))
    figure = pictures.shape_curves(table, format="T20_TINC1")
    assert legend_texts(figure) == ["persistence", "ours", "truth"]
    means = evaluation.shape_means(table, ["model", "horizon"]).set_index(["model", "measure"])
    pieces, errors, surface, share = figure.axes
    for axes, name, measure in (
        (pieces, "ours", "prediction_components"),
        (pieces, "truth", "truth_components"),
        (errors, "ours", "prediction_components_error"),
        (surface, "persistence", "persistence_surface_mean"),
    ):
        drawn = line(axes, name).get_ydata()
        np.testing.assert_allclose(drawn, means.loc[("ours", measure), "mean"])
    assert line(share, "ours").get_ydata().tolist() == [0, 0, 1, 1, 1]  # 0.75³ is below 0.5
    with pytest.raises(ValueError, match="format is 'T80_TINC4'; choose one of T20_TINC1"):
        pictures.shape_curves(table, format="T80_TINC4")


def test_the_floor_is_drawn_by_the_frames_seen():
    found = pd.DataFrame(
        {
            "model": ["ideal", "ConvLSTM", "ideal", "ideal", "ConvLSTM"],
            "format": ["T20_TINC1"] * 3 + ["T80_TINC4"] * 2,
            "history": [1, 1, 5, 1, 5],
            "mean": [0.2, 0.25, 0.05, 0.4, 0.3],
            "low": [0.1, 0.2, 0.04, 0.3, 0.2],
            "high": [0.3, 0.3, 0.06, 0.5, 0.4],
        }
    )
    figure = pictures.floor_curves(found)
    assert [axes.get_title() for axes in figure.axes] == ["T20_TINC1", "T80_TINC4"]
    ideal = line(figure.axes[0], "ideal")
    assert ideal.get_xydata().tolist() == [[1, 0.2], [5, 0.05]]
    assert line(figure.axes[1], "ConvLSTM").get_xydata().tolist() == [[5, 0.3]]
    assert figure.axes[0].get_ylim()[0] == 0
    assert "ideal 0.2 to 0.05" in figure.alt
    lacking = pictures.floor_curves(found[:4])
    assert "missing: ConvLSTM" in texts(lacking)
