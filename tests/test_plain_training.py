"""What the course trains can be trained without it, and ends with the same loss."""

import numpy as np
import plain_training as plain
import pytest

from helpers import convlstm, metrics, records, training, workshop
from helpers.rollout import rollout
from helpers.sequences import T80_TINC4, Shifted, from_packed

pytestmark = pytest.mark.slow  # tracing two networks

DATA = workshop.REPOSITORY / "data" / "sample"
STEPS = 4
CONFIG = convlstm.Config(
    filters=(4,), kernels=(3,), patch=2, previous=True, width=16, blocks=1, residual=4.0
)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return records.packed(DATA / plain.TRAINING, cache, limit=6, progress=False)


@pytest.fixture(scope="module")
def ours(split, tmp_path_factory):
    """Train by the helpers as notebook 05 does: the weights before, the loss, the weights after."""
    rate = {"learning_rate": 1e-2, "warm_up": STEPS // 15, "decay": "linear", "decay_from": 0.3}
    plan = training.Plan(STEPS, 2, **rate, weight_decay=1e-4, validate_every=STEPS, seed=5)
    model = convlstm.build(CONFIG)
    before = model.get_weights()
    model.compile(plan.optimizer(), training.voxel_loss(), jit_compile=False)
    checkpoint = training.Checkpoint(tmp_path_factory.mktemp("run"), plan)

    def batches(step):
        options = {"batch_size": 2, "seed": plan.seed, "repeat": True, "start_step": step}
        return from_packed(split, T80_TINC4, Shifted(), **options)

    training.train(model, batches, checkpoint)
    return before, checkpoint.rows[0]["loss"], model.get_weights()


@pytest.fixture(scope="module")
def theirs(ours):
    """Train by the plain script from the same weights: the loss and the model."""
    model = plain.network(filters=4, width=16, blocks=1)
    model.set_weights(ours[0])
    return plain.train(model, plain.read(DATA / plain.TRAINING, 6), STEPS), model


def test_both_read_the_same_frames_in_the_same_order(split):
    frames = plain.read(DATA / plain.TRAINING, 6)
    assert np.array_equal(frames[..., 0], split.frames(times=T80_TINC4.times))


def test_both_end_with_the_same_loss_and_the_same_weights(ours, theirs):
    before, loss, after = ours
    assert theirs[0] == pytest.approx(loss, rel=1e-5)
    gaps = [np.abs(a - b).max() for a, b in zip(theirs[1].get_weights(), after)]
    moved = [np.abs(a - b).max() for a, b in zip(before, after)]
    assert max(gaps) < 1e-3 < max(moved)


def test_both_forecast_and_judge_alike(ours, theirs, split):
    model = convlstm.build(CONFIG)
    model.set_weights(theirs[1].get_weights())
    sequences = plain.read(DATA / plain.TRAINING, 6)[:2]
    expected = rollout(convlstm.forecaster(model), sequences[:, :5, ..., 0], 3)
    found = plain.rollout(theirs[1], sequences[:, :5], 3)
    assert np.allclose(found[..., 0], expected, atol=1e-4)
    by_hand = plain.distance(sequences[:, 5:8], found)
    assert np.allclose(by_hand, metrics.jaccard_distance(sequences[:, 5:8, ..., 0], found[..., 0]))
