"""Rollouts: what a forecaster is fed, what it costs, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics
from helpers.rollout import Persistence, checked_history, next_frames, rollout


class Recorder:
    """Fades the last frame and shifts it; keeps a copy of everything that it is fed."""

    name = "recorder"

    def __init__(self):
        self.fed = []

    def __call__(self, history):
        self.fed.append(history.copy())
        return np.roll(history[:, -1], 1, axis=-1) * 0.8 + 0.05


class Leaky:
    """A small recurrent forecaster that counts its cell steps."""

    name = "leaky"

    def __init__(self):
        self.steps = 0
        self.sizes = []

    def cell(self, frame, state):
        self.steps += 1
        state = np.float32(0.6) * state + np.float32(0.4) * np.roll(frame, 1, axis=-1)
        return np.float32(0.7) * state + np.float32(0.3) * frame, state

    def begin(self, history):
        self.sizes.append(len(history))
        state = np.zeros_like(history[:, 0])
        for time in range(history.shape[1]):
            found, state = self.cell(history[:, time], state)
        return found, state

    def advance(self, frame, state):
        return self.cell(frame, state)

    def __call__(self, history):
        return self.begin(history)[0]


class Returns:
    """A forecaster that returns whatever a function makes of the history."""

    name = "returns"

    def __init__(self, make):
        self.make = make

    def __call__(self, history):
        return self.make(history)


def frames(rng, *shape):
    """Random binary frames (*shape, 4, 5, 6)."""
    return (rng.random((*shape, 4, 5, 6)) < 0.3).astype(np.uint8)


def test_a_rollout_is_fed_its_own_predictions(rng):
    history = frames(rng, 2, 3)
    recorder = Recorder()
    found = rollout(recorder, history, 4)
    assert found.shape == (2, 4, 4, 5, 6) and found.dtype == np.float32
    assert [fed.shape[1] for fed in recorder.fed] == [3, 4, 5, 6]
    for step, fed in enumerate(recorder.fed):
        assert fed.dtype == np.float32
        np.testing.assert_array_equal(fed[:, :3], history)
        np.testing.assert_array_equal(fed[:, 3:], found[:, :step])
    # What comes out in the end is the forecaster applied to its own output, again and again.
    expected = history[:, -1].astype(np.float32)
    for step in range(4):
        expected = np.roll(expected, 1, axis=-1) * 0.8 + 0.05
        np.testing.assert_allclose(found[:, step], expected, rtol=1e-6)


@pytest.mark.parametrize("rule", metrics.CUTS)
def test_feedback_may_be_cut_while_probabilities_are_returned(rng, rule):
    history = rng.random((2, 2, 3, 3, 3), dtype=np.float32)
    recorder = Recorder()
    found = rollout(recorder, history, 3, feedback=rule)
    for step, fed in enumerate(recorder.fed):
        np.testing.assert_array_equal(fed[:, 2:], metrics.cut(found[:, :step], rule))
    assert ((found > 0.04) & (found < 0.9)).all()
    assert not np.array_equal(found, rollout(recorder, history, 3))


@pytest.mark.parametrize("keep", [1, 2, 4, 10])
def test_keep_forgets_the_oldest_frames(rng, keep):
    history = frames(rng, 2, 4)
    recorder = Recorder()
    found = rollout(recorder, history, 3, keep=keep)
    everything = np.concatenate([history, found], axis=1)
    for step, fed in enumerate(recorder.fed):
        now = 4 + step
        np.testing.assert_array_equal(fed, everything[:, max(0, now - keep) : now])


@pytest.mark.parametrize("feedback", ["probability", "half", "expected"])
@pytest.mark.parametrize(("observed", "horizon"), [(1, 5), (5, 1), (3, 4)])
def test_a_carried_state_costs_one_step_for_each_frame(rng, observed, horizon, feedback):
    history = frames(rng, 2, observed)
    carried, recomputed = Leaky(), Leaky()
    found = rollout(carried, history, horizon, feedback=feedback)
    assert carried.steps == observed + horizon - 1
    expected = rollout(Returns(recomputed), history, horizon, feedback=feedback)
    assert recomputed.steps == sum(range(observed, observed + horizon))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("keep", "steps"), [(None, 7), (7, 7), (6, 3 + 4 + 5 + 6 + 6), (2, 10)])
def test_a_state_that_remembers_dropped_frames_is_not_carried(rng, keep, steps):
    history = frames(rng, 2, 3)
    leaky = Leaky()
    found = rollout(leaky, history, 5, keep=keep)
    assert leaky.steps == steps
    np.testing.assert_array_equal(found, rollout(Returns(Leaky()), history, 5, keep=keep))


def test_batches_do_not_matter(rng):
    history = frames(rng, 7, 3)
    expected = rollout(Leaky(), history, 3, batch_size=100)
    for size in (1, 3, 7):
        leaky = Leaky()
        np.testing.assert_array_equal(rollout(leaky, history, 3, batch_size=size), expected)
        assert max(leaky.sizes) == size and sum(leaky.sizes) == 7


@pytest.mark.parametrize("first", [1, 3])
def test_next_frames_are_forecast_from_the_true_frames_before(rng, first):
    sequences = frames(rng, 5, 6)
    leaky = Leaky()
    found = next_frames(leaky, sequences, first=first)
    assert found.shape == (5, 6 - first, 4, 5, 6) and found.dtype == np.float32
    assert leaky.steps == 5  # the state is carried
    for time in range(first, 6):
        expected = Leaky()(sequences[:, :time].astype(np.float32))
        np.testing.assert_array_equal(found[:, time - first], expected)
    windowed = next_frames(Returns(Leaky()), sequences, first=first, batch_size=2)
    np.testing.assert_array_equal(found, windowed)


@given(st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_next_frames_do_not_see_the_future(changed, first, carries):
    rng = np.random.default_rng(changed)
    sequences = frames(rng, 2, 6)
    other = sequences.copy()
    other[:, changed:] = 1 - other[:, changed:]
    forecaster = Leaky() if carries else Returns(Leaky())
    one, two = (next_frames(forecaster, s, first=first) for s in (sequences, other))
    known = slice(0, max(0, changed - first + 1))  # forecasts of frames up to the changed one
    np.testing.assert_array_equal(one[:, known], two[:, known])
    if changed < 5 and first <= changed + 1:
        assert not np.array_equal(one[:, changed - first + 1], two[:, changed - first + 1])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_persistence_is_the_null_model(rng, dtype):
    history = frames(rng, 3, 4).astype(dtype)
    for forecaster in (Persistence(), Returns(Persistence())):
        found = rollout(forecaster, history, 5)
        np.testing.assert_array_equal(found, metrics.persistence(history, 5))
    np.testing.assert_array_equal(next_frames(Persistence(), history, first=2), history[:, 1:-1])


def test_a_forecaster_cannot_change_what_it_is_fed(rng):
    def spoil(history):
        history[:] = 0
        return history[:, -1]

    history = frames(rng, 2, 3).astype(np.float32)
    before = history.copy()
    for run in (lambda f: rollout(f, history, 2), lambda f: next_frames(f, history)):
        with pytest.raises(ValueError, match="read-only"):
            run(Returns(spoil))
    np.testing.assert_array_equal(history, before)
    assert history.flags.writeable


def test_a_forecaster_may_return_the_same_array_again(rng):
    history = frames(rng, 2, 3)
    buffer = np.zeros((2, 4, 5, 6), np.float32)

    def reuse(history):
        buffer[:] = history.mean(axis=1)
        return buffer

    expected = rollout(Returns(lambda h: h.mean(axis=1)), history, 3)
    np.testing.assert_array_equal(rollout(Returns(reuse), history, 3), expected)


GOOD = np.zeros((2, 3, 4, 4, 4))


@pytest.mark.parametrize(
    ("history", "error", "words"),
    [
        (GOOD[:, :0], ValueError, "0 frames.*at least"),
        (GOOD[:0], ValueError, "at least .* one sequence"),
        (GOOD[..., None], ValueError, r"channel.*\[\.\.\., 0\]"),
        (GOOD[0], ValueError, "newaxis"),
        (GOOD + 1.001, ValueError, "0…1"),
        (GOOD.astype(str), TypeError, "dtype"),
    ],
)
def test_bad_histories(history, error, words):
    calls = (
        lambda: rollout(Persistence(), history, 1),
        lambda: next_frames(Persistence(), history),
        lambda: checked_history(history),
    )
    for call in calls:
        with pytest.raises(error, match=words):
            call()


def test_checked_history(rng):
    history = frames(rng, 2, 3)
    found = checked_history(history, grid=(4, 5, 6), frames=3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, history)
    assert checked_history(found) is found
    with pytest.raises(ValueError, match=r"\(4, 5, 6\).*expected \(16, 16, 16\)"):
        checked_history(history, grid=(16, 16, 16))
    with pytest.raises(ValueError, match="sequences has 3 frames.* at least 4 frames"):
        checked_history(history, frames=4, what="sequences")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"horizon": 0}, ValueError, "horizon is 0"),
        ({"feedback": "truth"}, ValueError, "'truth'; choose one of probability, half, expected"),
        ({"keep": 0}, ValueError, "keep is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"forecaster": None}, TypeError, "not a forecaster"),
        ({"forecaster": Persistence}, TypeError, "not a forecaster"),
    ],
)
def test_bad_options(options, error, words):
    chosen = {"forecaster": Persistence(), "history": GOOD, "horizon": 2, **options}
    with pytest.raises(error, match=words):
        rollout(**chosen)
    for first, found in ((0, "first is 0"), (3, "at least 4 frames")):
        with pytest.raises(ValueError, match=found):
            next_frames(Persistence(), GOOD, first=first)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda h: h[:, -1:], ValueError, r"shape \(2, 1, 4, 4, 4\)"),
        (lambda h: h[:, -1, ..., None], ValueError, "no channel axis"),
        (lambda h: h[:1, -1], ValueError, "one frame for each sequence"),
        (lambda h: h[:, -1] * np.nan, ValueError, "NaN"),
        (lambda h: h[:, -1] - 0.1, ValueError, "sigmoid"),
        (lambda h: None, TypeError, "dtype"),
    ],
)
def test_bad_forecasts(make, error, words):
    for run in (lambda f: rollout(f, GOOD, 2), lambda f: next_frames(f, GOOD)):
        with pytest.raises(error, match=words):
            run(Returns(make))


@pytest.mark.parametrize("method", ["begin", "advance"])
def test_a_recurrent_forecaster_must_return_its_state(method):
    leaky = Leaky()
    setattr(leaky, method, lambda *_: GOOD[:, 0])
    with pytest.raises(ValueError, match=r"shape \(4, 4, 4\)"):
        rollout(leaky, GOOD, 2)


class Blocks:
    """Gives three frames at once: the last one, then darker ones; notes what it was asked."""

    name = "blocks"

    def __init__(self, shape=None):
        self.shape, self.asked = shape, []

    def __call__(self, history):
        return self.several(history)[:, 0]

    def several(self, history):
        self.asked.append(history.copy())
        found = np.stack([history[:, -1] * share for share in (1.0, 0.6, 0.2)], axis=1)
        return found if self.shape is None else found.reshape(self.shape)


@pytest.mark.parametrize("feedback", ["probability", "half", "expected"])
def test_several_frames_at_once_are_used_up_before_asking_again(feedback):
    history = np.ones((2, 4, 3, 3, 3), np.float32)
    blocks = Blocks()
    found = rollout(blocks, history, 7, feedback=feedback, keep=5)
    assert len(blocks.asked) == 3 and found.shape == (2, 7, 3, 3, 3)
    assert [asked.shape[1] for asked in blocks.asked] == [4, 5, 5]
    if feedback != "probability":
        # 0.2 is fed back as 0, so all that follows is empty.
        np.testing.assert_allclose(found[0, :, 0, 0, 0], [1, 0.6, 0.2, 0, 0, 0, 0], atol=1e-6)
        np.testing.assert_array_equal(blocks.asked[1][0, :, 0, 0, 0], [1, 1, 1, 1, 0])
    else:
        expected = [1, 0.6, 0.2, 0.2, 0.12, 0.04, 0.04]
        np.testing.assert_allclose(found[0, :, 0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 81), (2, 3, 27, 1)])
def test_several_frames_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match="prediction has shape"):
        rollout(Blocks(shape), np.ones((2, 4, 3, 3, 3), np.float32), 2)
