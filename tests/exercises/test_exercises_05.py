"""The exercises of notebook 05, and what it teaches against the helpers."""

import numpy as np
import pytest
from answers import says
from notebook_code import definition

from helpers import convlstm, exercises, rollout, training
from helpers.exercises.notebook_05 import Averaging
from helpers.workshop import tensorflow

tf = tensorflow()
from keras import ops  # noqa: E402  (after the quiet import of TensorFlow)

FRAME = (2, 3, 4, 5)


def soft(truth, probability, axes=FRAME, twice=False, guard=True, empty=0.0, late=False):
    """The soft distance of each frame, with the mistakes that one can make."""
    hits = ops.sum(probability * truth, axis=axes)
    union = ops.sum(probability + truth, axis=axes) - (0 if twice else hits)
    if late:
        return ops.where(union > 0, 1 - hits / union, empty)
    safe = ops.where(union > 0, union, 1.0) if guard else union
    return ops.where(union > 0, 1 - hits / safe, empty) if guard else 1 - hits / safe


def mean(values):
    return ops.mean(values, axis=1)


test_soft_jaccard_per_frame = says(
    exercises.check_soft_jaccard_per_frame,
    (lambda t, p: mean(soft(t, p)), "solved"),
    (lambda t, p: soft(t, p), "a distance for each frame"),
    (lambda t, p: ops.mean(soft(t, p)), "one number per sequence"),
    (lambda t, p: soft(t, p, axes=(1, *FRAME)), "pooled distance"),
    (lambda t, p: 1 - mean(soft(t, p)), "Jaccard index"),
    (lambda t, p: mean(soft(t, p, twice=True)), "counts each hit twice"),
    (lambda t, p: mean(soft(t, ops.cast(p >= 0.5, "float32"))), "cut at 0.5"),
    (lambda t, p: mean(soft(t, p, empty=1.0)), "get the distance 1"),
    (lambda t, p: mean(soft(t, p, guard=False)), "which is NaN"),
    (lambda t, p: mean(soft(t, p, late=True)), "gradient at two empty frames is NaN"),
    (lambda t, p: np.mean(soft(t, p).numpy(), axis=1), "instead of NumPy"),
    (lambda t, p: mean(soft(t, tf.stop_gradient(p))), "has no gradient"),
    (lambda t, p: mean(soft(t, p)) ** 2, "At ["),
)


def rate(step, steps, peak, warm_up):
    rise = min(1, (step + 1) / warm_up) if warm_up else 1
    return peak * rise * (1 + np.cos(np.pi * step / steps)) / 2


def after_the_warm_up(step, steps, peak, warm_up):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (1 + np.cos(np.pi * (step - warm_up) / (steps - warm_up))) / 2


test_rate = says(
    exercises.check_rate,
    (rate, "solved"),
    (lambda step, steps, peak, warm_up: rate(step, steps, peak, 0), "no warm-up"),
    (lambda s, n, peak, w: peak * min(1, (s + 1) / max(w, 1)), "never falls"),
    (lambda s, n, peak, w: rate(s, n, peak, 0) * min(1, s / max(w, 1)), "a wasted step"),
    (after_the_warm_up, "after the warm-up"),
    (lambda s, n, peak, w: peak * np.cos(np.pi * s / n), "negative"),
    (lambda s, n, peak, w: peak * min(1, (s + 1) / w) * rate(s, n, 1, 0), "ZeroDivision"),
    (lambda s, n, peak, w: 0.5 * rate(s, n, peak, w), "at [9] expected 0.00980147"),
)


def test_the_rate_of_the_exercise_is_that_of_a_plan():
    plan = training.Plan(steps=40, learning_rate=0.1, warm_up=7, decay="cosine")
    schedule = plan.schedule()
    found = [float(schedule(step)) for step in range(40)]
    assert found == pytest.approx([rate(step, 40, 0.1, 7) for step in range(40)], abs=1e-7)


def honest(forecaster, sequences, observed, horizon, round_off=False, drop=False):
    frames, forecasts = sequences[:, :observed], []
    for _ in range(horizon):
        forecasts.append(forecaster(frames))
        fed = (forecasts[-1] >= 0.5).astype(np.float32) if round_off else forecasts[-1]
        frames = np.concatenate([frames[:, 1:] if drop else frames, fed[:, None]], axis=1)
    return np.stack(forecasts, axis=1)


