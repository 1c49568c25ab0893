"""Figures: what they show, which way up it is, and what happens where 3D can't be drawn."""

import io
import itertools
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from mpl_toolkits.mplot3d import proj3d
from PIL import Image

from helpers import evaluation, pictures
from helpers.rollout import Persistence

REPOSITORY = Path(__file__).resolve().parent.parent
# Stands in for PyVista where only the conversation with the process matters.
PAINTER = """
import pickle, sys, numpy as np
while True:
    scene, _ = pickle.load(sys.stdin.buffer)
    pickle.dump(("drawn", np.zeros((scene["size"],) * 2 + (3,), np.uint8)), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    """Let no backend be chosen from outside."""
    monkeypatch.delenv("WORKSHOP_3D", raising=False)


@pytest.fixture
def sequence(rng) -> np.ndarray:
    """(20, 16, 16, 16): a ball that grows, shrinks and drifts; the first frame is empty."""
    places = np.arange(16) + 0.5
    d, h, w = np.meshgrid(places, places, places, indexing="ij")
    frames = [
        (d - 8) ** 2 + (h - 6) ** 2 + (w - 4 - 0.4 * t) ** 2 <= t * (19 - t) / 5 for t in range(20)
    ]
    return np.array(frames, np.uint8)


@pytest.fixture
def one_voxel() -> np.ndarray:
    """(16, 16, 16) with the voxel D 12, H 3, W 1 filled."""
    frame = np.zeros((16, 16, 16), np.uint8)
    frame[12, 3, 1] = 1
    return frame


@pytest.fixture
def spare_worker(monkeypatch):
    """Make pictures draw with another worker; without a command it paints everything black."""
    workers = []

    def use(*command, seconds=60.0):
        worker = pictures._Worker(command or [sys.executable, "-c", PAINTER], seconds)
        monkeypatch.setattr(pictures, "_worker", lambda: worker)
        workers.append(worker)
        return worker

    yield use
    for worker in workers:
        worker.stop()


def texts(figure) -> list[str]:
    """All that is written in a figure or on its axes."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        if axes.get_visible():
            labels = [axes.get_xlabel(), axes.get_ylabel(), axes.get_title()]
            found += labels + [text.get_text() for text in axes.texts]
    for legend in figure.legends:
        found += [text.get_text() for text in legend.get_texts()]
    return found


