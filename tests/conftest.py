"""Fixtures shared by all tests."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from hypothesis import settings

import helpers  # noqa: F401  (must come before TensorFlow, see helpers/__init__.py)

settings.register_profile("course", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("course")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """What reads the thesis's records belongs to the slow tests."""
    for item in items:
        if "thesis_folder" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


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
