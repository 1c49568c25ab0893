"""The workshop's set-up: quick or full, where the data are, and what this machine is."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import platformdirs

from helpers import _checks

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).resolve().parent
# Where helpers was installed without the course, paths count from the folder that we work in.
REPOSITORY = HERE.parent if (HERE.parent / "notebooks").is_dir() else Path.cwd()
SPLITS = {
    "training": "00_4D_training_datasets",
    "validation": "01_4D_validation_datasets",
    "test": "02_4D_test_datasets",
}

CONTAINER = Path("/sys/fs/cgroup")  # what Linux says of the limits of ours (control groups, v2)
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
    """
    mode = mode or os.environ.get("WORKSHOP_MODE") or ("full" if _gpus() else "quick")
    return PROFILES[_checks.choice("WORKSHOP_MODE", mode, PROFILES)]


def shipped(path: Path, instead: str = "") -> Path:
    """Return the path of what comes with the course, if it is there.

    Args:
        instead: what else helps those who have `helpers` alone, for the error.

    Raises:
        FileNotFoundError: it is not, since `helpers` was installed without the course.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: this is helpers without the course. Fetch the whole course and "
            f"run make lab in its folder{instead}."
        )
    return path


def data_folder() -> Path:
    """Return the folder of records in thesis layout: `WORKSHOP_DATA`, or the sample set.

    A relative `WORKSHOP_DATA` counts from the top folder of the course, wherever a notebook runs.
    """
    if named := os.environ.get("WORKSHOP_DATA"):
        folder = REPOSITORY / Path(named).expanduser()
    else:
        instead = ", or set WORKSHOP_DATA to a folder of records"
        folder = shipped(REPOSITORY / "data" / "sample", instead)
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
    """
    try:
        usual = platformdirs.user_cache_dir("forecasting-4d", appauthor=False)
        return (REPOSITORY / Path(os.environ.get("WORKSHOP_CACHE") or usual).expanduser()).resolve()
    except RuntimeError:
        raise OSError(f"The user's home folder is not known; {REMEDY}.") from None


def split_folder(split: str) -> Path:
    """Return the folder of one split (`training`, `validation` or `test`) in `data_folder()`."""
    name = SPLITS[_checks.choice("split", split, SPLITS)]
    return data_folder() / name


def start(seed: int = 1) -> Profile:
    """Seed NumPy, Python and Keras, print one line about the machine, return the profile.

    The line names versions and the device; it differs between machines, so no test compares it.
    """
    tensorflow()
    keras().utils.set_random_seed(seed)
    chosen = profile()
    versions = " · ".join(f"{name} {version}" for name, version in _versions().items())
    print(f"Python {platform.python_version()} · {versions} · {device()} · {chosen.name} mode")
    return chosen


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}


