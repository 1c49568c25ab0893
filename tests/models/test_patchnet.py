"""The network that reads the whole history: what it sees, what it must not, its averages, files."""

import dataclasses

import numpy as np
import pytest
from helpers.models.patchnet import Config, Past
from random_weights import randomised

from helpers import convlstm, records, training, workshop
from helpers.models import patchnet, shared
from helpers.models.shared import UNKNOWN, Examples
from helpers.models.weights import save_weights
from helpers.rollout import next_frames, rollout
from helpers.sequences import (
    T20_TINC1,
    T40_TINC2,
    T80_TINC4,
    THESIS_FORMATS,
    FrameFormat,
    apply_symmetry,
)

tf = workshop.tensorflow()

GRID = 8
SMALL = Config(history=6, ahead=3, channels=4, hidden=5, width=8, blocks=2, grid=GRID)
SAMPLE = workshop.REPOSITORY / "data" / "sample"


@pytest.fixture(scope="module")
def model():
    return randomised(patchnet.build(SMALL))


@pytest.fixture
def frames(rng):
    """Nine random frames of two sequences, float32 (2, 9, 8, 8, 8)."""
    return (rng.random((2, 9, GRID, GRID, GRID)) < 0.3).astype(np.float32)


# What the network sees


def test_past_by_hand():
    """One voxel with history . . 0 1 1 0 0, two frames unknown."""
    values = [UNKNOWN, UNKNOWN, 0, 1, 1, 0, 0]
    frames = np.reshape(np.array(values, np.float32), (1, 7, 1, 1, 1))
    found = np.asarray(Past()(frames, np.array([5])))[0, 0, 0, 0]
    # The last flip is 2 frames old, the one before it 4; 2 of 6 pairs of frames flipped.
    expected = [0, 0, -1, 1, 1, -1, -1, 2 / 6, 1, 2 / 7, 1 / 2, 1, 4 / 7, 1 / 4]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert Past().compute_output_shape((1, 7, 1, 1, 1)) == (1, 1, 1, 1, len(expected))


@pytest.mark.parametrize("count", [3, 20])
def test_past_against_a_loop(count, rng):
    frames = rng.integers(2, size=(2, count, 3, 3, 3)).astype(np.float32)
    frames[0] = frames[0, :1]  # nothing flips
    observed = count - 1
    frames[:, 0] = UNKNOWN
    found = np.asarray(Past()(frames, np.full(2, observed)))
    for index in np.ndindex(2, 3, 3, 3):
        values = frames[(index[0], slice(None), *index[1:])]
        pairs = range(count - 1, 1, -1)
        ages = [count - place for place in pairs if values[place] != values[place - 1]]
        expected = [*(2 * values - 1), len(ages) / (count - 1)]
        for age in ([*ages, None, None])[:2]:
            expected += [0, 0, 0] if age is None else [1, age / count, 1 / age]
        np.testing.assert_allclose(found[index], expected, atol=1e-6)


def test_past_without_flips_and_of_one_frame():
    still = np.ones((1, 4, 1, 1, 1), np.float32)
    found = np.asarray(Past()(still, np.array([4])))[0, 0, 0, 0]
    np.testing.assert_array_equal(found, [1, 1, 1, 1] + [0] * 7)
    assert Past()(still[:, :1], np.array([1])).shape == (1, 1, 1, 1, 1)
    assert Past(flip_times=False)(still, np.array([4])).shape == (1, 1, 1, 1, 4)


def test_an_unknown_frame_is_no_flip():
    """The step from unknown to filled must not look like an arrival."""
    values = np.array([UNKNOWN, UNKNOWN, 1, 1], np.float32).reshape(1, 4, 1, 1, 1)
    found = np.asarray(Past()(values, np.array([2])))[0, 0, 0, 0]
    np.testing.assert_array_equal(found[4:], np.zeros(7))


def test_starts_as_persistence(frames):
    model = patchnet.forecaster(patchnet.build(SMALL), T20_TINC1)
    several = model.several(frames)
    assert several.shape == (2, 3, GRID, GRID, GRID)
    np.testing.assert_array_equal(several >= 0.5, np.repeat(frames[:, -1:], 3, axis=1) == 1)
    # The farther ahead, the less sure.
    sure = np.abs(several - 0.5).mean(axis=(0, 2, 3, 4))
    assert sure[0] > sure[1] > sure[2]


