"""Run the course's notebooks: `execute` keeps their outputs, `check` holds them to nbval.

`check` runs every notebook and its solutions on the sample set, and the notebooks that read data
once more on the thesis's records where THESIS_FOLDER names them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
OUTPUT_LIMIT = 400_000  # bytes per cell
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
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
    client.create_kernel_manager()
    # This Python's kernel, whatever else is installed under its name.
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
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


def check(paths: list[Path], environment: dict[str, str]) -> Callable[[], int]:
    """Start to run notebooks under `pytest --nbval-lax`.

    Returns:
        What waits for the end, prints what pytest has said, and returns its exit code.
    """
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q"]
    command += ["-p", "no:cacheprovider", *map(str, paths)]
    said = tempfile.TemporaryFile("w+")
    options = {"cwd": REPOSITORY, "env": {**os.environ, **environment}}
    process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, **options)

    def finish() -> int:
        code = process.wait()
        said.seek(0)
        print(said.read(), flush=True)
        return code

    return finish


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("execute", "check"))
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
    quick = {"WORKSHOP_MODE": "quick"}
    runs = {"The notebooks on the sample set": check(paths, quick | {"WORKSHOP_DATA": ""})}
    thesis = os.environ.get("THESIS_FOLDER")
    if thesis:
        # At the same time: a notebook keeps about one core busy.
        real = [path for path in paths if path.parent == NOTEBOOKS and path.name[:2] != "00"]
        data = Path(thesis).resolve() / "data"
        run = check(real, quick | {"WORKSHOP_DATA": str(data)})
        runs[f"The same on the thesis's records in {data}"] = run
    else:
        print("THESIS_FOLDER is not set: the run on the thesis's records is left out.")
    failed = False
    for title, finish in runs.items():
        print(title, flush=True)
        failed = bool(finish()) or failed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
