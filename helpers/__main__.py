"""The course's commands: `python -m helpers --help` lists them."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from helpers import _lab, records
from helpers.sources import generated, own, readers, thesis
from helpers.workshop import REPOSITORY, SPLITS, shipped


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 when all is well, 1 when something is bad or missing.

    Wrong arguments end the program with 2, as argparse does.
    """
    parser = _parser()
    chosen, others = parser.parse_known_args(arguments)
    if chosen.run is _open_lab:
        chosen.others = others
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_: print(f"warning: {text}", file=sys.stderr)
            return chosen.run(chosen) or 0
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing that was complete is lost.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about)
        command.set_defaults(run=run)
        return command

    add("lab", _open_lab, "open the course; further options are JupyterLab's")
    command = add("reset", _reset, "make a fresh working copy of a notebook")
    command.add_argument("number", nargs="?", default="", help="how its name begins, such as 05")
    command = add("generate", _generate, "make a sample set in thesis layout")
    command.add_argument("folder", type=Path)
    for split, count in (("training", 192), ("validation", 24), ("test", 24)):
        command.add_argument(f"--{split}", type=int, default=count, help=f"samples ({count})")
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--processes", type=int, default=1)
    command.add_argument("--overwrite", action="store_true", help="replace an earlier sample set")
    command = add("own", _own, "make records of your own 4D data, see docs/own_data.md")
    command.add_argument("folder", type=Path, help="or a file")
    command.add_argument("--out", type=Path, required=True, help="the folder to make")
    command.add_argument("--threshold", help="filled is what lies above; a number, or otsu")
    command.add_argument("--below", action="store_true", help="filled is what does not lie above")
    command.add_argument("--grid", type=int, choices=own.GRIDS, help="voxels along an edge")
    command.add_argument("--pool", default="max", choices=("max", "mean"), help="how to reduce")
    command.add_argument("--crop", action="store_true", help="crop to a cube, do not pad")
    command.add_argument("--every", type=int, default=1, help="2 keeps every second time point")
    parts = {"choices": ("sequence", "time"), "help": "whole sequences, or each one in time"}
    command.add_argument("--split", default="sequence", **parts)
    command.add_argument("--length", type=int, help="cut into pieces of so many time points")
    command.add_argument("--time-axis", type=int, help="which axis of a NumPy array is time")
    command.add_argument("--array", help="which array of a .npz or a VTK image")
    command.add_argument("--seed", type=int, default=1, help="of the choice of sequences")
    command = add("validate", _validate, "check records, or all records in folders")
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    command = add("download", _download, "fetch the full thesis set")
    command.add_argument("folder", type=Path, nargs="?", help="default: the user's cache folder")
    return parser


def _open_lab(chosen: argparse.Namespace) -> int:
    return _lab.lab(chosen.others)


def _reset(chosen: argparse.Namespace) -> None:
    notebooks = shipped(REPOSITORY / "notebooks")
    copy, old = _lab.reset_copy(chosen.number, notebooks, REPOSITORY / _lab.WORK)
    print(f"{copy.relative_to(REPOSITORY)} is fresh.", f"Yours is now {old.name}." if old else "")


def _generate(chosen: argparse.Namespace) -> None:
    counts = {split: getattr(chosen, split) for split in SPLITS}
    folder = generated.write_sample_set(
        chosen.folder, counts, chosen.seed, processes=chosen.processes, overwrite=chosen.overwrite
    )
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def _own(chosen: argparse.Namespace) -> None:
    try:
        at = float(chosen.threshold) if chosen.threshold else None
    except ValueError:
        at = chosen.threshold
    fit = {"how": chosen.pool, "crop": chosen.crop}
    steps = [lambda frames: own.fit(frames, chosen.grid, **fit)]
    if chosen.every != 1:
        steps.insert(0, lambda frames: own.resample(frames, chosen.every))
    report = own.from_arrays(
        readers.find(chosen.folder, chosen.array),
        chosen.out,
        at=at,
        below=chosen.below,
        steps=steps,
        by=chosen.split,
        length=chosen.length,
        seed=chosen.seed,
        time_axis=chosen.time_axis,
    )
    print(f"{report}\nThe records are in {chosen.out}.")


def _validate(chosen: argparse.Namespace) -> int:
    count, bad = 0, []
    for path in chosen.paths:
        folders = [each for name in SPLITS.values() if (each := path / name).is_dir()]
        folders = folders or [path] * path.is_dir()
        for paths in [records.record_paths(folder) for folder in folders] or [[path]]:
            found = records.read_each(paths, lambda sample: None)
            options = {"total": len(paths), "desc": paths[0].parent.name, "unit": "file"}
            bad += [error for error in records.bar(found, True, **options) if error]
            count += len(paths)
    for error in bad:
        print(error, file=sys.stderr)
    print(f"{count - len(bad)} good, {len(bad)} bad")
    return 1 if bad else 0


def _download(chosen: argparse.Namespace) -> None:
    folder = thesis.download(chosen.folder)
    print(f"{folder}\nTo work with it: export WORKSHOP_DATA={folder}")


if __name__ == "__main__":
    sys.exit(main())
