"""The command line of `recipes`, `ablations` and `cuts`: `python -m data.make --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.make import ablations, cuts, recipes
from helpers import training
from helpers.models.weights import CheckpointError
from helpers.sequences import FORMATS

MIXED = "mixed"
NEEDED = {  # of the options, by each task
    "train": ("data", "run"),
    "ship": ("run", "weights"),
    "ablate": ("data", "run", "out"),
    "cuts": ("data", "out"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a model of the course, ship its weights, compare short trainings, or ways to cut."""
    try:
        _do(_options(arguments))
    except recipes.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 130  # as after Ctrl-C, so that `train … && ship …` ships nothing half-trained
    except (OSError, ValueError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; leave with an error if an option is missing that the task needs."""
    parser = argparse.ArgumentParser(prog="python -m data.make", description=main.__doc__)
    parser.add_argument("task", choices=list(NEEDED))
    parser.add_argument("format", choices=[*FORMATS, MIXED], help="mixed: all three formats")
    parser.add_argument("--model", choices=list(recipes.RECIPES), default="convlstm")
    parser.add_argument("--data", type=Path, help="all but ship: a folder in thesis layout")
    parser.add_argument("--run", type=Path, help="train, ship, ablate: the folder of the run")
    parser.add_argument("--weights", type=Path, help="ship: the .npz to write")
    parser.add_argument(
        "--keep", choices=["best", "last"], default="best", help="ship: of which round"
    )
    parser.add_argument("--out", type=Path, help="ablate, cuts: the CSV to write")
    parser.add_argument("--start", type=Path, help="train: weights to begin with")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--learning-rate", type=float, help="the highest; the recipe's unless told")
    parser.add_argument(
        "--policy",
        choices=["float32", "mixed_bfloat16"],
        help="all but wgan_gp: the arithmetic of the training; float32 unless told",
    )
    parser.add_argument("--decay", choices=training.DECAYS, default="linear")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="ablate: runs of each, seeds 1, 2, …")
    options = parser.parse_args(arguments)
    missing = [name for name in NEEDED[options.task] if getattr(options, name) is None]
    if missing:
        parser.error(f"{options.task} needs {', '.join(f'--{name}' for name in missing)}")
    return options


def _do(options: argparse.Namespace) -> None:
    """Do the task of a command line."""
    formats = list(FORMATS.values()) if options.format == MIXED else [FORMATS[options.format]]
    names = ("learning_rate", "policy")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.task == "cuts":
        cuts.compare(cuts.MODELS, options.data, formats, options.out)
    elif options.task == "ablate":
        place = options.run, options.out, options.steps, options.seeds
        print(ablations.ablate(options.model, options.data, formats, *place))
    elif options.task == "ship":
        recipes.ship(options.run, options.weights, options.keep)
    else:
        given |= {"seed": options.seed, "decay": options.decay}
        recipe = recipes.recipe(options.model, options.steps, **given)
        recipes.train(recipe, options.data, formats, options.run, start=options.start)


if __name__ == "__main__":
    sys.exit(main())
