"""Imports run one way, from what everything rests on to what the course shows."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A module imports those of earlier lines, and those of its own.
ORDER = """
_checks _files _processes workshop _lab
world world.cavities world.ideal
records sources sources.generated sources.thesis sources.commands
sequences
metrics
sources.readers sources.own
topology
rollout
models models.weights
training
models.shared
convlstm
models.cnn models.surfacenet models.thesis
models.aencgan
wgan_gp
models.register
published
evaluation
pictures.style
pictures.concepts
pictures pictures.process pictures.frames pictures.solids pictures.curves pictures.results
panels panels.progress panels.viewer panels.settings panels.explorer
panels.runs
panels.laboratory
exercises exercises._shared
"""
PLACES = {name: place for place, line in enumerate(ORDER.split("\n")) for name in line.split()}
# What a function imports when it is called, against the order.
LATE = {("records", "sources.commands"), ("models", "models.register")}


def modules() -> dict[str, Path]:
    """Return all modules of helpers, without those that only start something."""
    found = {}
    for path in (ROOT / "helpers").rglob("*.py"):
        *folders, name = path.relative_to(ROOT / "helpers").with_suffix("").parts
        name = ".".join(folders if name == "__init__" else [*folders, name])
        if name and not name.endswith("__main__"):
            found[name] = path
    return found


def imported(path: Path, known) -> set[str]:
    """Return the modules of helpers that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    assert not any(name.partition(".")[0] in ("data", "tests") for name in names), path
    return {name.removeprefix("helpers.") for name in names} & set(known)


def place(name: str) -> int:
    return PLACES["exercises" if name.startswith("exercises.notebook_") else name]


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_one_way(name):
    known = modules()
    later = {
        other
        for other in imported(known[name], known)
        if place(other) > place(name) and (name, other) not in LATE
    }
    assert not later


def test_world_checks_and_distances_need_no_tensorflow():
    code = """if True:
        import sys
        sys.modules["tensorflow"] = sys.modules["keras"] = None
        import numpy as np
        from helpers import _checks, metrics, sequences
        from helpers.world import cavities, ideal
        frames = next(cavities.generate(1, seed=1)).frames
        order = sequences.Order(sequences.T20_TINC1, sequences.Windows(3), 4, seed=1)
        assert len(order.batch(1)[0]) == 32
        print(metrics.jaccard_distance(frames[0], frames[0]))
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "0.0\n"


def test_loss_schedule_and_callbacks_need_keras_alone():
    code = """if True:
        import sys
        from unittest import mock
        for name in ("tensorflow", "ipywidgets", "matplotlib"):
            sys.modules[name] = None
        # Keras on NumPy has its convolutions from JAX, which this does not need.
        for name in ("jax", "keras.src.backend.jax", "keras.src.backend.jax.math"):
            sys.modules[name] = mock.MagicMock()
        import keras
        import numpy as np
        from helpers import training
        truth, guess = np.zeros((2, 1, 4, 4, 4, 1)), np.full((2, 1, 4, 4, 4, 1), 0.5)
        plan = training.Plan(steps=4, learning_rate=1.0, warm_up=2)
        training.Checkpoint("run", plan), training.Stop("run")
        rate, loss = plan.schedule()(0), training.voxel_loss(2.0)(truth, guess)
        print(keras.backend.backend(), float(rate), float(loss) - np.log(2))
    """
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    options = {"capture_output": True, "text": True, "cwd": ROOT, "env": environment}
    told = subprocess.run([sys.executable, "-c", code], **options)
    assert told.returncode == 0, told.stderr
    backend, rate, distance = told.stdout.split()
    assert backend == "numpy" and float(rate) == 0.5
    assert float(distance) == pytest.approx(2.0)
