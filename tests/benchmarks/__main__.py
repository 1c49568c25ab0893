"""Measure the course and print a Markdown table: `make bench`, `make bench ARGS="reading"`.

Each figure is the median of several runs with the smallest and the largest; what is compared is
measured in turns. With THESIS_FOLDER set, reading is measured on the thesis's records.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from helpers.workshop import REPOSITORY

# What a fresh process imports; helpers.metrics should cost little more than NumPy.
IMPORTS = ("numpy", "helpers.metrics", "tensorflow")


def reading(chosen: argparse.Namespace) -> None:
    """Frames per second from files and from the packed cache."""
    from tests.benchmarks.reading import measure

    rates = {}
    for task, way, found, note in measure(chosen.runs, chosen.files):
        rates[way] = statistics.median(found)
        if way == "packed":
            ratios = {other: rates[way] / rate for other, rate in rates.items() if other != way}
            note += "; packed is " + ", ".join(f"{r:.0f} × {other}" for other, r in ratios.items())
        row(f"{task}: {way}", found, "frames/s", note)


def generator(chosen: argparse.Namespace) -> None:
    """Samples per second that one core generates at full resolution."""
    from helpers.world.cavities import generate

    rates = []
    for seed in range(chosen.runs):
        begin = time.perf_counter()
        count = sum(1 for _ in generate(chosen.samples, seed))
        rates.append(count / (time.perf_counter() - begin))
    row("generator, one core", rates, "samples/s", f"{chosen.samples} samples a run")


def rollout(chosen: argparse.Namespace) -> None:
    """Seconds for a rollout and for next frames: the thesis's way, and with the state carried."""
    from tests.benchmarks.rollout import measure

    middle = {}
    for task, way, found, note in measure(chosen.runs, chosen.sequences):
        seconds = statistics.median(found)
        ratios = [f"{was / seconds:.1f} × {other}" for other, was in middle.get(task, {}).items()]
        middle.setdefault(task, {})[way] = seconds
        if ratios:
            note += "; speed: " + ", ".join(ratios)
        row(f"{task}: {way}", found, "s", note)


def imports(chosen: argparse.Namespace) -> None:
    """Milliseconds to import a module in a fresh process."""
    code = "import sys, time; t = time.perf_counter(); __import__(sys.argv[1]); "
    code += "print(time.perf_counter() - t)"
    times = {name: [] for name in IMPORTS}
    for _ in range(chosen.runs + 1):
        for name in IMPORTS:
            done = subprocess.run(
                [sys.executable, "-c", code, name],
                cwd=REPOSITORY,
                check=True,
                capture_output=True,
                text=True,
            )
            times[name].append(1000 * float(done.stdout))
    for name, found in times.items():
        row(f"import {name}", found[1:], "ms", "fresh process")


def notebooks(chosen: argparse.Namespace) -> None:
    """Seconds each notebook takes in quick mode."""
    import nbformat
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(REPOSITORY / "notebooks", Path(place) / "notebooks"))
        for path in sorted(folder.glob("[0-9]*.ipynb")):
            found = []
            for _ in range(chosen.notebook_runs):
                notebook = nbformat.read(path, as_version=4)
                client = NotebookClient(
                    notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
                )
                begin = time.perf_counter()
                client.execute(env={**os.environ, "WORKSHOP_MODE": "quick"})
                found.append(time.perf_counter() - begin)
            row(f"notebook {path.stem}", found, "s", "quick mode, with the kernel's start")


def lab(chosen: argparse.Namespace) -> None:
    """Seconds from `make lab` to a served page on a fresh clone (installs about 3 GB)."""
    from tests.benchmarks.lab import measure

    for name, seconds in measure():
        row(f"make lab, {name}", [seconds], "s", "fresh clone of what is committed")


PARTS = {part.__name__: part for part in (reading, generator, rollout, imports, notebooks, lab)}


def row(what: str, values: list[float], unit: str, note: str) -> None:
    """Print one row: median and range, with three significant digits."""
    middle, low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        for value in (statistics.median(values), min(values), max(values))
    )
    print(f"| {what} | {middle} {unit} | {low}–{high} | {len(values)} | {note} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parts = f"{', '.join(PARTS)}; all but lab when none is named"
    parser.add_argument("parts", nargs="*", metavar="part", help=parts)
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default 5)")
    parser.add_argument("--files", type=int, default=1000, help="records to read (default 1000)")
    parser.add_argument(
        "--samples", type=int, default=20, help="samples to generate in a run (default 20)"
    )
    parser.add_argument(
        "--sequences", type=int, default=4, help="sequences to forecast in a run (default 4)"
    )
    parser.add_argument("--notebook-runs", type=int, default=1, help="runs of each notebook")
    chosen = parser.parse_args()
    parts = chosen.parts or [name for name in PARTS if name != "lab"]
    print("| what | median | range | runs | |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in parts:
        PARTS[name](chosen)


if __name__ == "__main__":
    main()
