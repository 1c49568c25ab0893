"""The command line of `recipes`, `ablations` and `cuts`: `python -m data.make --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.make import ablations, cuts, recipes
from data.make.shared import command
from helpers import training
from helpers.sequences import FORMATS

MIXED = "mixed"
NEEDED = {  # of the options, by each task
    "train": ("data", "run"),
    "ship": ("run", "weights"),
    "ablate": ("data", "run", "out"),
    "cuts": ("data", "out"),
}


@command
def main(arguments: Sequence[str] | None) -> None:
    """Train a model of the course, ship its weights, compare short trainings, or ways to cut."""
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
        default="float32",
        help="all but wgan_gp: the arithmetic of the training; float32 unless told",
    )
    parser.add_argument("--decay", choices=training.DECAYS, default="linear")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="ablate: runs of each, seeds 1, 2, …")
    options = parser.parse_args(arguments)
    missing = [name for name in NEEDED[options.task] if getattr(options, name) is None]
    if missing:
        parser.error(f"{options.task} needs {', '.join(f'--{name}' for name in missing)}")
    formats = list(FORMATS.values()) if options.format == MIXED else [FORMATS[options.format]]
    if options.task == "cuts":
        cuts.compare(cuts.MODELS, options.data, formats, options.out)
    elif options.task == "ablate":
        place = options.run, options.out, options.steps, options.seeds
        print(ablations.ablate(options.model, options.data, formats, *place))
    elif options.task == "ship":
        recipes.ship(options.run, options.weights, options.keep)
    else:
        names = "seed", "learning_rate", "decay", "policy"
        given = {name: getattr(options, name) for name in names}
        recipe = recipes.recipe(options.model, options.steps, **given)
        recipes.train(recipe, options.data, formats, options.run, start=options.start)


if __name__ == "__main__":
    sys.exit(main())
