"""The workshop's set-up: quick or full, where the data are, and what this machine is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
SPLITS = {
    "training": "00_4D_training_datasets",
    "validation": "01_4D_validation_datasets",
    "test": "02_4D_test_datasets",
}

REMEDY = "set WORKSHOP_CACHE to a folder on a disk of this machine that you may write to"


@dataclass(frozen=True)
class Profile:
    """How much a notebook does: every loop of the course takes its size from here.

    Attributes:
        name: `"quick"` (each notebook under a minute on two cores) or `"full"`.
        sequences: at most so many sequences are read per split.
        horizon: so many steps ahead are forecast in rollouts.
    """

    name: str
    sequences: int
    horizon: int


PROFILES = {
    "quick": Profile("quick", sequences=64, horizon=5),
    "full": Profile("full", sequences=1000, horizon=10),
}


def profile(mode: str | None = None) -> Profile:
    """Choose the profile by name, or else by the environment variable `WORKSHOP_MODE`.

    Without either it is `full` on a machine with an NVIDIA GPU and `quick` elsewhere.

    Raises:
        ValueError: the name is neither `quick` nor `full`.
    """
    mode = mode or os.environ.get("WORKSHOP_MODE") or ("full" if _gpus() else "quick")
    if mode not in PROFILES:
        raise ValueError(f"WORKSHOP_MODE is {mode!r}; choose one of {', '.join(PROFILES)}.")
    return PROFILES[mode]


def data_folder() -> Path:
    """Return the folder of records in thesis layout: `WORKSHOP_DATA`, or the sample set.

    A relative `WORKSHOP_DATA` counts from the top folder of the course, wherever a notebook runs.

    Raises:
        FileNotFoundError: the folder does not hold the three split folders.
    """
    folder = REPOSITORY / Path(os.environ.get("WORKSHOP_DATA") or "data/sample").expanduser()
    missing = [name for name in SPLITS.values() if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder} does not hold {', '.join(missing)}. WORKSHOP_DATA must name a folder with "
            f"the three split folders {', '.join(SPLITS.values())}; unset it to use the sample set."
        )
    return folder.resolve()


def cache_folder() -> Path:
    """Return the folder for caches and downloads: `WORKSHOP_CACHE`, or the user's cache folder.

    A relative `WORKSHOP_CACHE` counts from the top folder of the course, wherever a notebook runs.

    Raises:
        OSError: the user has no home folder, and no other is named.
    """
    try:
        if chosen := os.environ.get("WORKSHOP_CACHE"):
            return (REPOSITORY / Path(chosen).expanduser()).resolve()
        folder = Path(platformdirs.user_cache_dir("forecasting-4d", appauthor=False))
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():  # "~" stays where there is no home
        raise OSError(f"The user's home folder is not known; {REMEDY}.")
    return folder


def split_folder(split: str) -> Path:
    """Return the folder of one split (`training`, `validation` or `test`) in `data_folder()`.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return data_folder() / SPLITS[split]


def start(seed: int = 1) -> Profile:
    """Seed NumPy, Python and Keras, print one line about the machine, return the profile.

    The line names versions and the device; it differs between machines, so no test compares it.
    """
    tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    chosen = profile()
    versions = " · ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy")
    )
    print(f"Python {platform.python_version()} · {versions} · {device()} · {chosen.name} mode")
    return chosen


def device() -> str:
    """Name what TensorFlow computes on, for example `CPU, 2 cores` or `GPU: NVIDIA T4`."""
    gpus = _gpus()
    if gpus:
        return "GPU: " + ", ".join(gpus)
    return f"CPU, {cores()} core" + "s" * (cores() > 1)


def machine_table() -> pd.DataFrame:
    """Tabulate what the course finds here, what it needs, and what to do where that is too little.

    Returns:
        A table with one row per item and the columns `found`, `needed` and `verdict`.
    """
    import pandas as pd
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    disk = psutil.disk_usage(str(REPOSITORY)).free / 2**30
    here = Path(__file__).resolve().parent
    is_ours = here == Path.cwd().resolve().parent / "helpers"
    rows = [
        ("Python", platform.python_version(), "3.10 to 3.13", "ok"),
        *(
            (name, importlib.metadata.version(name), "as pinned", "ok")
            for name in ("tensorflow", "keras", "numpy", "pyvista", "jupyterlab")
        ),
        ("device", device(), "CPU is enough", "ok"),
        ("cores", cores(), "2", "ok" if cores() >= 2 else "works, slower"),
        ("memory, GB", round(memory), "4", "ok" if memory >= 3.5 else "close other programs"),
        ("free disk, GB", round(disk), "2", "ok" if disk >= 2 else "free some space"),
        (
            "helpers",
            os.path.relpath(here) if is_ours else str(here),
            os.path.join("..", "helpers"),
            "ok" if is_ours else "another copy of the course is installed: run make lab here",
        ),
    ]
    return pd.DataFrame(rows, columns=["item", "found", "needed", "verdict"]).set_index("item")


def cores() -> int:
    """Return how many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def tensorflow() -> ModuleType:
    """Import TensorFlow and return it, without the messages that its libraries print meanwhile.

    Raises:
        ImportError: TensorFlow cannot be imported; what it printed is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow turns oneDNN's kernels on by itself on some processors only. On one with AVX2 on
    # which it does not, they made the training of a PatchNet 1.7 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    # The libraries write to the process's error stream itself, which no Python setting reaches.
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except Exception:
            messages.seek(0)
            os.write(kept, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return tf


def _gpus() -> list[str]:
    tf = tensorflow()
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", "?")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