@pytest.mark.parametrize("length", [1, 5, 6, 9])
def test_histories_of_any_length(model, frames, length):
    """Shorter than the network reads, or longer: then the oldest frames do not matter."""
    ours = patchnet.forecaster(model, T40_TINC2)
    found = ours(frames[:, -length:])
    assert found.shape == (2, GRID, GRID, GRID) and np.isfinite(found).all()
    if length > SMALL.history:
        np.testing.assert_array_equal(found, ours(frames[:, -SMALL.history :]))
    elif length < SMALL.history:
        assert not np.array_equal(found, ours(frames[:, -length - 1 :]))


def test_shipped_network_reads_19_frames():
    assert patchnet.shipped().history == 19
    assert patchnet.build(patchnet.shipped()).count_params() * 4 < 5e6


def test_causality(model, frames):
    ours = patchnet.forecaster(model, T20_TINC1)
    other = frames.copy()
    other[:, 5] = 1 - other[:, 5]
    before, after = next_frames(ours, frames), next_frames(ours, other)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert all((before[:, t] != after[:, t]).any() for t in range(5, 8))


def test_it_is_told_the_time_step(model, frames):
    found = [patchnet.forecaster(model, each)(frames) for each in THESIS_FORMATS]
    assert not np.array_equal(found[0], found[1]) and not np.array_equal(found[1], found[2])


# Averages over symmetries and thresholds


@pytest.mark.parametrize(("count", "kept"), [(8, [1, 4, 7]), (48, [3, 20, 47])])
def test_averaged_forecasts_turn_with_the_history(model, frames, count, kept):
    ours = patchnet.forecaster(model, T80_TINC4, symmetries=count)
    plain = patchnet.forecaster(model, T80_TINC4)
    for index in kept:
        turned = np.ascontiguousarray(apply_symmetry(frames, index))
        np.testing.assert_allclose(
            ours(turned), apply_symmetry(ours(frames), index), atol=1e-6, err_msg=str(index)
        )
        assert np.abs(plain(turned) - apply_symmetry(plain(frames), index)).max() > 1e-3


def test_shifting_moves_the_threshold_to_a_half(rng):
    p = np.linspace(0, 1, 101, dtype=np.float32)
    found = shared.shifted(p, 0.3)
    assert found[0] == 0 and found[-1] == 1 and (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found[p != np.float32(0.3)] > 0.5, p[p != np.float32(0.3)] > 0.3)
    np.testing.assert_allclose(shared.shifted(p, 0.5), p, atol=1e-6)


def test_best_threshold_by_hand():
    """Two sure voxels and four at 0.4, of which two are filled: worth taking all four."""
    truth = np.zeros((1, 1, 2, 2, 2))
    truth.flat[:4] = 1
    sure = np.zeros((1, 1, 2, 2, 2))
    sure.flat[[0, 1]] = 0.9
    sure.flat[[2, 3, 4, 5]] = 0.4
    # Taken: 4 of 6; left out: 2 of 4. For two steps ahead the same with nothing worth taking.
    never = np.where(sure == 0.4, 0.1, sure)
    found = shared.best_thresholds(
        np.concatenate([truth, truth], axis=1),
        np.concatenate([sure, never], axis=1),
        choices=[0.35, 0.5],
    )
    assert found == [0.35, 0.35]
    assert shared.best_thresholds(truth, 1 - sure, choices=[0.35, 0.65]) == [0.35]


def test_thresholds_shift_each_step(model, frames):
    plain = patchnet.forecaster(model, T20_TINC1).several(frames)
    ours = patchnet.forecaster(model, T20_TINC1, thresholds=[0.5, 0.4, 0.3]).several(frames)
    np.testing.assert_allclose(ours[:, 0], plain[:, 0], atol=1e-6)
    np.testing.assert_array_equal(ours[:, 2] > 0.5, plain[:, 2] > 0.3)