def shown(figure) -> list:
    """The axes that hold an image."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.images]


def pixels(figure) -> np.ndarray:
    """The figure as a notebook shows it, (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")).astype(int)


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


@pytest.mark.parametrize(
    ("axis", "index", "right", "up", "names"),
    [("D", 12, 1, 3, "WH"), ("H", 3, 1, 12, "WD"), ("W", 1, 3, 12, "HD"), ("D", "max", 1, 3, "WH")],
)
def test_a_voxel_is_in_its_place_in_a_slice(one_voxel, axis, index, right, up, names):
    figure = pictures.slices(one_voxel[None], axis=axis, index=index)
    panel = shown(figure)[0]
    assert np.argwhere(panel.images[0].get_array()).tolist() == [[up, right]]
    assert panel.get_xlabel() + panel.get_ylabel() == names
    assert panel.get_aspect() in ("equal", 1)
    # The image as drawn: the green block lies where the axes say.
    image = pixels(figure)
    rows, columns = np.nonzero(np.abs(image - (0, 158, 115)).sum(axis=-1) < 12)
    place = panel.transData.inverted().transform(
        (columns.mean() + 0.5, image.shape[0] - rows.mean() - 0.5)
    )
    np.testing.assert_allclose(place, (right + 0.5, up + 0.5), atol=0.15)


def test_orthogonal_slices_meet_in_the_fullest_voxel(one_voxel):
    figure = pictures.orthogonal_slices(one_voxel, title="one voxel")
    panels = shown(figure)
    titles = [panel.get_title() for panel in panels]
    assert titles == ["slice D = 12", "slice H = 3", "slice W = 1"]
    assert [panel.images[0].get_array().sum() for panel in panels] == [1, 1, 1]
    for panel in panels:
        up, right = np.argwhere(panel.images[0].get_array())[0] + 0.5
        vertical, horizontal = panel.lines
        assert vertical.get_xdata()[0] == right and horizontal.get_ydata()[0] == up


def test_outcomes_are_counted():
    truth = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    prediction = np.array([0.9, 0.5, 0.4, 0.6, 0.1, 0.0])
    hit, miss, false_alarm = pictures.outcomes(truth, prediction)
    assert hit.tolist() == [True, True, False, False, False, False]
    assert miss.tolist() == [False, False, True, False, False, False]
    assert false_alarm.tolist() == [False, False, False, True, False, False]


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
    assert set(pictures.OUTCOMES) <= set(texts(figure))


def test_occupancy_is_the_share_of_filled_voxels(sequence, rng):
    many = np.stack([sequence, sequence[::-1], 0 * sequence])
    figure = pictures.occupancy({"one": sequence, "three": many})
    axes = figure.axes[0]
    one, three = axes.lines
    np.testing.assert_allclose(one.get_ydata(), sequence.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(three.get_ydata(), many.mean(axis=(0, 2, 3, 4)))
    assert len(axes.collections) == 1, "only the many have a band"
    assert {"time t", "share of filled voxels"} <= set(texts(figure))


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
    shown = {text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()}
    assert shown == {"training", "validation", "persistence 0.45"}
    assert figure.png().startswith(b"\x89PNG")
    only = pictures.learning_curves({"step": [1], "critic_loss": [-2.0]}, losses=["critic_loss"])
    assert [axes.get_ylabel() for axes in only.axes] == ["loss"]


def test_bands_are_percentiles_or_the_interval_of_the_mean(rng):
    values = rng.random((400, 5))
    low, high = np.percentile(values[:, 0], (5, 95))
    half = 1.96 * values[:, 0].std(ddof=1) / 20
    mean = values[:, 0].mean()
    for band, edges in (("spread", (low, high)), ("mean", (mean - half, mean + half))):
        axes = pictures.over_horizon({"model": values}, band=band).axes[0]
        corners = axes.collections[0].get_paths()[0].vertices
        at_first = corners[corners[:, 0] == 1, 1]
        np.testing.assert_allclose((at_first.min(), at_first.max()), edges)
        assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]


def test_curves_show_negative_values_and_names():
    x = np.linspace(-2, 2, 9)
    (axes,) = pictures.curves({"tanh": np.tanh(x)}, x, xlabel="input", ylabel="output").axes
    (line,) = axes.get_lines()
    assert np.array_equal(line.get_xydata(), np.stack([x, np.tanh(x)], axis=1))
    assert axes.get_ylim()[0] < np.tanh(-2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input", "output")
    with pytest.raises(ValueError, match="9 values for 3 places"):
        pictures.curves({"tanh": np.tanh(x)}, x[:3], xlabel="input", ylabel="output")


@pytest.mark.parametrize("kind", ["histogram", "box"])
def test_distances_stand_beside_a_reference(rng, kind):
    groups = {"slow": rng.random(100), "fast": rng.random(50)}
    figure = pictures.distances(groups, kind=kind, reference=0.25, reference_label="thesis")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Jaccard distance"
    assert any(list(line.get_xdata()) == [0.25, 0.25] for line in axes.lines)
    assert any("thesis 0.25" in text for text in texts(figure))
    if kind == "histogram":
        assert axes.get_ylim()[1] > 1
    else:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["slow", "fast"]


def test_bars_have_the_heights_of_the_table():
    table = {"training": {"ball": 3, "ring": 1}, "test": {"ball": 2, "ring": 4}}
    axes = pictures.bars(table, category_label="kind").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3, 1, 2, 4]
    assert len({bar.get_hatch() for bar in axes.patches}) == 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ball", "ring"]


def test_a_voxel_is_in_its_place_in_the_mesh(one_voxel):
    for surface in (False, True):
        mesh = pictures.cavity_mesh(one_voxel, surface=surface)
        np.testing.assert_allclose(mesh.center, (1.5, 3.5, 12.5), atol=1e-3)
    assert pictures.cavity_mesh(one_voxel).bounds == (1, 2, 3, 4, 12, 13)
    assert pictures.cavity_mesh(0 * one_voxel).n_points == 0


def test_the_mesh_of_cubes_encloses_the_filled_voxels(sequence):
    mesh = pictures.cavity_mesh(sequence[10])
    assert mesh.triangulate().volume == pytest.approx(sequence[10].sum())
    smooth = pictures.cavity_mesh(sequence[10], surface=True)
    assert smooth.volume == pytest.approx(sequence[10].sum(), rel=0.15)


def test_static_pictures_draw_after_tensorflow_was_imported(sequence):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = pictures.view_3d(sequence, times=range(20), count=3)
    assert len(shown(figure)) == 3
    assert [text for text in texts(figure) if text.startswith("t =")] == [
        "t = 0",
        "t = 10",
        "t = 19",
    ]
    assert {"W", "H", "D"} <= set(texts(figure))
    assert len(figure._repr_png_()) < 150_000
    assert int(tf.reduce_sum(tf.ones(3))) == 3


@pytest.mark.parametrize("corner", itertools.product((0, 15), repeat=3))
def test_a_voxel_is_in_its_place_in_3d(corner):
    frame = np.zeros((16, 16, 16), np.uint8)
    frame[corner] = 1
    image = shown(pictures.view_3d(frame, size=300))[0].images[0].get_array().astype(int)
    # Green is what is neither white, nor grey like the box and the edges.
    rows, columns = np.nonzero(image[..., 1] - image[..., 0] > 60)
    found = columns.mean() + 0.5, rows.mean() + 0.5
    expected = pictures._project((np.array([corner[::-1]]) + 0.5) / 16, 300, pictures.VIEW)[0]
    np.testing.assert_allclose(found, expected, atol=2)


def test_3d_axes_point_right_away_and_up():
    origin, w, h, d = pictures._project(np.vstack([np.zeros(3), np.eye(3)]), 100, pictures.VIEW)
    assert w[0] > origin[0] + 30
    assert h[0] > origin[0] and h[1] < origin[1]
    assert d[1] < origin[1] - 30 and d[0] == pytest.approx(origin[0])


def test_prediction_is_a_second_row(sequence):
    figure = pictures.view_3d(sequence[5:15], sequence[5:15], count=2, backend="static")
    panels = shown(figure)
    assert len(panels) == 4
    first, below = (panels[n].images[0].get_array().astype(int) for n in (0, 2))
    assert np.abs(first - below).max() < 8
    assert panels[2].get_position().y1 <= panels[0].get_position().y0 + 1e-6
    assert {"truth", "prediction"} <= set(texts(figure))


def test_frames_of_different_sizes_share_a_row(sequence):
    large = np.kron(sequence[10], np.ones((3, 3, 3), np.uint8))
    figure = pictures.view_3d([large, sequence[10]], surface=[True, False], captions=["48³", "16³"])
    assert len(shown(figure)) == 2 and {"48³", "16³", "48", "16"} <= set(texts(figure))


@pytest.mark.parametrize("backend", ["static", "matplotlib"])
def test_an_empty_frame_is_an_empty_box_with_a_note(backend):
    figure = pictures.view_3d(np.zeros((16, 16, 16)), backend=backend)
    assert "empty" in texts(figure)
    assert figure._repr_png_()


@pytest.mark.parametrize("backend", ["static", "matplotlib"])
def test_comparison_in_3d_counts_and_shows_all_three(sequence, backend):
    truth, prediction = sequence[8:10], sequence[10:12]
    figure = pictures.compare_3d(truth, prediction, times=[8, 9], backend=backend)
    assert len(figure.axes) == 2
    counts = [part.sum() for part in pictures.outcomes(truth[0], prediction[0])]
    assert "t = 8\n{} hit · {} miss · {} false".format(*counts) in texts(figure)
    assert set(pictures.OUTCOMES) <= set(texts(figure))
    image = pixels(figure)[: int(figure.bbox.height) - 70]
    orange = (image[..., 0] - image[..., 2] > 80).sum()
    blue = (image[..., 2] - image[..., 0] > 80).sum()
    grey = (np.ptp(image, axis=-1) < 12)[(image.max(axis=-1) < 200)].sum()
    assert min(orange, blue, grey) > 50


def test_a_hit_is_solid_a_miss_hollow_and_a_false_alarm_smaller():
    truth, prediction = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    truth[0, 0, 0] = prediction[0, 0, 0] = 1
    truth[0, 0, 3] = 1
    prediction[3, 0, 0] = 1
    figure = pictures.compare_3d(truth, prediction, size=300)
    image = shown(figure)[0].images[0].get_array().astype(int)

    def colour(w: float, d: float) -> np.ndarray:
        """The pixel of a point on the side of small H, in voxels."""
        right, down = pictures._project(np.array([[w, 0.0, d]]) / 4, 300, pictures.VIEW)[0]
        return image[int(down), int(right)]

    assert np.ptp(colour(0.5, 0.6)) < 12 and colour(0.5, 0.6).max() < 230, "a hit is grey"
    assert colour(3.4, 0.6).min() > 230, "one looks through a miss"
    red, _, blue = colour(0.5, 3.5)
    assert blue - red > 80, "a false alarm is blue"
    assert colour(0.08, 3.15).min() > 200, "and smaller than its voxel"


def test_trame_needs_a_kernel(sequence):
    with pytest.raises(RuntimeError, match="needs a running Jupyter kernel"):
        pictures.view_3d(sequence[10], backend="trame")


def test_html_scene_loads_nothing_from_elsewhere(sequence, tmp_path):
    scene = pictures.compare_3d(sequence[8], sequence[10], times=[8], backend="html")
    page = scene.page
    assert len(page) < 3_000_000
    tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page)
    assert tags and not [tag for tag in tags if re.search(r"\b(?:src|href)\s*=", tag)]
    outside = r"""(?:@import|\bimport\s*\(|\bimportScripts\s*\(|\bfetch\s*\()\s*["'`]?https?:"""
    assert not re.search(outside, page)
    shown_html = scene._repr_html_()
    assert "srcdoc=" in shown_html and "t = 8" in shown_html and "false alarm" in shown_html
    assert scene.save(tmp_path / "scene.html").stat().st_size > len(page)