def in_place(forecaster, sequences, observed, horizon):
    for step in range(observed, observed + horizon):
        sequences[:, step] = forecaster(sequences[:, :step])
    return sequences[:, observed : observed + horizon].copy()


def peeking_once(forecaster, sequences, observed, horizon):
    """Honest but for the first step, which reads one frame too many, as the example does."""
    return honest(forecaster, sequences, observed + 1, horizon)


test_honest_forecast = says(
    exercises.check_honest_forecast,
    (honest, "solved"),
    (lambda *given: definition("05", "forecast_like_the_example", np=np)(*given), "the truth"),
    (peeking_once, "still sees the truth"),
    (in_place, "copy them first"),
    (lambda f, s, n, h: in_place(f, s.copy(), n, h), "solved"),
    (lambda f, s, n, h: rollout.rollout(f, s[:, :n], h), "solved"),
    (lambda f, s, n, h: honest(f, s, n, h)[:, 0], "has shape"),
    (lambda f, s, n, h: np.stack([f(s[:, :n])] * h, axis=1), "the same frame"),
    (lambda f, s, n, h: honest(f, s, n, h, round_off=True), "You round"),
    (lambda f, s, n, h: honest(f, s, n, h, drop=True), "drop the oldest"),
    (lambda f, s, n, h: honest(f, s, n, h)[:, ::-1], "differs from a rollout"),
)


test_learning_rate = says(
    exercises.check_learning_rate,
    ((1e-3, {1e-3: 0.4, 1e-2: 0.3}, {1e-2: 0.35}.get), "same seed it is 0.3500"),
    ((1e-3, {1e-3: 0.4, 1e-2: 0.3}, {1e-2: 0.3}.get), "solved"),
)


def better(table, column="high", measure="jaccard"):
    rows = table[table.measure == measure].sort_values("horizon")
    return (rows[column] < 0).to_numpy()


test_shown_steps = says(
    exercises.check_shown_steps,
    (lambda table: int(np.cumprod(better(table)).sum()), "solved"),
    (lambda table: better(table), "one whole number"),
    (lambda table: np.cumprod(better(table, "mean")).sum(), "not the whole interval"),
    (lambda table: np.cumprod(better(table, measure="mse")).sum(), "measure is 'jaccard'"),
    (lambda table: better(table).sum(), "stop at the first"),
    (lambda table: max(np.flatnonzero(better(table)) + 1, default=0), "stop at the first"),
    (lambda table: 0, "expected 4, found 0"),
)


def test_unsorted_rows_get_a_hint(capsys):
    def unsorted(table):
        return np.cumprod((table[table.measure == "jaccard"].high < 0).to_numpy()).sum()

    assert not exercises.check_shown_steps(unsorted)
    assert "sort them" in capsys.readouterr().out


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_the_loss_taught_is_the_helpers(rng, weight):
    taught = definition("05", "voxel_loss", ops=ops)
    truth = (rng.random((3, 4, 5, 6, 7, 1)) < 0.2).astype(np.float32)
    probability = rng.random(truth.shape).astype(np.float32)
    probability[0, 0, 0, 0] = [[0], [1], [0], [1], [0], [1], [0]]
    expected = training.voxel_loss(weight).call(tf.constant(truth), tf.constant(probability))
    assert np.allclose(taught(truth, probability, weight), expected, rtol=1e-5)


def test_the_loop_of_the_example_sees_the_truth():
    """It must be wrong, and wrong in the way the notebook says: every step is one step ahead."""
    loop = definition("05", "forecast_like_the_example", np=np)
    sequences = (np.random.default_rng(5).random((2, 9, 4, 4, 4)) < 0.4).astype(np.float32)
    forecaster = Averaging()
    one_step_ahead = rollout.next_frames(forecaster, sequences, first=3)[:, :4]
    assert np.array_equal(loop(forecaster, sequences, 3, 4), one_step_ahead)


@pytest.mark.parametrize("quick", [True, False])
def test_05_trains_the_network_that_04_ends_with(quick):
    built, trained = (
        definition(notebook, "CONFIG", convlstm=convlstm, quick=quick) for notebook in ("04", "05")
    )
    assert built == trained
