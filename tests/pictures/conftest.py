"""What is drawn in the tests of figures."""

import numpy as np
import pandas as pd
import pytest

from helpers import evaluation


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    """Let no backend be chosen from outside."""
    monkeypatch.delenv("WORKSHOP_3D", raising=False)


@pytest.fixture
def sequence(rng) -> np.ndarray:
    """(20, 16, 16, 16): a ball that grows, shrinks and drifts; the first frame is empty."""
    places = np.arange(16) + 0.5
    d, h, w = np.meshgrid(places, places, places, indexing="ij")
    frames = [
        (d - 8) ** 2 + (h - 6) ** 2 + (w - 4 - 0.4 * t) ** 2 <= t * (19 - t) / 5 for t in range(20)
    ]
    return np.array(frames, np.uint8)


@pytest.fixture
def one_voxel() -> np.ndarray:
    """(16, 16, 16) with the voxel D 12, H 3, W 1 filled."""
    frame = np.zeros((16, 16, 16), np.uint8)
    frame[12, 3, 1] = 1
    return frame


@pytest.fixture
def results(rng):
    """Rollouts over 6 horizons of two models and persistence; one model lacks a format."""
    tables = []
    for model, gain in (("ours", -0.1), ("GAN", 0.1), ("persistence", 0.0)):
        for name in ("T20_TINC1", "T80_TINC4")[: 1 if model == "GAN" else 2]:
            base = np.linspace(0.2, 0.7, 6) + 0.01 * np.arange(10)[:, None]
            noise = np.random.default_rng(len(model)).normal(0, 0.02 * (gain != 0), base.shape)
            columns = {
                "prediction": base + gain + noise,
                "persistence": base,
                "input": base / 2,
                "moving_null": 0 * base + 0.25,
                "moving_input": base / 3,
            }
            tables.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "format": name,
                        "protocol": "rollout",
                        "cut": "half",
                        "history": 5,
                        "horizon": np.tile(np.arange(1, 7), 10),
                        "sample": np.repeat(np.arange(10), 6),
                        **{
                            f"{what}_{kind}": values.ravel()
                            for kind in ("jaccard", "mse")
                            for what, values in columns.items()
                        },
                    }
                )
            )
    return evaluation.combine(*tables)
