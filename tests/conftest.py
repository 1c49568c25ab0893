"""Fixtures shared by all tests."""

import errno
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As the course sets it: a test that imports TensorFlow by itself must not turn these kernels off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Tests run two at a time, and OpenBLAS's threads wait for each other in a busy loop.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

import helpers  # noqa: F401  (must come before TensorFlow, see helpers/__init__.py)

settings.register_profile("course", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("course")

# A shell's background job ignores Ctrl-C; here it counts, however the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture
def full_disk(monkeypatch):
    """A function that lets the disk be full when so many records are to be written."""
    from helpers import records

    def fill(number: int) -> None:
        write, count = records.write_sample, []

        def full(*arguments):
            count.append(0)
            if len(count) == number:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(*arguments)

        monkeypatch.setattr(records, "write_sample", full)

    return fill


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
def lab() -> list[str]:
    """What opens the course: the recipe of the Makefile begins it, too."""
    begin = (
        f"import sys; sys.path[0] = {str(REPOSITORY)!r}; from helpers.__main__ import main; main()"
    )
    return [sys.executable, "-c", begin, "lab"]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> dict[str, str]:
    """An environment with settings of the user's own that have broken the course before."""
    home = tmp_path_factory.mktemp("home")
    settings = {
        ".jupyter/jupyter_server_config.py": "c.ServerApp.root_dir = '/'",
        ".jupyter/jupyter_lab_config.py": "this is no Python",
        ".keras/keras.json": '{"image_data_format": "channels_first", "floatx": "float16"}',
        ".ipython/profile_default/startup/00.py": "raise SystemExit('a start-up file of mine')",
        "others/kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "mine"}',
        "packages/helpers/__init__.py": "",
        "packages/helpers/workshop.py": "",
    }
    for name, text in settings.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")},
        "HOME": str(home),
        "JUPYTER_PATH": str(home / "others"),
        "PYTHONPATH": str(home / "packages"),
        "KERAS_BACKEND": "jax",
    }
