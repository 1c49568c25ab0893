"""Draw the two forecasts at the top of README.md: `python data/make/readme_pictures.py`.

A ConvLSTM and the generator of a WGAN-GP forecast the same five frames of the same test sequence of
the sample set, each forecast fed back. Of all test sequences the one is drawn whose distance, the
mean over both networks and the five frames, is the median (the lower of the two middle ones where
their number is even): neither a lucky choice nor an unlucky one.
"""

import numpy as np

from helpers import metrics, models, pictures, records, rollout, sequences, workshop

OUT = workshop.REPOSITORY / "docs" / "pictures"
SAMPLE = workshop.REPOSITORY / "data" / "sample" / workshop.SPLITS["test"]
FORMAT, HISTORY, HORIZON = sequences.T40_TINC2, 5, 5
# For each picture its weights, and how many of the frames before the first forecast they read.
MODELS = {"convlstm": ("convlstm_T40_TINC2", 5), "wgan_gp": ("wgan_gp", 3)}


def main() -> None:
    """Draw both pictures into docs/pictures, truth above and forecast below."""
    samples = records.read_folder(SAMPLE)
    frames = FORMAT.select(np.stack([sample.frames for sample in samples]))  # (N, 20, D, H, W)
    truth = frames[:, HISTORY : HISTORY + HORIZON]
    times = FORMAT.times[HISTORY : HISTORY + HORIZON]
    forecasts = {}
    for name, (weights, seen) in MODELS.items():
        model = models.load(models.WEIGHTS / f"{weights}.npz", FORMAT)
        forecasts[name] = rollout.rollout(model, frames[:, HISTORY - seen : HISTORY], HORIZON)
    distances = {name: metrics.jaccard_distance(truth, each) for name, each in forecasts.items()}
    mean = np.mean(list(distances.values()), axis=(0, 2))  # (N,)
    chosen = np.argsort(mean, kind="stable")[(len(mean) - 1) // 2]
    print(f"sample {samples[chosen].sample_id}, the median of {len(mean)}")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, forecast in forecasts.items():
        captions = [
            f"t = {time}, {ahead} ahead\ndistance {distance:.2f}"
            for ahead, (time, distance) in enumerate(zip(times, distances[name][chosen]), 1)
        ]
        picture = pictures.view_3d(
            truth[chosen],
            forecast[chosen],
            captions=captions,
            names=("truth", "forecast"),
            size=165,
            backend="static",
        )
        path = OUT / f"{name}.png"
        path.write_bytes(picture.png())
        print(f"{path.relative_to(workshop.REPOSITORY)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
