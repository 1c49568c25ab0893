"""The workshop's set-up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_notebooks import NOTEBOOKS

from helpers import workshop
from helpers.workshop import REPOSITORY


def test_profile_comes_from_the_argument_then_from_the_environment(monkeypatch):
    monkeypatch.setenv("WORKSHOP_MODE", "full")
    assert workshop.profile().name == "full"
    assert workshop.profile("quick").name == "quick"


def test_quick_is_the_default_without_a_gpu(monkeypatch):
    monkeypatch.delenv("WORKSHOP_MODE", raising=False)
    monkeypatch.setattr(workshop, "_gpus", list)
    assert workshop.profile().name == "quick"
    monkeypatch.setattr(workshop, "_gpus", lambda: ["NVIDIA T4"])
    assert workshop.profile().name == "full"


def test_an_unknown_mode_is_named(monkeypatch):
    monkeypatch.setenv("WORKSHOP_MODE", "fast")
    with pytest.raises(ValueError, match="'fast'; choose one of quick, full"):
        workshop.profile()


def test_the_sample_set_is_the_default_data(monkeypatch, sample_set):
    monkeypatch.setenv("WORKSHOP_DATA", "")
    assert workshop.data_folder() == sample_set
    assert workshop.split_folder("test") == sample_set / "02_4D_test_datasets"


def test_a_relative_folder_counts_from_the_top_of_the_course(monkeypatch, sample_set, tmp_path):
    monkeypatch.setenv("WORKSHOP_DATA", "data/sample")
    monkeypatch.chdir(tmp_path)
    assert workshop.data_folder() == sample_set


def test_a_folder_of_another_layout_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not hold 00_4D_training_datasets"):
        workshop.data_folder()
    with pytest.raises(ValueError, match="split is 'dev'; choose one of training"):
        workshop.split_folder("dev")


def test_machine_table_says_what_is_here():
    table = workshop.machine_table()
    assert table.loc["cores", "found"] == workshop.cores()
    assert table.loc["Python", "verdict"] == "ok" and table.notna().all(axis=None)


GB = 2**30


def container(monkeypatch, folder, **files):
    """A machine of 24 GB and 8 cores, in a container whose control group has these files."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    monkeypatch.setattr(workshop, "CONTAINER", folder)
    machine = SimpleNamespace(total=24 * GB, available=20 * GB)
    monkeypatch.setattr("psutil.virtual_memory", lambda: machine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return (*workshop.memory(), workshop.cores())


def test_memory_and_cores_are_those_of_the_container(monkeypatch, tmp_path):
    files = {"memory_max": f"{3 * GB}\n", "memory_current": f"{2 * GB}\n"}
    files |= {"memory_stat": f"anon {GB}\ninactive_file {GB}\n", "cpu_max": "150000 100000\n"}
    # Of the 2 GB in use, one can be given back.
    assert container(monkeypatch, tmp_path, **files) == (3 * GB, 2 * GB, 1)


def test_a_group_without_limits_changes_nothing(monkeypatch, tmp_path):
    assert container(monkeypatch, tmp_path) == (24 * GB, 20 * GB, 8)
    files = {"memory_max": "max\n", "memory_current": "1\n", "cpu_max": "max 100000\n"}
    assert container(monkeypatch, tmp_path, **files) == (24 * GB, 20 * GB, 8)


def test_on_a_cpu_nothing_is_switched_on():
    if workshop._gpus():
        pytest.skip("this machine has a GPU")
    found = workshop.hardware()
    assert (found.policy, found.xla) == ("float32", False)


def test_a_machine_is_described_without_names_and_paths():
    found = workshop.machine()
    assert {"device", "processor", "tensorflow", "keras"} <= found.keys()
    text = json.dumps(found)
    assert os.uname().nodename not in text if hasattr(os, "uname") else True
    assert str(Path.home()) not in text and "/" not in text.replace("N/A", "")


def in_a_process(code: str, environment: dict[str, str] | None = None, cwd=REPOSITORY):
    """Run Python code as a user would, with settings of the user's own."""
    paths = {"PYTHONPATH": str(REPOSITORY), **(environment or {})}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **paths},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_the_users_keras_settings_do_not_reach_the_course(hostile):
    code = """if True:
        from helpers import models, workshop
        from helpers.sequences import T20_TINC1
        import numpy as np
        path = workshop.REPOSITORY / "data" / "weights" / "convlstm_T20_TINC1.npz"
        history = np.zeros((1, 3, 16, 16, 16), np.float32)
        shape = models.load(path, T20_TINC1)(history).shape
        import keras
        print(shape, keras.config.floatx())
    """
    done = in_a_process(code, {**hostile, "PYTHONPATH": str(REPOSITORY)})
    assert done.stdout == "(1, 16, 16, 16) float32\n", done.stderr


