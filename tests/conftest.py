"""Fixtures shared by all tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from hypothesis import settings

import helpers  # noqa: F401  (must come before TensorFlow, see helpers/__init__.py)

settings.register_profile("course", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("course")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def sample_set() -> Path:
    """The generated sample set that the repository ships."""
    return REPOSITORY / "data" / "sample"


@pytest.fixture(scope="session")
def thesis_folder() -> Path:
    """The thesis's records, weights and figures; the test is skipped where they are absent."""
    folder = os.environ.get("THESIS_FOLDER")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the thesis data are not here: set THESIS_FOLDER to run this test")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def preload(tmp_path_factory):
    """Compile a small library that puts the file system into trouble; return its path."""
    if not (sys.platform.startswith("linux") and shutil.which("gcc")):
        pytest.skip("needs Linux and gcc")
    folder = tmp_path_factory.mktemp("preload")

    def build(name: str) -> Path:
        made = folder / f"{name}.so"
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-o",
            made,
            REPOSITORY / "tests" / "cases" / f"{name}.c",
            "-ldl",
        ]
        subprocess.run(command, check=True)
        return made

    return build
