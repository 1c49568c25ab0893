"""Hold generated sequences against the thesis's data: a Markdown table, measured beside target.

    python tests/benchmarks/calibration.py --count 600 --processes 2

With THESIS_FOLDER set the targets are computed from the thesis's training samples by the same
code; without it they are the figures noted here, which came from it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helpers.world.cavities import SOLIDS, generate

FORMATS = {"T20_TINC1": (20, 1), "T40_TINC2": (40, 2), "T80_TINC4": (80, 4)}
PROFILE_TIMES = (0, 8, 16, 24, 32, 48, 64, 80, 96, 127)
# Computed from the 25,600 training samples.
NOTED = {
    "occupancy, mean": 0.0495601,
    "occupancy, 5 %": 0.022329,
    "occupancy, 50 %": 0.049902,
    "occupancy, 95 %": 0.0757886,
    "occupancy at t = 0": 0,
    "occupancy at t = 8": 0.0136162,
    "occupancy at t = 16": 0.0391483,
    "occupancy at t = 24": 0.057912,
    "occupancy at t = 32": 0.0655155,
    "occupancy at t = 48": 0.0643113,
    "occupancy at t = 64": 0.0627105,
    "occupancy at t = 80": 0.0648247,
    "occupancy at t = 96": 0.0645221,
    "occupancy at t = 127": 0,
    "plateau t = 32…95, lowest": 0.0627098,
    "plateau t = 32…95, highest": 0.0663498,
    "persistence T20_TINC1, pair": 0.113592,
    "persistence T20_TINC1, pooled": 0.107852,
    "persistence T40_TINC2, pair": 0.209284,
    "persistence T40_TINC2, pooled": 0.195429,
    "persistence T80_TINC4, pair": 0.359045,
    "persistence T80_TINC4, pooled": 0.340361,
    "empty pairs, T20_TINC1": 0.00936678,
    "occupancy per B⁴": 0.00331913,
    "occupancy per S¹×B³": 0.00403365,
    "occupancy per S²×B²": 0.00377841,
    "occupancy per S¹×S¹×B²": 0.00505727,
    "occupancy, 1…4 cavities": 0.013299,
    "its spread, 1…4 cavities": 0.00714108,
    "occupancy, 5…8 cavities": 0.0280208,
    "its spread, 5…8 cavities": 0.00926675,
    "occupancy, 9…12 cavities": 0.0432392,
    "its spread, 9…12 cavities": 0.0113514,
    "occupancy, 13…16 cavities": 0.0576368,
    "its spread, 13…16 cavities": 0.0127145,
}


def statistics(batches) -> dict[str, float]:
    """Measure batches of (frames uint8 (N, 128, 16, 16, 16), objects (N, 4)).

    Persistence: Jaccard distance between neighbouring frames of a format, 0 where both are empty;
    "pair" averages all pairs, "pooled" sums over a sample's 19 pairs before dividing.
    """
    profiles, objects, sums = [], [], {name: [] for name in FORMATS}
    for frames, counts in batches:
        objects.append(np.asarray(counts, float))
        profiles.append(frames.mean((2, 3, 4)))
        for name, (length, step) in FORMATS.items():
            start = (128 - length) // 2
            kept = frames[:, start : 128 - start : step]
            both = (kept[:, 1:] & kept[:, :-1]).sum((2, 3, 4), dtype=int)
            either = (kept[:, 1:] | kept[:, :-1]).sum((2, 3, 4), dtype=int)
            sums[name].append(np.stack([both, either]))
    profile, counts = np.concatenate(profiles), np.concatenate(objects)
    occupancy = profile.mean(1)
    result = {"occupancy, mean": occupancy.mean()}
    for share in (5, 50, 95):
        result[f"occupancy, {share} %"] = np.quantile(occupancy, share / 100)
    for t in PROFILE_TIMES:
        result[f"occupancy at t = {t}"] = profile[:, t].mean()
    result["plateau t = 32…95, lowest"] = profile[:, 32:96].mean(0).min()
    result["plateau t = 32…95, highest"] = profile[:, 32:96].mean(0).max()
    for name in FORMATS:
        both, either = np.concatenate(sums[name], axis=1)
        pair = np.where(either > 0, 1 - both / np.maximum(either, 1), 0)
        result[f"persistence {name}, pair"] = pair.mean()
        whole = either.sum(1)
        pooled = np.where(whole > 0, 1 - both.sum(1) / np.maximum(whole, 1), 0)
        result[f"persistence {name}, pooled"] = pooled.mean()
    result["empty pairs, T20_TINC1"] = (np.concatenate(sums["T20_TINC1"], axis=1)[1] == 0).mean()
    share = np.linalg.lstsq(counts, occupancy, rcond=None)[0]
    for solid, value in zip(SOLIDS, share):
        result[f"occupancy per {solid}"] = value
    total = counts.sum(1)
    for low, high in ((1, 4), (5, 8), (9, 12), (13, 16)):
        chosen = occupancy[(total >= low) & (total <= high)]
        result[f"occupancy, {low}…{high} cavities"] = chosen.mean() if len(chosen) else np.nan
        result[f"its spread, {low}…{high} cavities"] = chosen.std() if len(chosen) else np.nan
    return result


def thesis_batches(folder: Path):
    """Yield the thesis's packed training samples in batches of (frames, objects)."""
    for path in sorted((folder / "packed").glob("training-*.npz")):
        with np.load(path) as packed:
            frames, objects = packed["frames"], packed["objects"]
        for first in range(0, len(frames), 200):
            part = np.unpackbits(frames[first : first + 200], axis=-1)
            yield part.reshape(-1, 128, 16, 16, 16), objects[first : first + 200]


def table(measured: dict[str, float], target: dict[str, float]) -> str:
    """Write both as a Markdown table."""
    lines = ["| quantity | measured | target | ratio |", "| --- | ---: | ---: | ---: |"]
    for name, value in measured.items():
        wanted = target.get(name, np.nan)
        ratio = f"{value / wanted:.3f}" if wanted else "–"
        lines.append(f"| {name} | {value:.5f} | {wanted:.5f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    folder = os.environ.get("THESIS_FOLDER")
    target = statistics(thesis_batches(Path(folder))) if folder else NOTED
    made = generate(options.count, options.seed, processes=options.processes)
    print(table(statistics((each.frames[None], each.objects[None]) for each in made), target))


if __name__ == "__main__":
    main()