def test_the_fitting_threshold_by_hand():
    """Two sure voxels, four at 0.4: the first two give 1.8 / 3.6, all six 3.4 / 6."""
    frame = np.zeros((2, 2, 2))
    frame.flat[[0, 1]] = 0.9
    frame.flat[[2, 3, 4, 5]] = 0.4
    index = 3.4 / 6
    np.testing.assert_allclose(shared.fitting_threshold(frame), index / (1 + index))
    assert index / (1 + index) < 0.9 and (frame.flat[2:6] > index / (1 + index)).all()
    unsure = np.where(frame == 0.9, 0.49, frame)
    several = np.stack([frame, unsure, np.zeros((2, 2, 2))])
    np.testing.assert_allclose(
        shared.fitting_threshold(several), [index / (1 + index), 0.5, 0.5], rtol=1e-6
    )


def test_no_other_voxels_make_a_better_ratio_than_those_above_the_fitting_threshold(rng):
    for _ in range(20):
        p = rng.random((2, 2, 2)) ** 2
        p.flat[0] = 0.7
        taken = (p > shared.fitting_threshold(p)).ravel()

        def ratio(chosen):
            return p.ravel()[chosen].sum() / (chosen.sum() + p.ravel()[~chosen].sum())

        every = (np.array(bits, bool) for bits in np.ndindex(*[2] * 8))
        assert ratio(taken) == pytest.approx(max(ratio(chosen) for chosen in every))


def test_a_threshold_for_each_forecast(model, frames):
    plain = patchnet.forecaster(model, T20_TINC1).several(frames)
    ours = patchnet.forecaster(model, T20_TINC1, thresholds=[0.5, None, 0.3]).several(frames)
    own = shared.fitting_threshold(plain[:, 1])
    assert own.shape == (len(frames),) and len(set(own)) > 1
    np.testing.assert_array_equal(ours[:, 1] > 0.5, plain[:, 1] > own[:, None, None, None])
    np.testing.assert_array_equal(ours[:, 2] > 0.5, plain[:, 2] > 0.3)


def test_a_faint_frame_is_empty_only_below_what_is_asked():
    frame = np.full((2, 2, 2, 2), 0.1)
    frame[0, 0, 0, 0], frame[1, 0, 0, 0] = 0.4, 0.2
    found = shared.fitting_threshold(frame, 0.3)
    # One of 1.1 expected voxels, found with probability 0.4; the second frame stays empty.
    index = 0.4 / (1 + 1.1 - 0.4)
    np.testing.assert_allclose(found, [index / (1 + index), 0.5], rtol=1e-6)
    np.testing.assert_array_equal(shared.fitting_threshold(frame), [0.5, 0.5])


def test_after_forecasts_each_frame_has_its_own_threshold(model, frames):
    """Those given are for what follows observed frames; one frame at a time keeps its own."""
    given, history = [0.1, 0.2, 0.3], frames[:, :4].copy()
    history[1, -1] = np.where(history[1, -1] > 0, 0.9, 0.2)
    plain = patchnet.forecaster(model, T20_TINC1).several(history)
    expected = np.stack([shared.shifted(plain[:, k], q) for k, q in enumerate(given)], axis=1)
    own = shared.fitting_threshold(plain, shared.FAINT)[..., None, None, None]
    expected[1] = shared.shifted(plain, own)[1]
    wrapped = patchnet.forecaster(model, T20_TINC1, thresholds=given)
    np.testing.assert_allclose(wrapped.several(history), expected, atol=1e-6)
    np.testing.assert_allclose(wrapped(history), shared.shifted(plain[:, 0], 0.1), atol=1e-6)
    alone = patchnet.forecaster(model, T20_TINC1)
    both = shared.Together([alone, alone], thresholds=given)
    np.testing.assert_allclose(both.several(history), expected, atol=1e-6)
    np.testing.assert_array_equal(alone.several(history), plain)  # no thresholds, no cut


