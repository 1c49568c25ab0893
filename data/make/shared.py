"""What the commands of this folder share: how they say what went wrong, and how they write."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd

from helpers import _files
from helpers.models.weights import CheckpointError


class Stopped(Exception):
    """A training was stopped before its end; the same command goes on from there."""


def command(main: Callable) -> Callable[..., int]:
    """Let a function be a command: what goes wrong is said in a line; returns the exit status."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            main(arguments)
        except (OSError, ValueError, CheckpointError, BrokenProcessPool) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except (KeyboardInterrupt, Stopped) as stop:
            print(str(stop) or "interrupted; the same command goes on from here.", file=sys.stderr)
            return 130  # so that `train … && ship …` ships nothing half-trained
        return 0

    return run


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table in place of the file before, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _files.replacing(path) as file:
        table.to_csv(file, index=False, lineterminator="\n")