def test_matplotlib_on_request_says_nothing(sequence, monkeypatch):
    monkeypatch.setattr(pictures, "_worker", lambda: pytest.fail("no process is needed"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = pictures.view_3d(sequence[10], backend="matplotlib")
        monkeypatch.setenv("WORKSHOP_3D", "matplotlib")
        chosen = pictures.view_3d(sequence[10], backend="html")
    for drawn in (figure, chosen):
        assert [drawn.axes[0].get_xlabel(), drawn.axes[0].get_zlabel()] == ["W", "D"]


def test_matplotlib_draws_a_voxel_in_its_place(one_voxel):
    axes = pictures.view_3d(one_voxel, backend="matplotlib").axes[0]
    image = pixels(axes.figure)
    rows, columns = np.nonzero(image[..., 1] - image[..., 0] > 60)
    flat = proj3d.proj_transform(1.5, 3.5, 12.5, axes.get_proj())[:2]
    right, up = axes.transData.transform(flat)
    np.testing.assert_allclose((columns.mean(), image.shape[0] - rows.mean()), (right, up), atol=2)


def test_a_worker_that_cannot_start_is_told_once(sequence, spare_worker):
    spare_worker("/no/such/python")
    with pytest.warns(RuntimeWarning, match="did not start.*matplotlib draws"):
        figure = pictures.view_3d(sequence[10])
    assert isinstance(figure, pictures.Picture) and figure.axes[0].name == "3d"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures.view_3d(sequence[10]).axes[0].name == "3d"


def test_a_worker_without_opengl_is_told(sequence, spare_worker):
    broken = (
        "import sys; sys.modules['pyvista'] = None; from helpers.pictures import serve; serve()"
    )
    spare_worker(sys.executable, "-c", broken)
    with pytest.warns(RuntimeWarning, match="pyvista.*matplotlib draws"):
        figure = pictures.view_3d(sequence[10], backend="html")
    assert figure.axes[0].name == "3d"


def test_a_worker_that_is_killed_is_replaced(sequence, spare_worker):
    worker = spare_worker()
    assert shown(pictures.view_3d(sequence[10]))
    first = worker.process
    first.kill()
    first.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(pictures.view_3d(sequence[10])), "killed between two pictures"
    assert worker.process.pid != first.pid


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't pause a process")
def test_a_worker_that_dies_while_drawing_leaves_a_picture(sequence, spare_worker):
    import signal

    worker = spare_worker()
    worker.start()
    os.kill(worker.process.pid, signal.SIGSTOP)
    threading.Timer(0.2, worker.process.kill).start()
    with pytest.warns(RuntimeWarning, match="ended with code -9.*matplotlib draws"):
        figure = pictures.view_3d(sequence[10])
    assert figure.axes[0].name == "3d"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't pause a process")
def test_a_worker_that_hangs_is_stopped(sequence, spare_worker):
    import signal

    worker = spare_worker(seconds=0.3)
    worker.start()
    os.kill(worker.process.pid, signal.SIGSTOP)
    with pytest.warns(RuntimeWarning, match="after 0.3 s"):
        assert pictures.view_3d(sequence[10]).axes[0].name == "3d"
    assert worker.process is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't pause a process")
def test_an_interrupt_while_drawing_leaves_no_stale_answer(sequence, spare_worker):
    import signal

    worker = spare_worker()
    worker.start()
    os.kill(worker.process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        pictures.view_3d(sequence[10], size=200)
    assert worker.process is None
    panel = shown(pictures.view_3d(sequence[10], size=300))[0]
    assert panel.images[0].get_array().shape == (300, 300, 3)


def test_a_script_ends_cleanly_and_importing_is_light():
    script = (
        "import sys, numpy as np\n"
        "from helpers import pictures\n"
        "assert not {'tensorflow', 'pyvista', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "pictures.view_3d(np.eye(16)[None] * np.ones((16, 1, 1)))\n"
        "print(pictures._worker().process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not psutil.pid_exists(int(done.stdout))


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
        (lambda: pictures.distances({"m": []}), "filled array"),
        (lambda: pictures.distances({"m": [0.1]}, kind="pie"), "kind is 'pie'"),
        (lambda: pictures.bars({"a": {"x": 1}, "b": {"y": 1}}), "same categories"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_environment_names_an_unknown_backend(monkeypatch):
    monkeypatch.setenv("WORKSHOP_3D", "vrml")
    with pytest.raises(ValueError, match="WORKSHOP_3D"):
        pictures.view_3d(FRAME)


@pytest.fixture
def results(rng):
    """Rollouts over 6 horizons of two models and persistence; one model lacks a format."""
    tables = []
    for model, gain in (("ours", -0.1), ("GAN", 0.1), ("persistence", 0.0)):
        for name in ("T20_TINC1", "T80_TINC4")[: 1 if model == "GAN" else 2]:
            base = np.linspace(0.2, 0.7, 6) + 0.01 * np.arange(10)[:, None]
            noise = np.random.default_rng(len(model)).normal(0, 0.02 * (gain != 0), base.shape)
            columns = {
                "prediction": base + gain + noise,
                "persistence": base,
                "input": base / 2,
                "moving_null": 0 * base + 0.25,
                "moving_input": base / 3,
            }
            tables.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "format": name,
                        "protocol": "rollout",
                        "history": 5,
                        "horizon": np.tile(np.arange(1, 7), 10),
                        "sample": np.repeat(np.arange(10), 6),
                        **{
                            f"{what}_{kind}": values.ravel()
                            for kind in ("jaccard", "mse")
                            for what, values in columns.items()
                        },
                    }
                )
            )
    return evaluation.combine(*tables)


def line(axes, name):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == name]
    return found


def legend_texts(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


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
    assert "missing: GAN" in texts(figure) and len(set(legend_texts(figure))) == 7
    looks = {(d.get_color(), d.get_linestyle(), d.get_marker()) for d in fast.lines}
    assert len(looks) == len(fast.lines)
    assert fast.get_ylim()[1] > rows["prediction_jaccard"].max() - 0.1  # nothing is cut off
    one = pictures.long_term_curves(results, thesis=["ConvLSTM3D"], moving_null=False)
    assert "moving null" not in legend_texts(one)
    assert sum(text.startswith("thesis") for text in legend_texts(one)) == 1


def test_long_term_difference_is_paired(results):
    figure = pictures.long_term_curves(results, difference=True, formats=["T80_TINC4"])
    (axes,) = figure.axes
    rows = results.query("model == 'ours' and format == 'T80_TINC4'")
    gap = rows["prediction_jaccard"] - rows["persistence_jaccard"]
    np.testing.assert_allclose(line(axes, "ours").get_ydata(), gap.groupby(rows["horizon"]).mean())
    assert legend_texts(figure) == ["ours"]
    band = axes.collections[0].get_paths()[0].vertices
    assert np.ptp(band[band[:, 0] == 1, 1]) < 0.06  # the spread of the samples is not in it


def test_a_missing_horizon_is_a_gap_in_the_line(results):
    holed = results[(results["horizon"] != 3) | (results["model"] != "ours")]
    drawn = line(pictures.long_term_curves(holed).axes[0], "ours").get_ydata()
    assert np.isnan(drawn[2]) and np.isfinite(np.delete(drawn, 2)).all()


@pytest.mark.parametrize(("kind", "each"), [("both", 2), ("histogram", 1), ("box", 1)])
def test_distributions_have_a_panel_for_each_model_and_format(results, kind, each):
    figure = pictures.result_distributions(
        results, kind=kind, horizon=2, models=["ours", "GAN", "VAE"]
    )
    assert len(figure.axes) == 3 * 2 * each
    assert {"GAN was not judged\nin T80_TINC4", "VAE was not judged\nin T20_TINC1"} <= set(
        texts(figure)
    )
    assert {"ours · T20_TINC1", "prediction to truth", "persistence to truth"} <= set(texts(figure))
    if kind == "histogram":
        first = figure.axes[0]
        drawn = [np.diff(p.get_path().vertices[:, 1]).clip(0).sum() for p in first.patches]
        assert len(first.patches) == 3 and min(drawn) > 0
        assert not any(patch.get_fill() for patch in first.patches)  # outlines only
    else:
        values = results.query("model == 'ours' and format == 'T20_TINC1' and horizon == 2")
        medians = [round(float(d.get_xdata()[0]), 6) for d in figure.axes[0].lines]
        assert round(float(values["prediction_jaccard"].median()), 6) in medians


def test_few_samples_fall_into_few_bins(results):
    def edges(**options):
        figure = pictures.result_distributions(
            results, kind="histogram", models=["ours"], **options
        )
        return np.unique(figure.axes[0].patches[0].get_path().vertices[:, 0])

    few = edges()  # 10 samples in two formats: 2 √10
    assert len(few) - 1 == 6
    np.testing.assert_allclose(few, edges(bins=6))
    assert len(edges(bins=11)) - 1 == 11
    assert len(edges(formats=["T20_TINC1"])) - 1 == 3
    with pytest.raises(ValueError, match="bins is 0"):
        edges(bins=0)


def test_the_thesis_has_the_colours_of_its_kin(results):
    names = {"ours": "PatchNet", "GAN": "WGAN-GP"}
    table = results.replace({"model": names})
    convlstm = results[results["model"] == "ours"].assign(model="ConvLSTM")
    table = evaluation.combine(table, convlstm)
    first = pictures.long_term_curves(table).axes[0]

    def look(name):
        drawn = line(first, name)
        return drawn.get_color(), drawn.get_marker()

    assert look("thesis: ConvLSTM3D") == look("ConvLSTM")
    assert look("thesis: AEncGAN3D three-frame") == look("WGAN-GP")
    others = {look(name) for name in ("ConvLSTM", "WGAN-GP", "PatchNet", "persistence")}
    assert look("thesis: AEncGAN3D single-frame") not in others
    assert {colour for colour, _ in others}.isdisjoint(look("thesis: AEncGAN3D single-frame"))
    compared = pictures.comparison(table, horizon=5).axes[0].lines
    marks = [(dot.get_color(), dot.get_marker()) for dot in compared]
    for name in ("ConvLSTM", "WGAN-GP"):
        assert marks.count(look(name)) == 2  # ours and the thesis's


def test_comparison_shows_every_model_with_its_interval(results):
    figure = pictures.comparison(results, horizon=5, models=["ours", "GAN"], thesis=["ConvLSTM3D"])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["ours", "GAN", "persistence", "moving null", "thesis: ConvLSTM3D"]
    assert "missing" in texts(figure)
    mean = results.query("model == 'ours' and format == 'T20_TINC1' and horizon == 5")
    bar, dot = figure.axes[0].lines[:2]
    assert dot.get_xdata()[0] == pytest.approx(mean["prediction_jaccard"].mean())
    assert bar.get_xdata()[0] < dot.get_xdata()[0] < bar.get_xdata()[1]
    assert "0.292" in texts(figure)  # the thesis's, five steps ahead in T20
    apart = pictures.comparison(results, horizon=5, difference=True)
    assert [label.get_text() for label in apart.axes[0].get_yticklabels()] == ["ours", "GAN"]
    for drawn in (figure, apart):
        assert len({axes.get_xlim() for axes in drawn.axes}) == 1  # lengths can be compared
    assert apart.axes[0].get_xlim()[0] < -0.1 < 0.1 < apart.axes[0].get_xlim()[1]


def test_skill_horizons_and_breakdown(results, rng):
    found = evaluation.skill_horizon(results)
    figure = pictures.skill_horizons(found, models=["ours", "GAN", "persistence"])
    assert {"6 or more", "0", "missing"} <= set(texts(figure))
    # What is longer than the axis goes on must not cross its end.
    sides = {text.get_text(): text.get_ha() for axes in figure.axes for text in axes.texts}
    assert sides["6 or more"] == "right" and sides["0"] == "center"
    shorter = found.assign(longest=found["longest"].where(found["model"] != "GAN", 3))
    first = pictures.skill_horizons(shorter, models=["ours", "GAN"]).axes[0]
    ends = [part.get_segments()[0][0][0] for part in first.collections]
    assert ends == [6, 3]  # each model was judged up to its own horizon
    groups = pd.DataFrame({"size": ["small"] * 5 + ["large"] * 5}, index=range(10))
    parts = evaluation.breakdown(results, groups)
    figure = pictures.breakdown(parts, format="T20_TINC1", horizon=2)
    assert [axes.get_title() for axes in figure.axes] == ["size"]
    expected = parts.query("model == 'GAN' and format == 'T20_TINC1' and horizon == 2")
    np.testing.assert_allclose(line(figure.axes[0], "GAN").get_xdata(), expected["difference"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "large  (n 5)",
        "small  (n 5)",
    ]


def test_summary_curves():
    summary = pd.read_csv(REPOSITORY / "data" / "results" / "summary.csv")
    models = ["ConvLSTM", "WGAN-GP, three frames"]
    figure = pictures.summary_curves(summary, models=models)
    assert len(figure.axes) == 2 * 3  # what starts from five frames, from three frames
    assert figure.axes[0].get_title() == "T20_TINC1, from 5 frames"
    rows = summary.query("model == 'ConvLSTM' and format == 'T40_TINC2' and protocol == 'rollout'")
    drawn = figure.axes[1]
    np.testing.assert_allclose(line(drawn, "ConvLSTM").get_ydata(), rows["jaccard"])
    np.testing.assert_allclose(line(drawn, "persistence").get_ydata(), rows["persistence"])
    theirs = line(drawn, "thesis: ConvLSTM3D")
    np.testing.assert_allclose(theirs.get_ydata(), rows["thesis"].dropna(), atol=1e-5)
    assert theirs.get_color() == line(drawn, "ConvLSTM").get_color()
    gan = figure.axes[5]
    assert {found.get_label() for found in gan.lines} == {
        "persistence",
        "WGAN-GP, three frames",
        "thesis: AEncGAN3D three-frame",
    }
    assert set(legend_texts(figure)) >= {*models, "persistence", "thesis: ConvLSTM3D"}
    holed = summary[(summary["model"] != "PatchNet") | (summary["format"] != "T80_TINC4")]
    figure = pictures.summary_curves(holed, models=["ConvLSTM", "PatchNet"])
    assert texts(figure).count("missing: PatchNet") == 1
    with pytest.raises(ValueError, match="no rollouts of .'VAE'. in"):
        pictures.summary_curves(summary, models=["VAE"])


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
    with pytest.raises(ValueError, match="GAN: loss falls to -3"):
        pictures.loss_curves(runs, logarithmic=True)
    with pytest.raises(ValueError, match="No training has the column 'critic'"):
        pictures.loss_curves(runs, columns=["critic"])
    with pytest.raises(ValueError, match="x has no column step; found loss"):
        pictures.loss_curves({"x": {"loss": [1]}})
    with pytest.raises(ValueError, match="x, loss: 1 of 1 values are NaN"):
        pictures.loss_curves({"x": {"step": [1], "loss": [np.nan]}}, columns=["loss"])


@pytest.mark.parametrize("draw", ["result_distributions", "long_term_curves", "comparison"])
def test_bad_results_are_told(results, draw):
    draw = getattr(pictures, draw)
    nan = results.copy()
    nan.loc[5, "prediction_jaccard"] = np.nan
    twice = pd.concat([results, results.iloc[:1]])
    lacking = results.drop(index=7)
    mixed = results.drop(columns=[c for c in results if c.startswith("moving")])
    mixed = mixed[mixed["horizon"] == 1].assign(protocol="pooled")
    mixed = pd.concat([mixed, mixed.assign(protocol="per_frame")])
    for bad, words in (
        (results.iloc[:0], "no rows"),
        (nan, "NaN or outside"),
        (twice, "1 rows repeat"),
        (lacking, "ours lacks 1 of 10 samples in T20_TINC1 at horizon 2"),
        (mixed, "mixes the protocols pooled, per_frame"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(bad)
    with pytest.raises(ValueError, match="measure|no measure"):
        draw(results, measure="rms")
    with pytest.raises(ValueError, match="a list of names"):
        draw(results, formats="T20_TINC1")


def test_other_bad_results_are_told(results):
    with pytest.raises(ValueError, match="of next frames; curves over the horizon need rollouts"):
        table = results.drop(columns=[c for c in results if c.startswith("moving")])
        pictures.long_term_curves(table[table["horizon"] == 1].assign(protocol="pooled"))
    with pytest.raises(ValueError, match="nothing of .* at horizon 9"):
        pictures.result_distributions(results, horizon=9)
    with pytest.raises(ValueError, match="comparison is 'truth'"):
        pictures.result_distributions(results, comparisons=["truth"])
    with pytest.raises(ValueError, match="kind is 'pie'"):
        pictures.result_distributions(results, kind="pie")
    with pytest.raises(ValueError, match="nothing at horizon 9"):
        pictures.comparison(results, horizon=9)
    found = evaluation.skill_horizon(results)
    with pytest.raises(ValueError, match="the table is empty"):
        pictures.skill_horizons(found.iloc[:0])
    with pytest.raises(ValueError, match="twice for one format"):
        pictures.skill_horizons(pd.concat([found, found.assign(history=1)]))


@pytest.mark.parametrize(
    ("kind", "lines"),
    [("counts", ["persistence", "ours", "truth"]), ("errors", None), ("surface", None)],
)
def test_shape_curves(rng, kind, lines):
    frames = (rng.random((6, 9, 6, 6, 6)) < 0.2).astype(np.uint8)

    def fading(history):
        return 0.75 * history[:, -1]

    options = {"history": 4, "horizon": 5, "shape": True, "frame_format": "T20_TINC1"}
    ours = evaluation.long_term(fading, frames, name="ours", **options)
    table = evaluation.combine(ours, evaluation.long_term(Persistence(), frames, **options))
    figure = pictures.shape_curves(table, kind=kind, models=["ours", "GAN", "persistence"])
    assert legend_texts(figure) == (lines or ["persistence", "ours"])
    assert "missing: GAN" in texts(figure)
    means = evaluation.shape_means(table, ["model", "horizon"]).set_index(["model", "measure"])
    first, _, last = figure.axes
    if kind == "surface":
        assert line(last, "ours").get_ydata().tolist() == [0, 0, 1, 1, 1]  # 0.75³ is below 0.5
        drawn = line(first, "persistence").get_ydata()
        expected = means.loc[("ours", "persistence_surface_mean"), "mean"]
    else:
        ending = "_error" if kind == "errors" else ""
        drawn = line(first, "ours").get_ydata()
        expected = means.loc[("ours", f"prediction_components{ending}"), "mean"]
    np.testing.assert_allclose(drawn, expected)
    with pytest.raises(ValueError, match="kind is 'volume'"):
        pictures.shape_curves(table, kind="volume")
    with pytest.raises(ValueError, match="nothing in the format 'T80_TINC4'"):
        pictures.shape_curves(table, format="T80_TINC4")
    both = evaluation.combine(table, table.assign(format="T80_TINC4"))
    with pytest.raises(ValueError, match="choose one with format="):
        pictures.shape_curves(both)


@pytest.mark.parametrize("backend", ["static", "matplotlib"])
def test_truth_stands_above_the_comparison(sequence, backend):
    truth, prediction = sequence[8:11], sequence[10:13]
    figure = pictures.compare_3d(
        truth, prediction, captions=["a", "b", "c"], count=2, truth_above=True, backend=backend
    )
    assert len(figure.axes) == 4
    assert {"truth", "prediction", *pictures.OUTCOMES} <= set(texts(figure))
    assert {text.split("\n")[0] for text in texts(figure) if "hit ·" in text} == {"a", "c"}
    image = pixels(figure)
    half = (image.shape[0] - 60) // 2
    green = (image[..., 1] - image[..., 0] > 60) & (image[..., 1] - image[..., 2] > 20)
    assert green[:half].sum() > 500 and not green[half:].any()


def test_an_animation_shows_every_frame(sequence, tmp_path):
    moving = pictures.animate_3d(
        sequence[4:7], sequence[5:8], times=[54, 56, 58], seconds=0.2, size=180
    )
    assert moving.frames == 3 and len(moving.gif) < 100_000
    gif = Image.open(moving.save(tmp_path / "a.gif"))
    assert gif.format == "GIF" and gif.n_frames == 3 and gif.info["loop"] == 0
    shown, stays = [], []
    for n in range(3):
        gif.seek(n)
        stays.append(gif.info["duration"])
        shown.append(np.asarray(gif.convert("RGB")).astype(int))
    assert stays == [200, 200, 600]
    assert np.abs(shown[0] - shown[1]).max() > 50 and np.abs(shown[1] - shown[2]).max() > 50
    assert shown[0].shape[1] == 2 * 180
    for high, low in ((1, 0), (0, 2), (2, 0)):  # green truth, orange misses, blue false alarms
        assert (shown[0][..., high] - shown[0][..., low] > 80).any()
    assert moving._repr_html_().startswith('<img src="data:image/gif;base64,R0lGOD')


def test_an_animation_of_truth_alone_and_of_empty_frames(sequence):
    alone = pictures.animate_3d(sequence[:2], backend="matplotlib", size=150)  # the first is empty
    assert Image.open(io.BytesIO(alone.gif)).size[0] == 150
    for call, words in (
        (lambda: pictures.animate_3d(sequence[3]), r"expected the axes \(T, D, H, W\)"),
        (lambda: pictures.animate_3d(sequence[:2], sequence[:3]), "one shape"),
        (lambda: pictures.animate_3d(sequence[:2], times=[1]), "1 times for 2 frames"),
        (lambda: pictures.animate_3d(sequence[:2], seconds=0), "0.02 to 60 s"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


BODIES = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))


def enclosed(mesh) -> float:
    """The volume by the divergence theorem, from the z parts of the triangles alone."""
    a, b, c = np.moveaxis(np.asarray(mesh.points, float)[mesh.regular_faces], 1, 0)
    upward = np.cross(b - a, c - a)[:, 2] / 2
    return float((upward * (a + b + c)[:, 2] / 3).sum())


@given(BODIES)
def test_exported_meshes_are_closed_and_seen_from_outside(frame):
    mesh = pictures.closed_mesh(frame)
    if not frame.any():
        assert mesh.n_points == 0
        return
    assert mesh.is_manifold and mesh.n_open_edges == 0
    assert enclosed(mesh) == pytest.approx(frame.sum(), rel=0.03)  # positive: normals outward
    assert mesh.volume == pytest.approx(frame.sum(), rel=0.03)
    d, h, w = (np.nonzero(frame.any(axis=axes))[0] for axes in ((1, 2), (0, 2), (0, 1)))
    box = [w[0], w[-1] + 1, h[0], h[-1] + 1, d[0], d[-1] + 1]
    np.testing.assert_allclose(mesh.bounds, box, atol=0.021)
    smooth = pictures.closed_mesh(frame, surface=True)
    assert smooth.is_manifold and enclosed(smooth) > 0


def test_meshes_of_cubes_joined_through_faces_are_exact(sequence):
    mesh = pictures.closed_mesh(sequence[10])
    assert enclosed(mesh) == pytest.approx(sequence[10].sum(), rel=1e-9)
    assert mesh.n_points - mesh.n_cells / 2 == 2  # V - E + F of a sphere
    hollow = np.ones((5, 5, 5))
    hollow[2, 2, 2] = 0
    assert enclosed(pictures.closed_mesh(hollow)) == pytest.approx(124)


def test_a_long_edge_between_two_bodies_is_drawn_apart():
    """Two cubes share an edge, and are joined by others at both of its ends."""
    frame = np.ones((3, 2, 2), bool)
    frame[1, 0, 0] = frame[1, 1, 1] = False
    mesh = pictures.closed_mesh(frame)
    assert mesh.is_manifold
    assert enclosed(mesh) == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_meshes_open_again(sequence, tmp_path, kind):
    import pyvista

    frames = {"truth": sequence[10], "prediction": sequence[12] * 0.6, "gone": sequence[10] * 0.4}
    written = pictures.export_meshes(frames, tmp_path / "new", kind=kind)
    assert written["gone"] is None
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        f"truth.{kind}",
        f"prediction.{kind}",
    }
    for name in ("truth", "prediction"):
        mesh = pyvista.read(written[name]).clean()  # STL holds each triangle by itself
        assert mesh.is_manifold
        volume = (frames[name] > 0).sum()
        assert enclosed(mesh) == pytest.approx(volume, rel=1e-3)
    again = pictures.export_meshes({"truth": 0 * sequence[10]}, tmp_path / "new", kind=kind)
    assert again == {"truth": None} and not written["truth"].exists()
    for bad, options, words in (
        ({}, {}, "name -> values"),
        ({"a": sequence}, {}, r"expected the axes \(D, H, W\)"),
        ({"../a": sequence[3]}, {}, "not a file name"),
        ({"a": sequence[3]}, {"kind": "obj"}, "kind is 'obj'"),
    ):
        with pytest.raises(ValueError, match=words):
            pictures.export_meshes(bad, tmp_path / "bad", **options)
    assert not (tmp_path / "bad").exists()