@dataclass(frozen=True)
class Hardware:
    """How this machine is used; made by `hardware`.

    Attributes:
        policy: the Keras dtype policy, `float32` or `mixed_float16`.
        xla: whether the training step is compiled with XLA: `jit_compile` of `model.compile`.
    """

    policy: str
    xla: bool

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build and compile the model in here: sets the dtype policy."""
        # Keras keeps the policy per thread, and clear_session forgets it: so it is set here.
        config = keras().config
        before = config.dtype_policy()
        config.set_dtype_policy(self.policy)
        try:
            yield
        finally:
            config.set_dtype_policy(before)


def hardware(*, seed: int | None = None) -> Hardware:
    """Choose how this machine is used: the one place for device set-up.

    With a GPU: memory as needed instead of all at once, float16 arithmetic with float32 weights,
    and XLA. On a CPU neither helps, so everything stays float32 and uncompiled.

    Several GPUs share each batch if the model is built and compiled, without XLA, within
    `tf.distribute.MirroredStrategy().scope()`. Their number has to divide `batch_size`.

    Args:
        seed: also seed Python, NumPy and Keras.
    """
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Too late once TensorFlow has used the GPU; then it has all the memory already.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    if seed is not None:
        keras().utils.set_random_seed(seed)
    return Hardware("mixed_float16" if gpus else "float32", bool(gpus))


def machine() -> dict[str, str]:
    """Describe this machine for a card: device, processor and versions; no host, user or path."""
    processor = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = next(iter(named), processor)
    return {
        "device": device(),
        "processor": processor or platform.machine(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **_versions(),
    }


def device() -> str:
    """Name what TensorFlow computes on, for example `CPU, 2 cores` or `GPU: NVIDIA T4`."""
    gpus = _gpus()
    if gpus:
        return "GPU: " + ", ".join(gpus)
    unused = ", and a GPU that TensorFlow does not use" if _nvidia() else ""
    return f"CPU, {cores()} core" + "s" * (cores() > 1) + unused


def machine_table() -> pd.DataFrame:
    """Tabulate what the course finds here, what it needs, and what to do where that is too little.

    Returns:
        A table with one row per item and the columns `found`, `needed` and `verdict`.
    """
    import pandas as pd
    import psutil

    whole = memory()[0] / 2**30
    disk = psutil.disk_usage(str(REPOSITORY)).free / 2**30
    gpu = "see the messages above: make lab GPU=1 installs what TensorFlow needs"
    rows = [
        ("Python", platform.python_version(), "3.10 to 3.13", "ok"),
        *(
            (name, importlib.metadata.version(name), "as pinned", "ok")
            for name in ("tensorflow", "keras", "numpy", "pyvista", "jupyterlab")
        ),
        ("device", device(), "CPU is enough", gpu if _nvidia() and not _gpus() else "ok"),
        ("cores", cores(), "2", "ok" if cores() >= 2 else "works, slower"),
        ("memory, GB", round(whole, 1), "3", "ok" if whole > 2.8 else "close other programs"),
        ("free disk, GB", round(disk), "1", "ok" if disk >= 1 else "free some space"),
    ]
    return pd.DataFrame(rows, columns=["item", "found", "needed", "verdict"]).set_index("item")


def cores() -> int:
    """Return how many processor cores this process may use, in its container if it has one."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no container, or "max": no limit
        quota, period = (CONTAINER / "cpu.max").read_text().split()
        count = min(count, int(quota) // int(period))
    return max(count, 1)


def memory() -> tuple[int, int]:
    """Return how many bytes of memory there are, and how many are free: here or in the container.

    What a container keeps of files that it has read counts as free: the kernel gives it back.
    """
    import psutil

    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    with contextlib.suppress(OSError, ValueError):
        most, used = (int((CONTAINER / f"memory.{n}").read_text()) for n in ("max", "current"))
        inside = dict(map(str.split, (CONTAINER / "memory.stat").read_text().splitlines()))
        total, free = min(total, most), min(free, most - used + int(inside["inactive_file"]))
    return total, max(free, 0)


def keras() -> ModuleType:
    """Return Keras: on the backend on which it is loaded already, or else on the quiet TensorFlow.

    So what is written in Keras alone also runs for those who have imported Keras on JAX or PyTorch.
    """
    loaded = sys.modules.get("keras")
    if loaded is None or loaded.backend.backend() == "tensorflow":
        tensorflow()
    return sys.modules["keras"]


def tensorflow() -> ModuleType:
    """Import TensorFlow and return it, with Keras on top of it, whatever the user's settings say.

    Its libraries print a good deal meanwhile. That is shown only where it matters: if the import
    fails or ends the process, or if there is a GPU that TensorFlow does not use.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if _nvidia() else "3")
    # TensorFlow turns oneDNN's kernels on by itself on some processors only. On one with AVX2 on
    # which it does not, they made the training of a CNN 1.7 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "tensorflow" not in sys.modules:
        with _unless_needed() as messages:
            import tensorflow as tf

            messages.needed = _nvidia() and not tf.config.list_physical_devices("GPU")
    _set_up_keras()
    return sys.modules["tensorflow"]


@functools.cache
def _set_up_keras() -> None:
    """Give Keras the settings of the course, in place of those in ~/.keras/keras.json."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras runs on {keras.backend.backend()} here, and the course needs TensorFlow below "
            "it. Restart the kernel, and import helpers before keras."
        )
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")


@contextlib.contextmanager
def _unless_needed() -> Iterator[SimpleNamespace]:
    """Hold back what is written to the error stream, and show it if it turns out to be needed.

    Libraries write to the process's stream itself, which no Python setting reaches. A process
    beside this one keeps what they write, so that it is shown even if they end this one. It is
    shown unless the attribute `needed` of what is yielded has been set to false in the end.
    """
    messages = SimpleNamespace(needed=True)
    try:
        kept = os.dup(2)
    except OSError:  # there is no error stream, so nothing to hold back
        yield messages
        return
    if sys.stderr:
        sys.stderr.flush()
    told = "import sys; m = sys.stdin.buffer.read(); m[-1:] == b'\\0' or sys.stderr.buffer.write(m)"
    keeper = subprocess.Popen([sys.executable, "-ISc", told], stdin=subprocess.PIPE, stderr=kept)
    os.dup2(keeper.stdin.fileno(), 2)
    try:
        yield messages
    finally:
        if not messages.needed:
            os.write(2, b"\0")
        os.dup2(kept, 2)
        os.close(kept)
        keeper.stdin.close()
        keeper.wait()


def _nvidia() -> bool:
    """Say whether there is an NVIDIA GPU that nobody hid, whether TensorFlow can use it or not."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    signs = ("/dev/nvidia0", "/usr/lib/wsl/lib/libcuda.so.1")  # Linux, Linux under Windows
    return not hidden and any(map(os.path.exists, signs))


def _gpus() -> list[str]:
    tf = tensorflow()
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", "?")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
