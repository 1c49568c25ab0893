"""Run the course's notebooks: `execute` keeps their outputs, `check` holds them to nbval.

`check` runs every notebook on the sample set. `check-rest` runs the solutions on it, and where
THESIS_FOLDER names the thesis's records, on these the notebooks that are about data and verdicts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
OUTPUT_LIMIT = 400_000  # bytes per cell
ON_RECORDS = ("01", "02", "03", "05", "08")  # the others do the same with any records
KERNEL = {"name": "forecasting-4d", "display_name": "4D Forecasting", "language": "python"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def course(pattern: str = "") -> list[Path]:
    """List the notebooks in the order of the course, each before its solutions."""
    paths = [*NOTEBOOKS.glob("[0-9]*.ipynb"), *(NOTEBOOKS / "solutions").glob("[0-9]*.ipynb")]
    return sorted((p for p in paths if pattern in p.name), key=lambda p: (p.name[:2], p.parts))


def execute(path: Path) -> None:
    """Run one notebook in quick mode and save it with outputs, without widget state or timings.

    Raises:
        ValueError: a cell's output is larger than 400 kB.
    """
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, resources=place, kernel_name=NATIVE_KERNEL_NAME)
    client.create_kernel_manager()
    # This Python's kernel, whatever else is installed under its name.
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    notebook.metadata.kernelspec = KERNEL
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        # Without their state, saved widgets would show "model not found".
        outputs = [out for out in cell.get("outputs", []) if WIDGET not in out.get("data", {})]
        if cell.cell_type == "code":
            cell.outputs = outputs
        size = len(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])))
        if size > OUTPUT_LIMIT:
            raise ValueError(f"{path.name}, cell {number}: {size} bytes; at most {OUTPUT_LIMIT}.")
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


def check(title: str, paths: list[Path], data: str) -> bool:
    """Run notebooks in quick mode under nbval, two at a time, and return whether all pass.

    Args:
        data: the folder of records; the sample set where empty.
    """
    print(title, flush=True)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q"]
    command += ["--durations=15"]  # the cells that take longest
    command += ["-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", *map(str, paths)]
    environment = {**os.environ, "WORKSHOP_MODE": "quick", "WORKSHOP_DATA": data}
    # Where two notebooks share the cores, OpenBLAS's threads wait for each other in a busy loop.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    return subprocess.run(command, cwd=REPOSITORY, env=environment).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("execute", "check", "check-rest"))
    parser.add_argument("pattern", nargs="?", default="", help="part of the notebooks' names")
    arguments = parser.parse_args()
    paths = course(arguments.pattern)
    if not paths:
        parser.error(f"no notebook's name contains {arguments.pattern!r}")
    if arguments.action == "execute":
        os.environ["WORKSHOP_MODE"] = "quick"
        os.environ.pop("WORKSHOP_DATA", None)
        for path in paths:
            print(path.relative_to(REPOSITORY), flush=True)
            execute(path)
        return 0
    lessons = [path for path in paths if path.parent == NOTEBOOKS]
    if arguments.action == "check":
        return int(not check("The notebooks on the sample set", lessons, ""))
    solutions = [path for path in paths if path.parent != NOTEBOOKS]
    passed = check("The solutions on the sample set", solutions, "")
    thesis = os.environ.get("THESIS_FOLDER")
    if thesis:
        real = [path for path in lessons if path.name.startswith(ON_RECORDS)]
        data = Path(thesis).resolve() / "data"
        passed = check(f"Notebooks on the records in {data}", real, str(data)) and passed
    else:
        print("THESIS_FOLDER is not set: the run on the thesis's records is left out.")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