def test_another_backend_loaded_before_is_named():
    begun = "import keras; keras.backend.backend = lambda: 'jax'"
    done = in_a_process(f"{begun}; from helpers import workshop; workshop.tensorflow()")
    assert "RuntimeError: Keras runs on jax here" in done.stderr
    assert "import helpers before keras" in done.stderr


class TestMessages:
    """What the libraries of TensorFlow print while it is imported."""

    @pytest.fixture
    def importing(self, tmp_path):
        """Import a TensorFlow that prints to the process's stream, then does what it is told."""

        def run(then: str, before: str = "", gpus: str = "[]"):
            fake = "import os\nos.write(2, b'the library says why\\n')\n" + then
            fake += f"\nclass config:\n    list_physical_devices = lambda kind: {gpus}\n"
            (tmp_path / "tensorflow.py").write_text(fake)
            before += "\nfrom helpers import workshop; workshop._set_up_keras = lambda: None\n"
            places = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
            code = f"{before}\nworkshop.tensorflow(); print('imported')"
            return in_a_process(code, {"PYTHONPATH": places})

        return run

    def test_are_held_back_where_nobody_needs_them(self, importing):
        done = importing("")
        assert (done.stdout, done.stderr) == ("imported\n", "")

    @pytest.mark.parametrize("then", ["raise ImportError('no')", "os.abort()"])
    def test_are_shown_if_the_import_fails_or_ends_the_process(self, importing, then):
        done = importing(then)
        assert done.returncode and "the library says why" in done.stderr

    def test_are_shown_where_a_gpu_is_not_used(self, importing):
        present = "from helpers import workshop; workshop._nvidia = lambda: True"
        assert "the library says why" in importing("", present).stderr
        assert importing("", present, gpus="['GPU']").stderr == ""

    def test_need_no_error_stream(self, importing):
        assert importing("", "import sys; sys.stderr = None").stdout == "imported\n"


def first_cell(path: Path) -> str:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("place", ["on PYTHONPATH", "beside the notebook", "a folder"])
def test_the_first_cell_says_whose_helpers_it_found(tmp_path, place):
    other = tmp_path / ("helpers.py" if place == "beside the notebook" else "helpers/__init__.py")
    if place == "a folder":
        other.parent.mkdir()
    else:
        other.parent.mkdir(exist_ok=True)
        other.write_text("")
    code = first_cell(REPOSITORY / "notebooks" / "00_start_here.ipynb")
    done = in_a_process(code, {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    # A folder without code in it has no file of its own to be named by.
    assert (str(other) if other.exists() else "Namespace") in done.stderr
    assert "Unset PYTHONPATH or rename that file; restart the kernel." in done.stderr


def test_every_notebook_asks_for_the_courses_kernel_and_helpers():
    kernels = REPOSITORY / "helpers" / "jupyter" / "kernels"
    begin = first_cell(REPOSITORY / "notebooks" / "00_start_here.ipynb").split("profile =")[0]
    for path in [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")]:
        kernel = json.loads(path.read_text("utf-8"))["metadata"]["kernelspec"]
        found = json.loads((kernels / kernel["name"] / "kernel.json").read_text())
        assert found["display_name"] == kernel["display_name"], path.name
        if "workshop.start" in path.read_text("utf-8"):
            assert first_cell(path).startswith(begin), path.name


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    assert workshop.cache_folder() == tmp_path.resolve()
    monkeypatch.setenv("WORKSHOP_CACHE", "runs/cache")
    monkeypatch.chdir(tmp_path)
    assert workshop.cache_folder() == workshop.REPOSITORY / "runs" / "cache"
    monkeypatch.delenv("WORKSHOP_CACHE")
    assert "forecasting-4d" in str(workshop.cache_folder())
    assert not workshop.cache_folder().is_relative_to(workshop.REPOSITORY)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is none
    for place in ("", "~nobody-of-this-name/cache"):
        monkeypatch.setenv("WORKSHOP_CACHE", place)
        with pytest.raises(OSError, match="home folder is not known; set WORKSHOP_CACHE"):
            workshop.cache_folder()
