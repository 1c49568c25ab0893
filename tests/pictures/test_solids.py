"""Frames in 3D, in a picture, a scene, a film and a mesh; and where PyVista cannot draw."""

import io
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from figures import pixels, shown, texts
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from mpl_toolkits.mplot3d import proj3d
from PIL import Image

from helpers import pictures
from helpers.pictures import process, solids

REPOSITORY = Path(__file__).resolve().parents[2]


PAINTER = """
import pickle, sys, numpy as np
while True:
    scene, _ = pickle.load(sys.stdin.buffer)
    pickle.dump((True, np.zeros((scene["size"],) * 2 + (3,), np.uint8)), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def spare_worker(monkeypatch):
    """Make pictures draw with another worker; without a command it paints everything black."""
    workers = []

    def use(*command):
        worker = process.Worker(command or [sys.executable, "-c", PAINTER])
        monkeypatch.setattr(process, "worker", lambda: worker)
        workers.append(worker)
        return worker

    yield use
    for worker in workers:
        worker.stop()


def test_a_voxel_is_in_its_place_in_the_mesh(one_voxel):
    for mesh in (process.cubes_mesh(one_voxel), pictures.surface_mesh(one_voxel)):
        np.testing.assert_allclose(mesh.center, (1.5, 3.5, 12.5), atol=1e-3)
    cubes = process.cubes_mesh(one_voxel)
    assert cubes.bounds == (1, 2, 3, 4, 12, 13)
    assert cubes.triangulate().volume == pytest.approx(1)
    assert pictures.surface_mesh(0 * one_voxel).n_points == 0


def test_static_pictures_draw_after_tensorflow_was_imported(sequence):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = pictures.view_3d(sequence, times=range(20), count=3)
    assert len(shown(figure)) == 3
    assert {"t = 0", "t = 10", "t = 19", "W", "H", "D"} <= set(texts(figure))
    assert len(figure.png()) < 150_000
    assert int(tf.reduce_sum(tf.ones(3))) == 3


def test_a_voxel_is_in_its_place_in_3d():
    corners = (0, 0, 0), (15, 0, 15), (15, 15, 0)
    frames = np.zeros((3, 16, 16, 16), np.uint8)
    for frame, corner in zip(frames, corners):
        frame[corner] = 1
    for panel, corner in zip(shown(pictures.view_3d(frames, size=300)), corners, strict=True):
        image = panel.images[0].get_array().astype(int)
        # Green is what is neither white, nor grey like the box and the edges.
        rows, columns = np.nonzero(image[..., 1] - image[..., 0] > 60)
        found = columns.mean() + 0.5, rows.mean() + 0.5
        expected = solids._project((np.array([corner[::-1]]) + 0.5) / 16, 300, solids.VIEW)[0]
        np.testing.assert_allclose(found, expected, atol=2)


def test_3d_axes_point_right_away_and_up():
    origin, w, h, d = solids._project(np.vstack([np.zeros(3), np.eye(3)]), 100, solids.VIEW)
    assert w[0] > origin[0] + 30
    assert h[0] > origin[0] and h[1] < origin[1]
    assert d[1] < origin[1] - 30 and d[0] == pytest.approx(origin[0])


def test_frames_of_different_sizes_share_a_row(sequence):
    large = np.kron(sequence[10], np.ones((3, 3, 3), np.uint8))
    figure = pictures.view_3d([large, sequence[10]], surface=[True, False], captions=["48³", "16³"])
    assert len(shown(figure)) == 2 and {"48³", "16³", "48", "16"} <= set(texts(figure))


@pytest.mark.parametrize("backend", ["static", "matplotlib"])
def test_an_empty_frame_is_an_empty_box_with_a_note(backend):
    figure = pictures.view_3d(np.zeros((16, 16, 16)), backend=backend)
    assert "empty" in texts(figure)
    assert figure.png()


@pytest.mark.parametrize("backend", ["static", "matplotlib"])
def test_comparison_in_3d_counts_and_shows_all_three(sequence, backend):
    truth, prediction = sequence[8:9], sequence[10:11]
    figure = pictures.compare_3d(truth, prediction, times=[8], backend=backend)
    assert len(figure.axes) == 1
    hits, true, predicted = (x.sum() for x in (truth[0] & prediction[0], truth[0], prediction[0]))
    counts = f"{hits} hit · {true - hits} miss · {predicted - hits} false"
    assert f"t = 8\n{counts}" in texts(figure)
    assert set(solids.OUTCOMES) <= set(texts(figure))
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
        right, down = solids._project(np.array([[w, 0.0, d]]) / 4, 300, solids.VIEW)[0]
        return image[int(down), int(right)]

    assert np.ptp(colour(0.5, 0.6)) < 12 and colour(0.5, 0.6).max() < 230, "a hit is grey"
    assert colour(3.4, 0.6).min() > 230, "one looks through a miss"
    red, _, blue = colour(0.5, 3.5)
    assert blue - red > 80, "a false alarm is blue"
    assert colour(0.08, 3.15).min() > 200, "and smaller than its voxel"


def test_html_scene_loads_nothing_from_elsewhere(sequence):
    scene = pictures.compare_3d(sequence[8], sequence[10], times=[8], backend="html")
    page = scene.page
    assert len(page) < 3_000_000
    tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page)
    assert tags and not [tag for tag in tags if re.search(r"\b(?:src|href)\s*=", tag)]
    outside = r"""(?:@import|\bimport\s*\(|\bimportScripts\s*\(|\bfetch\s*\()\s*["'`]?https?:"""
    assert not re.search(outside, page)
    shown_html = scene._repr_html_()
    assert "srcdoc=" in shown_html and "t = 8" in shown_html and "Blue: false alarm" in shown_html


def test_matplotlib_on_request_draws_a_voxel_in_its_place_without_a_word(one_voxel, monkeypatch):
    monkeypatch.setattr(process, "worker", lambda: pytest.fail("no process is needed"))
    monkeypatch.setenv("WORKSHOP_3D", "matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = pictures.view_3d(one_voxel, backend="html").axes[0]
    assert [axes.get_xlabel(), axes.get_zlabel()] == ["W", "D"]
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
    broken = "import sys; sys.modules['pyvista'] = None; from helpers.pictures import process; "
    broken += "process.serve()"
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
        "print(pictures.solids.process.worker().process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not psutil.pid_exists(int(done.stdout))


def test_truth_stands_above_the_comparison(sequence):
    truth, prediction = sequence[8:11], sequence[10:13]
    options = {"captions": ["a", "b", "c"], "count": 2, "truth_above": True}
    figure = pictures.compare_3d(truth, prediction, **options)
    panels = shown(figure)
    assert len(panels) == 4
    assert panels[2].get_position().y1 <= panels[0].get_position().y0 + 1e-6
    assert {"truth", "prediction", *solids.OUTCOMES} <= set(texts(figure))
    assert {text.split("\n")[0] for text in texts(figure) if "hit ·" in text} == {"a", "c"}
    image = pixels(figure)
    half = (image.shape[0] - 60) // 2
    green = (image[..., 1] - image[..., 0] > 60) & (image[..., 1] - image[..., 2] > 20)
    assert green[:half].sum() > 500 and not green[half:].any()


def test_an_animation_shows_every_frame(sequence, monkeypatch):
    monkeypatch.setenv("WORKSHOP_3D", "html")  # which makes no scene of it
    moving = pictures.animate_3d(sequence[4:7], sequence[5:8], times=[54, 56, 58])
    assert len(moving.gif) < 100_000
    gif = Image.open(io.BytesIO(moving.gif))
    assert gif.format == "GIF" and gif.n_frames == 3 and gif.info["loop"] == 0
    shown, stays = [], []
    for n in range(3):
        gif.seek(n)
        stays.append(gif.info["duration"])
        shown.append(np.asarray(gif.convert("RGB")).astype(int))
    assert stays == [500, 500, 1500]
    assert np.abs(shown[0] - shown[1]).max() > 50 and np.abs(shown[1] - shown[2]).max() > 50
    assert shown[0].shape[1] == 2 * 230
    for high, low in ((1, 0), (0, 2), (2, 0)):  # green truth, orange misses, blue false alarms
        assert (shown[0][..., high] - shown[0][..., low] > 80).any()
    assert 'src="data:image/gif;base64,R0lGOD' in moving._repr_html_()


BODIES = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))


def enclosed(mesh) -> float:
    """The volume by the divergence theorem, from the z parts of the triangles alone."""
    a, b, c = np.moveaxis(np.asarray(mesh.points, float)[mesh.regular_faces], 1, 0)
    upward = np.cross(b - a, c - a)[:, 2] / 2
    return float((upward * (a + b + c)[:, 2] / 3).sum())


@settings(max_examples=30)
@given(BODIES)
def test_surfaces_are_closed_and_seen_from_outside(frame):
    mesh = pictures.surface_mesh(frame)
    if not frame.any():
        assert mesh.n_points == 0
        return
    assert mesh.is_all_triangles and mesh.is_manifold and mesh.n_open_edges == 0
    assert enclosed(mesh) > 0  # normals point outward
    assert mesh.volume == pytest.approx(enclosed(mesh), rel=1e-4)


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_meshes_open_again(sequence, tmp_path, kind):
    import pyvista

    path = tmp_path / f"body.{kind}"
    pictures.surface_mesh(0.6 * sequence[10]).save(path)
    mesh = pyvista.read(path).clean()  # STL holds each triangle by itself
    assert mesh.is_manifold
    assert enclosed(mesh) == pytest.approx(sequence[10].sum(), rel=0.1)  # smoothing rounds it off
