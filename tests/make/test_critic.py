"""What rollouts look like: volume, pieces, grey voxels, draws."""

import numpy as np
import pandas as pd
import pytest

from data.make import critic, recipes
from helpers import training, workshop
from helpers.rollout import Persistence
from helpers.sequences import T80_TINC4

DATA = workshop.REPOSITORY / "data" / "sample"
LONG = critic.HISTORY + critic.HORIZON


class Says:
    """A forecaster that gives the same frame whatever it sees."""

    name, ahead = "says", 5

    def __init__(self, frame):
        self.frame = frame

    def __call__(self, history):
        return np.broadcast_to(self.frame, (len(history), *self.frame.shape))

    def several(self, history):
        return np.repeat(self(history)[:, None], self.ahead, axis=1)


@pytest.fixture
def frames():
    """Two balls that stay: uint8 (4, T, 12, 12, 12)."""
    found = np.zeros((4, LONG, 12, 12, 12), np.uint8)
    found[:, :, 1:4, 1:4, 1:4] = found[:, :, 6:10, 6:10, 6:10] = 1
    return found


def test_persistence_of_what_stays_is_perfect(frames):
    table = critic.summary(critic.shapes([Persistence()], frames))
    found = table[table["step"] == 10].set_index("measure")["mean"]
    assert found[["volume", "pieces", "true pieces", "grey", "jaccard"]].tolist() == [1, 0, 2, 0, 0]
    assert set(table["step"]) == set(critic.SHOWN) and set(table["n"]) == {4}


def test_measures_by_hand(frames):
    half, grey = frames[0, 0].astype(np.float32), frames[0, 0] * np.float32(0.4)
    half[:5] = 0  # one ball of 64 voxels in place of 91
    grey[0, 0, 0] = 0.95
    table = critic.shapes([Says(half), Says(grey)], frames)
    row = table[table["step"] == 5].iloc[0]
    assert row["volume"] == (64 + 1) / 2 and row["truth_volume"] == 91
    assert row["pieces"] == 1 and row["truth_pieces"] == 2
    assert row["grey"] == 91 / 2
    assert row["jaccard"] == pytest.approx((27 / 91 + 1) / 2)
    assert row["best"] == pytest.approx(27 / 91)
    assert row["between"] == 1
    means = critic.summary(table).set_index(["step", "measure"])["mean"]
    assert means[5, "volume"] == pytest.approx(32.5 / 91, abs=1e-4) and means[5, "pieces"] == -1


def test_drawn_voxels_follow_the_probabilities():
    frame = np.full((20, 20, 20), 0.3, np.float32)
    history = np.zeros((2, 3, 20, 20, 20))
    drawn = critic.VoxelsDrawn(Says(frame), 1)
    one, other = drawn(history), drawn(history)
    assert set(np.unique(one)) == {0, 1} and one.mean() == pytest.approx(0.3, abs=0.02)
    assert (one != other).any() and drawn.several(history).shape == (2, 5, 20, 20, 20)
    again = critic.VoxelsDrawn(Says(frame), 1)
    np.testing.assert_array_equal(again(history), one)


def test_the_sweep_judges_each_setting_beside_the_generator_alone(tmp_path, monkeypatch):
    """The trainings stand still here: what is judged, kept and written matters."""
    begun = []

    def train(recipe, data, formats, folder, *, start=None):
        folder.mkdir()
        begun.append((recipe.model, folder.name, start and start.parent.name))
        model = recipe.kind.build(recipe.config)
        return type("Run", (), {"model": model, "rows": [{"seconds": 30.0}]})

    monkeypatch.setattr(recipes, "train", train)
    monkeypatch.setattr(recipes, "ship", lambda folder, out, keep: out.touch())
    monkeypatch.setattr(training, "load_last", lambda folder, model: None)
    monkeypatch.setattr(critic, "JUDGED", (T80_TINC4,))
    judge = critic.judge
    monkeypatch.setattr(critic, "judge", lambda models, data: judge(models, data, limit=2))
    monkeypatch.setattr(critic, "DRAWS", 2)
    options = {"settings": ["λ = 0.03", "λ = 0.3"], "seeds": (1, 2), "steps": (3, 2)}
    out = tmp_path / "sweep.csv"
    critic.sweep(DATA, tmp_path, out, **options)
    expected = [
        pair
        for seed in (1, 2)
        for pair in (
            ("cnn", f"alone-{seed}", None),
            ("wgan_gp", f"1-{seed}", f"alone-{seed}"),
            ("wgan_gp", f"0-{seed}", f"alone-{seed}"),
        )
    ]
    assert begun == expected
    table = pd.read_csv(out)
    models = {"persistence", "generator alone", "its voxels drawn", "λ = 0.03", "λ = 0.3"}
    assert set(table["model"]) == models and set(table["seed"]) == {1, 2}
    assert set(table["minutes"]) == {0.5}
    critic.sweep(DATA, tmp_path, out, **options)
    assert begun == expected  # nothing is trained again
    pd.testing.assert_frame_equal(pd.read_csv(out), table)