def test_a_fitting_threshold_is_chosen_where_it_is_better():
    """A frame of sure voxels and one of unsure ones: no threshold for both takes the right ones."""
    truth, probability = np.zeros((2, 1, 2, 2, 2)), np.zeros((2, 1, 2, 2, 2))
    probability[0].flat[:] = [1, 1, 1, 1, 0.4, 0.4, 0.4, 0.4]
    truth[0].flat[:4] = 1
    probability[1].flat[:] = [0.5, 0.38, 0.38, 0.38, 0.38, 0, 0, 0]
    truth[1].flat[:5] = 1
    assert shared.best_thresholds(truth, probability, fitting=True) == [None]
    assert shared.best_thresholds(truth, probability) != [None]
    assert shared.best_thresholds(truth[:1], probability[:1], fitting=True) != [None]


def test_what_was_forecast_is_remembered(model, frames, monkeypatch):
    kept = {}
    options = [{}, {"thresholds": (0.4, 0.5, 0.6)}, {"symmetries": 8}]
    expected = [patchnet.forecaster(model, T40_TINC2, **each).several(frames) for each in options]
    asked, ask = [], patchnet.PatchForecaster._probability

    def counted(self, *args):
        asked.append(args)
        return ask(self, *args)

    monkeypatch.setattr(patchnet.PatchForecaster, "_probability", counted)
    for each, values in zip(options, expected):
        found = patchnet.forecaster(model, T40_TINC2, kept=kept, **each).several(frames)
        np.testing.assert_array_equal(found, values)
    assert len(asked) == len(kept) == 8
    again = patchnet.forecaster(model, T40_TINC2, kept=kept)
    again(frames)  # one frame is another question
    again.several(frames[:, :-1])  # and so is another history
    assert len(asked) == 10


def test_a_follower_forecasts_a_second_time(model, frames):
    """From the second frame on: the mean of the forecast at once and of the one after feeding."""
    at_once = patchnet.forecaster(model, T40_TINC2)
    other = randomised(patchnet.build(dataclasses.replace(SMALL, ahead=1)), 8)
    follower = patchnet.forecaster(other, T40_TINC2)
    both = patchnet.forecaster(model, T40_TINC2, follower=follower)
    alone, found = at_once.several(frames), both.several(frames)
    history = frames
    for number in range(1, found.shape[1]):
        before = found[:, number - 1]
        threshold = shared.fitting_threshold(before)[:, None, None, None]
        # What lies above the threshold is above a half when it is fed back, and only that.
        fed_back = shared.shifted(before, threshold)
        np.testing.assert_array_equal(fed_back > 0.5, before > threshold)
        history = np.concatenate([history, fed_back[:, np.newaxis]], axis=1)
        mean = (alone[:, number] + follower(history)) / 2
        np.testing.assert_allclose(found[:, number], mean, atol=1e-6)
    assert not np.allclose(found[:, 1:], alone[:, 1:], atol=1e-3)
    np.testing.assert_array_equal(both(frames), at_once(frames))
    # Not after frames that were forecast themselves.
    fed_back = frames.copy()
    fed_back[0, -1] = np.clip(fed_back[0, -1], 0.1, 0.9)
    mixed = both.several(fed_back)
    np.testing.assert_allclose(mixed[0], at_once.several(fed_back)[0], atol=1e-6)
    np.testing.assert_allclose(mixed[1:], found[1:], atol=1e-6)
    with pytest.raises(TypeError, match="follower is 1;"):
        patchnet.forecaster(model, T40_TINC2, follower=1)
    with pytest.raises(ValueError, match="follower has time step 2; expected 4"):
        patchnet.forecaster(model, T80_TINC4, follower=follower)


