"""How good could anyone be? Models beside the ideal forecaster, where there is just one ball.

`python -m data.make.floor --help` says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data.make import cuts
from data.make.shared import command, write_csv
from helpers import evaluation, metrics, published
from helpers.rollout import Persistence, next_frames
from helpers.sequences import THESIS_FORMATS
from helpers.world import cavities
from helpers.world.ideal import Ideal

SEEN = (1, 2, 3, 5, 10)  # frames before the forecast one
MEAN = ("mean", "low", "high")
ABOVE = ("above", "above_low", "above_high")
RESULT = published.COURSE_RESULTS / "floor.csv"


def single_balls(count: int, step: int, seed: int = 1) -> np.ndarray:
    """Return sequences of a world with exactly one ball: uint8 (count, 11, 16, 16, 16).

    A ball and a moment of the cube are drawn again and again, until the ball is there at that
    moment. This is the last frame seen; nine come before it, and one after it is to be forecast,
    `step` time points apart. The ball may have begun in between, and it may end with the last frame
    seen. So all histories, short and long, end with the same frame and have the same one to
    forecast, and nothing was chosen that a forecaster does not see.
    """
    rng, world = np.random.default_rng([seed, step]), cavities.World()
    middle, found = world.resolution // 2, []
    while len(found) < count:
        (ball,) = cavities.place((1, 0, 0, 0), rng, world)
        since = int(rng.integers(world.resolution)) - ball.centre[0]
        if abs(since) > ball.a:
            continue
        # In the middle of a cube, so that all frames are in it.
        moved = replace(ball, centre=(middle - since, *ball.centre[1:]))
        times = middle + step * np.arange(1 - max(SEEN), 2)
        found.append(cavities.render([moved], world).frames[times])
    return np.array(found)


def measure(names: Sequence[str], count: int) -> pd.DataFrame:
    """Judge the ideal forecaster, models by the names of their weights, and persistence.

    Returns:
        One row for each model, format and number of frames seen (`history`): the mean Jaccard
        distance of the next frame with its 95 % interval (`mean`, `low`, `high`); how far it is
        above that of the ideal forecaster, sequence by sequence (`above`, `above_low`,
        `above_high`); the number of sequences, `n`.
    """
    rows = []
    for each in THESIS_FORMATS:
        sequences = single_balls(count, each.TINC)
        judged = [Ideal(each.TINC), *(cuts.load(name, each) for name in names), Persistence()]
        for seen in SEEN:
            frames, distances = sequences[:, max(SEEN) - seen :], {}
            for model in judged:
                ahead = metrics.cut(next_frames(model, frames, first=seen), "expected")
                distances[model.name] = metrics.jaccard_distance(frames[:, -1:], ahead)[:, 0]
            found = pd.DataFrame(distances)
            table = pd.DataFrame({"model": found.columns, "format": each.name, "history": seen})
            for columns, values in ((MEAN, found), (ABOVE, found.sub(found["ideal"], axis=0))):
                ends = np.quantile(evaluation.resampled(values), evaluation.TAILS, axis=0)
                table[[*columns]] = np.column_stack([values.mean(), *ends])
            rows.append(table.assign(n=count))
            print(rows[-1].to_string(index=False), flush=True)
    return pd.concat(rows, ignore_index=True)


@command
def main(arguments: Sequence[str] | None) -> None:
    """Judge models beside the ideal forecaster, on sequences with a single ball."""
    parser = argparse.ArgumentParser(prog="python -m data.make.floor", description=main.__doc__)
    models = ["convlstm", "cnn", "surfacenet"]
    parser.add_argument("models", nargs="*", default=models, help="names or paths of weights")
    parser.add_argument("--count", type=int, default=250, help="sequences in each format")
    parser.add_argument("--out", type=Path, default=RESULT, help="the CSV to write")
    options = parser.parse_args(arguments)
    write_csv(measure(options.models, options.count).round(5), options.out)


if __name__ == "__main__":
    sys.exit(main())
