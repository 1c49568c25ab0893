"""The course's commands: `python -m helpers --help` lists them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from helpers import _lab, records
from helpers.sources import generated, thesis
from helpers.workshop import REPOSITORY, SPLITS


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
            return chosen.run(chosen)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing that was complete is lost.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("lab", help="open the course; further options are JupyterLab's")
    command.set_defaults(run=_open_lab)
    command = commands.add_parser("reset", help="make a fresh working copy of a notebook")
    command.add_argument("number", nargs="?", default="", help="how its name begins, such as 05")
    command.set_defaults(run=_reset)
    command = commands.add_parser("generate", help="make a sample set in thesis layout")
    command.add_argument("folder", type=Path)
    for split, count in (("training", 192), ("validation", 24), ("test", 24)):
        command.add_argument(f"--{split}", type=_count, default=count, help=f"samples ({count})")
    command.add_argument("--seed", type=_count, required=True)
    command.add_argument("--processes", type=_count, default=1)
    command.add_argument("--overwrite", action="store_true", help="replace an earlier sample set")
    command.set_defaults(run=_generate)
    command = commands.add_parser("validate", help="check records, or all records in folders")
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    command.set_defaults(run=_validate)
    command = commands.add_parser("pack", help="make the packed cache of a folder in thesis layout")
    command.add_argument("folder", type=Path)
    command.add_argument("--cache", type=Path, help="where caches are kept")
    command.set_defaults(run=_pack)
    command = commands.add_parser("download", help="fetch the full thesis set")
    command.add_argument("folder", type=Path, nargs="?", help="default: the user's cache folder")
    command.set_defaults(run=_download)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {value}")
    return value


def _open_lab(chosen: argparse.Namespace) -> int:
    return _lab.lab(chosen.others)


def _reset(chosen: argparse.Namespace) -> int:
    copy, old = _lab.reset_copy(chosen.number, REPOSITORY / "notebooks", REPOSITORY / _lab.WORK)
    print(f"{copy.relative_to(REPOSITORY)} is fresh.", f"Yours is now {old.name}." if old else "")
    return 0


def _generate(chosen: argparse.Namespace) -> int:
    counts = {split: getattr(chosen, split) for split in SPLITS}
    folder = generated.write_sample_set(
        chosen.folder, counts, chosen.seed, processes=chosen.processes, overwrite=chosen.overwrite
    )
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    return 0


def _validate(chosen: argparse.Namespace) -> int:
    count, bad = 0, []
    for paths in _groups(chosen.paths):
        found = records.read_each(paths, lambda sample: None)
        options = {"total": len(paths), "desc": paths[0].parent.name, "unit": "file"}
        bad += [error for error in records.bar(found, True, **options) if error]
        count += len(paths)
    for error in bad:
        print(error, file=sys.stderr)
    print(f"{count - len(bad)} good, {len(bad)} bad")
    return 1 if bad else 0


def _groups(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield lists of records: one per folder of records, one per single file."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected a record or a folder, found nothing there.")
        if path.is_dir():
            yield from map(records.record_paths, _splits(path).values() or [path])
        else:
            yield [path]


def _pack(chosen: argparse.Namespace) -> int:
    splits = _splits(chosen.folder)
    if not splits:
        raise FileNotFoundError(
            f"{chosen.folder}: expected a folder with {', '.join(SPLITS.values())}, found none of "
            "them."
        )
    for split, folder in splits.items():
        found = records.packed(folder, chosen.cache)
        print(f"{split}: {len(found)} samples of {found.shape} in {found.folder}")
    return 0


def _splits(folder: Path) -> dict[str, Path]:
    """Return the split folders that are there, by the name of the split."""
    found = {split: folder / name for split, name in SPLITS.items()}
    return {split: path for split, path in found.items() if path.is_dir()}


def _download(chosen: argparse.Namespace) -> int:
    folder = thesis.download(chosen.folder)
    print(f"{folder}\nTo work with it: export WORKSHOP_DATA={folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