def test_together_is_the_mean(model, frames):
    other = randomised(patchnet.build(dataclasses.replace(SMALL, ahead=2)))
    parts = [patchnet.forecaster(each, T20_TINC1) for each in (model, other)]
    both = shared.Together(parts, "both")
    assert both.ahead == 2
    several = [part.several(frames)[:, :2] for part in parts]
    np.testing.assert_allclose(both.several(frames), (several[0] + several[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(both(frames), both.several(frames)[:, 0], atol=1e-6)
    shifted = shared.Together(parts, thresholds=[0.4, None])
    plain = both.several(frames)
    np.testing.assert_array_equal(shifted(frames) > 0.5, plain[:, 0] > np.float32(0.4))
    own = shared.fitting_threshold(plain[:, 1])[:, None, None, None]
    np.testing.assert_array_equal(shifted.several(frames)[:, 1] > 0.5, plain[:, 1] > own)
    assert rollout(both, frames, 5).shape == (len(frames), 5, *frames.shape[2:])
    with pytest.raises(ValueError, match="2 numbers"):
        shared.Together(parts, thresholds=[0.5])
    shares = [(0.25, 0.75), (1, 0)]
    uneven = shared.Together(parts, shares=shares)
    expected = [0.25 * several[0][:, 0] + 0.75 * several[1][:, 0], several[0][:, 1]]
    np.testing.assert_allclose(uneven.several(frames), np.stack(expected, 1), atol=1e-6)
    np.testing.assert_allclose(uneven(frames), expected[0], atol=1e-6)
    for wrong in ([(0.5, 0.5)], [(0.5, 0.6)] * 2, [(-1, 2)] * 2):
        with pytest.raises(ValueError, match="each of 2 frames 2 numbers"):
            shared.Together(parts, shares=wrong)
    with pytest.raises(ValueError, match="at least one"):
        shared.Together([])


@pytest.mark.parametrize("thresholds", [None, [0.6] * 3])
def test_no_mean_is_above_one(frames, thresholds):
    """Rounding may take a mean of probabilities near 1 beyond it, and a shift farther."""
    mean = np.full((1, 3, *frames.shape[2:]), np.nextafter(np.float32(1), np.float32(2)))
    assert shared._shifted_each(mean, thresholds).max() == 1


# Several frames at once


def test_rollouts_take_blocks(model, frames):
    ours = patchnet.forecaster(model, T20_TINC1)
    found = rollout(ours, frames[:, :4], 5)
    np.testing.assert_array_equal(found[:, :3], ours.several(frames[:, :4]))
    fed = np.concatenate([frames[:, :4], found[:, :3]], axis=1)
    np.testing.assert_array_equal(found[:, 3:], ours.several(fed)[:, :2])


def test_one_at_a_time_is_feeding_back(model, frames):
    one = patchnet.forecaster(model, T20_TINC1, ahead=1)
    found = rollout(one, frames[:, :4], 3)
    fed = frames[:, :4]
    for step in range(3):
        np.testing.assert_array_equal(found[:, step], one(fed))
        fed = np.concatenate([fed, found[:, step : step + 1]], axis=1)


# Training examples


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKSHOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield records.packed(SAMPLE / workshop.SPLITS["validation"], progress=False)


def test_examples_are_windows_of_their_format(split):
    config = dataclasses.replace(SMALL, grid=16)
    drawn = Examples(split, THESIS_FORMATS, config, 64, augment=False, weights={1: 3, 2: 2})
    frames, observed, step, weight = drawn.batch(5)
    assert frames.shape == (64, 9, 16, 16, 16) and set(step) == {1, 2, 4}
    assert set(observed) == set(range(1, 7))
    np.testing.assert_array_equal(weight, 3 - np.log2(step))
    everything = split.frames()
    for example in range(10):
        # The observed frames and those ahead must be somewhere in one of the samples.
        real = frames[example, config.history - observed[example] :]
        length = (len(real) - 1) * step[example] + 1
        places = [
            (sample, start)
            for sample in range(len(split))
            for start in range(128 - length + 1)
            if np.array_equal(everything[sample, start : start + length : step[example]], real)
        ]
        assert places, example
        assert any(drawn.border <= start <= 128 - drawn.border - length for _, start in places)


@pytest.mark.parametrize("fives", [0.0, 0.5])
def test_histories_are_as_long_as_when_it_is_judged(split, fives):
    """All lengths that the format has, cut to what the network reads; and some of five frames."""
    config = dataclasses.replace(SMALL, history=8, grid=16)
    drawn = Examples(split, [T20_TINC1], config, 400, fives=fives)
    counts = np.mean([np.bincount(drawn.batch(k)[1], minlength=9) for k in range(20)], 0) / 400
    expected = np.full(9, (1 - fives) / 19)
    expected[0], expected[8] = 0, (1 - fives) * 12 / 19
    expected[5] += fives
    np.testing.assert_allclose(counts, expected, atol=0.02)


def test_examples_repeat_and_differ(split):
    config = dataclasses.replace(SMALL, grid=16)
    drawn = Examples(split, [T80_TINC4], config, 4)
    late = [x["frames"].numpy() for x, _, _ in drawn.dataset(3).take(2)]
    early = [x["frames"].numpy() for x, _, _ in drawn.dataset(0).take(5)]
    np.testing.assert_array_equal(late, early[3:])
    assert not np.array_equal(early[0], early[1])
    inputs, targets, weights = next(iter(drawn.dataset().take(1)))
    assert inputs["frames"].shape == (4, 6, 16, 16, 16)
    assert targets["later"].shape == (4, 2, 16, 16, 16) and weights["next"].shape == (4,)
    for frames, observed in zip(inputs["frames"].numpy(), inputs["observed"].numpy()):
        assert (frames[: 6 - observed] == UNKNOWN).all()
        assert np.isin(frames[6 - observed :], (0, 1)).all()


def test_validation_has_every_length(split):
    config = dataclasses.replace(SMALL, history=19, grid=16)
    data = patchnet.validation(split, [T20_TINC1, T80_TINC4], config, 19)
    parts = list(data.unbatch())
    assert len(parts) == 38
    assert sorted(int(x["observed"]) for x, _, _ in parts) == sorted(2 * list(range(1, 20)))
    x, y, _ = parts[19 + 2]  # T80, third sample, 3 frames observed
    chosen = T80_TINC4.select(split.frames([2]))[0]
    np.testing.assert_array_equal(x["frames"][-3:], chosen[:3])
    np.testing.assert_array_equal(y["next"][0], chosen[3])
    np.testing.assert_array_equal(y["later"], chosen[4:6])


# Files, training, errors


def test_saved_and_loaded(model, frames, tmp_path):
    path = save_weights(tmp_path / "w.npz", model, {"model": "patchnet"})
    again = patchnet.load(path)
    assert again.config == SMALL
    ours, theirs = (patchnet.forecaster(m, T20_TINC1)(frames) for m in (model, again))
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(training.CheckpointError, match="not a ConvLSTM"):
        convlstm.load(path)


def test_weights_of_a_convlstm_are_refused():
    path = workshop.REPOSITORY / "data" / "weights" / "convlstm_T20_TINC1.npz"
    with pytest.raises(training.CheckpointError, match="not a PatchNet"):
        patchnet.load(path)


def test_a_compiled_model_forecasts(frames):
    model = patchnet.build(SMALL)
    model.compile("sgd", {part: "mse" for part in ("next", "later")})
    found = patchnet.forecaster(model, T20_TINC1)(frames)
    np.testing.assert_array_equal(found >= 0.5, frames[:, -1] == 1)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"history": 21}, ValueError, "history is 21; expected 1 to 20"),
        ({"steps": ()}, TypeError, "steps"),
        ({"steps": (1, 1)}, ValueError, "each time step once"),
        ({"patch": 3}, ValueError, "fill the grid"),
        ({"residual": 0}, ValueError, "above 0"),
    ],
)
def test_configurations_that_cannot_be(change, error, says):
    with pytest.raises(error, match=says):
        dataclasses.replace(Config(), **change)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"symmetries": 2}, "choose 1, 8 or 48"),
        ({"ahead": 4}, "3 frames at most"),
        ({"thresholds": [0.5]}, "3 numbers"),
        ({"thresholds": [0.5, 0.4, 1.0]}, "between 0 and 1"),
    ],
)
def test_wrong_options(model, options, says):
    with pytest.raises(ValueError, match=says):
        patchnet.forecaster(model, T20_TINC1, **options)


def test_wrong_models_formats_and_histories(model, frames):
    with pytest.raises(ValueError, match="knows 1, 2, 4"):
        patchnet.forecaster(model, FrameFormat(24, 3))
    with pytest.raises(TypeError, match="expected a PatchNet"):
        patchnet.forecaster("model", T20_TINC1)
    ours = patchnet.forecaster(model, T20_TINC1)
    for bad in (frames[:, :0], frames[..., :4], frames + 0.5, np.full_like(frames, np.nan)):
        with pytest.raises(ValueError):
            ours(bad)
