"""Where PyVista draws: a process of its own, and what it does there.

PyVista's software OpenGL and TensorFlow bring two LLVMs, which crash in one process (see
`helpers/__init__.py`), and a crash there leaves the notebook alive. Python's own pools would
import a script of the user's there, and TensorFlow with it.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers._checks import voxels
from helpers.pictures.style import FAINT, FALSE_ALARM, FILLED, HIT, INK, MISS


class Worker:
    """The process that draws: started at the first picture, one picture at a time.

    A worker that never drew anything isn't tried again; one that drew before is started anew.
    """

    def __init__(self, command: Sequence[str]):
        self.command = command
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._drew = self._given_up = False

    def draw(self, scene: dict, backend: str):
        """Return the image (H, W, 3) or the HTML page of a scene, or None after a warning."""
        with self._lock:
            if self._given_up:
                return None
            try:
                if self.process is None or self.process.poll() is not None:
                    self.start()
                pickle.dump((scene, backend), self.process.stdin)
                self.process.stdin.flush()
                drawn, answer = pickle.load(self.process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                drawn, answer = False, f"its process did not start, or crashed: {error}"
            except BaseException:
                # Interrupted half-way: the answer would be taken for that of the next picture.
                self.stop()
                raise
            self._drew |= drawn
            self._given_up = not self._drew
        if drawn:
            return answer
        warnings.warn(
            f"PyVista can't draw here ({answer}), so matplotlib draws instead. On Linux PyVista "
            "needs OpenGL libraries (Debian and Ubuntu: libgl1, libegl1). WORKSHOP_3D=matplotlib "
            "asks for these pictures without this message.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # VTK says that it found no screen, which is as it should be.
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[2],
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()


@functools.cache
def worker() -> Worker:
    """Return the one worker of this notebook."""
    found = Worker([sys.executable, "-c", "from helpers.pictures.process import serve; serve()"])
    atexit.register(found.stop)
    return found


def serve() -> None:
    """Draw the scenes that arrive on stdin and answer on stdout, until stdin ends.

    This is what the separate process runs; both directions carry pickles between the notebook
    and its own child.
    """
    # An interrupt of the notebook reaches its children too; the notebook decides what to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between the answers.
    os.dup2(2, 1)
    while True:
        try:
            scene, backend = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, _drawn(scene, backend))
        except Exception as error:  # told to the notebook, which falls back
            answer = (False, repr(error))
        pickle.dump(answer, answers)
        answers.flush()


def _drawn(scene: dict, backend: str) -> np.ndarray | str:
    """Take a screenshot, or write a page that brings its own viewer and needs no server."""
    plotter = _plotter(scene, letters=backend == "html")
    if backend == "html":
        found = plotter.trame.export_html(None).getvalue()
    else:
        plotter.enable_anti_aliasing("msaa", multi_samples=8)
        found = np.ascontiguousarray(plotter.screenshot(return_img=True)[..., :3])
    plotter.close()
    return found


def _plotter(scene: dict, *, letters: bool):
    """Build the PyVista scene: one linked view for each panel, every box scaled to edge 1."""
    import pyvista

    rows, columns, size = scene["rows"], scene["columns"], scene["size"]
    shape = {"shape": (rows, columns), "window_size": (columns * size, rows * size)}
    plotter = pyvista.Plotter(**shape, border=False, off_screen=True)
    plotter.set_background("white")
    for n, panel in enumerate(scene["panels"]):
        plotter.subplot(*divmod(n, columns))
        scale = 1 / max(panel["shape"])
        depth, height, width = np.array(panel["shape"]) * scale
        box = pyvista.Box((0, width, 0, height, 0, depth)).extract_all_edges()
        plotter.add_mesh(box, color=FAINT, line_width=1)
        for filled, look in panel["layers"]:
            if filled.any():
                _add(plotter, filled, look, scale)
        if letters:
            # As geometry: the viewer in the browser has no text of its own.
            for letter, where in (
                ("W", (width / 2, -0.12, 0)),
                ("H", (width + 0.12, height / 2, 0)),
                ("D", (-0.12, 0, depth / 2)),
            ):
                mesh = pyvista.Text3D(letter, depth=0.001, height=0.09)
                # Upright, facing the side of small H, where the camera starts.
                mesh.rotate_x(90, inplace=True)
                mesh.translate(np.array(where) - mesh.center, inplace=True)
                plotter.add_mesh(mesh, color=INK, lighting=False)
        plotter.enable_parallel_projection()
    plotter.link_views()
    toward, _, _, half = lens(scene["view"])
    # The viewer in the browser knows perspective only; further away it shows as much.
    distance = (1.25 if letters else 1) * half / np.tan(np.radians(15))
    centre = np.array([0.5, 0.5, 0.5])
    plotter.camera_position = [centre + toward * distance, centre, (0, 0, 1)]
    plotter.camera.parallel_scale = half
    for renderer in plotter.renderers:
        renderer.reset_camera_clipping_range()
    return plotter


def _add(plotter, filled: np.ndarray, look: str, scale: float) -> None:
    """Add voxels to a plotter in one of the looks cubes, surface, hit, miss and false alarm."""
    edges = {"show_edges": True, "edge_color": INK, "line_width": 1}
    style = {
        "cubes": {"color": FILLED, **edges},
        "surface": {"color": FILLED, "smooth_shading": True},
        "hit": {"color": HIT, **edges},
        "miss": {"color": MISS, "style": "wireframe", "line_width": 2},
        "false alarm": {"color": FALSE_ALARM},
    }[look]
    if look == "surface":
        mesh = surface_mesh(filled)
    else:
        mesh = cubes_mesh(filled, shrink=0.6 if look == "false alarm" else 1)
    mesh.points = mesh.points * scale
    plotter.add_mesh(mesh, ambient=0.45, diffuse=0.7, **style)


def cubes_mesh(filled: np.ndarray, shrink: float = 1):
    """Make a mesh of the filled voxels (D, H, W): (d, h, w) is w…w+1, h…h+1, d…d+1 in x, y, z."""
    import pyvista

    grid = pyvista.ImageData(dimensions=tuple(n + 1 for n in filled.shape[::-1]))
    # VTK counts cells with x fastest; so does C order, where the last axis is W.
    cubes = grid.extract_cells(np.flatnonzero(filled))
    if shrink < 1:
        cubes = cubes.shrink(shrink)
    mesh = cubes.extract_surface(algorithm="dataset_surface")
    mesh.clear_data()
    return mesh


def surface_mesh(frame):
    """Make a mesh that other programs can open, the surface of a frame: `mesh.save("body.stl")`.

    The surface is found by marching cubes, smoothed by Taubin's filter and closed: it consists of
    triangles, each edge belongs to two of them, and normals point outward, so that the mesh bounds
    a body. Smoothing takes volume from small pieces. An empty frame has no points.

    Args:
        frame: (D, H, W), values 0…1; filled means value >= 0.5.

    Returns:
        pyvista.PolyData in voxels, x along W, y along H and z along D.
    """
    import pyvista

    filled = voxels("frame", frame, axes=(3,)) >= 0.5
    # Points at the voxel centres, with an empty margin that closes the surface at the walls.
    padded = np.pad(filled.astype(np.float32), 1)
    grid = pyvista.ImageData(dimensions=padded.shape[::-1], origin=(-0.5, -0.5, -0.5))
    grid.point_data["filled"] = padded.ravel()
    mesh = grid.contour([0.5], scalars="filled")
    mesh.clear_data()
    return mesh.smooth_taubin(n_iter=20, pass_band=0.08) if mesh.n_points else mesh


def lens(view: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return how a camera sees the unit cube, from its turn and tilt in degrees.

    Returns:
        Unit vectors from the centre to the camera, and rightward and upward in the image; half the
        height of a view that holds the cube and its labels.
    """
    turn, tilt = np.radians(view)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    ahead = np.array([-np.sin(turn), np.cos(turn), 0.0])
    up = np.sin(tilt) * ahead + np.cos(tilt) * np.array([0.0, 0.0, 1.0])
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    half = 1.16 * max(np.abs(corners @ right).max(), np.abs(corners @ up).max())
    return np.cross(right, up), right, up, half
