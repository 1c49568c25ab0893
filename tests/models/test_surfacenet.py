"""The network at each surface voxel: what it reads, its pose, what it must not see, examples."""

import dataclasses
import threading

import numpy as np
import pytest
from random_weights import randomised
from scipy import ndimage

from helpers import records, sequences, training, workshop
from helpers.models import register, surfacenet
from helpers.models.surfacenet import Config, Examples
from helpers.models.weights import save_weights
from helpers.rollout import next_frames, rollout
from helpers.sequences import T20_TINC1, T40_TINC2, T80_TINC4, THESIS_FORMATS, FrameFormat

tf = workshop.tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)

GRID = 8
SMALL = Config(history=6, ahead=3, radius=2, blocks=1, width=12, layers=1, grid=GRID)
SAMPLE = workshop.REPOSITORY / "data" / "sample"


@pytest.fixture(scope="module")
def model():
    return randomised(surfacenet.build(SMALL))


@pytest.fixture
def frames(rng):
    """Nine frames of two sequences with surfaces, float32 (2, 9, 8, 8, 8)."""
    smooth = ndimage.gaussian_filter(rng.random((2, 9, GRID, GRID, GRID)), (0, 1, 1.5, 1.5, 1.5))
    return (smooth > 0.5).astype(np.float32)


# The past as a number


def number_of(states):
    """Write a past, oldest frame first, as the number that stands for it."""
    return int("1" + "".join(map(str, states)), 2)


def test_codes_of_every_past_against_a_loop():
    table = surfacenet.codes(4)
    for count in range(1, 5):
        for past in np.ndindex(*[2] * count):
            flips = [age for age in range(1, count) if past[-age] != past[-age - 1]]
            last, before = ([*flips, count, count])[:2] if flips else (count, count)
            state = 2 * past[-1] - 1
            expected = [
                state,
                state if flips else 0,
                last / 10 - 0.5,
                state * (last / 10 - 0.5),
                1 / last if flips else 0,
                len(flips) > 1,
                (before if len(flips) > 1 else count) / 10 - 0.5,
                2 * np.mean(past) - 1,
            ]
            np.testing.assert_allclose(table[number_of(past)], expected, atol=1e-6)


def test_courses_of_every_past_against_a_loop():
    table = surfacenet.courses(5)
    for count in range(1, 6):
        for past in np.ndindex(*[2] * count):
            changes = [past[-1] - past[max(-1 - age, -count)] for age in surfacenet.SINCE]
            expected = [past[-1], *(2 * change for change in changes)]
            np.testing.assert_array_equal(table[number_of(past)], expected)


# Neighbourhoods and poses


def test_neighbours_are_a_ball():
    assert len(surfacenet.neighbours(0)) == 1
    assert len(surfacenet.neighbours(1)) == 7
    assert len(surfacenet.neighbours(3)) == 123
    assert np.linalg.norm(surfacenet.neighbours(3), axis=1).max() == 3


def test_poses_are_the_48_symmetries():
    places = surfacenet.neighbours(2)
    found = surfacenet.poses(places)
    assert len({pose.tobytes() for pose in found}) == 48
    everywhere = {tuple(place) for place in places}
    for pose in found:
        assert {tuple(place) for place in pose} == everywhere
        # Nothing but a turn or a reflection: distances within the neighbourhood stay.
        np.testing.assert_array_equal(pose @ pose.T, places @ places.T)


def test_the_chosen_pose_puts_the_slope_in_order(model, rng):
    slope = rng.normal(size=(200, 3)).astype(np.float32)
    pose = np.asarray(model._pose(tf.constant(slope)))
    axes = np.eye(3, dtype=int)
    for direction, number in zip(slope, pose):
        # Axis k of the pose looks along the direction in which the slope is the k-th largest.
        turned = surfacenet.poses(axes)[number] @ direction
        assert (turned >= 0).all() and (np.diff(turned) <= 0).all()


def test_near_surface(frames):
    last = frames[:, -1]
    for reach in surfacenet.RINGS:
        size = (1, *[2 * reach + 1] * 3)
        full = ndimage.maximum_filter(last, size, mode="nearest")
        empty = ndimage.minimum_filter(last, size, mode="nearest")
        expected = full != empty
        np.testing.assert_array_equal(np.asarray(surfacenet.near_surface(last, reach)), expected)
        np.testing.assert_array_equal(surfacenet.mixed(last.astype(np.uint8), reach), expected)


# The network


def wrap(model, **options):
    frame_format = T40_TINC2
    return surfacenet.forecaster(model, frame_format, **options)


def test_starts_as_persistence(frames):
    untrained = wrap(surfacenet.build(SMALL))
    for history in (frames[:, :1], frames[:, :6]):
        assert np.array_equal(untrained(history) >= 0.5, history[:, -1] == 1)
        repeated = np.repeat(history[:, -1:], 3, axis=1)
        assert np.array_equal(untrained.several(history) >= 0.5, repeated == 1)


def turned_differences(forecaster, history):
    """Return how far a forecast turned with its history is from the forecast: (48, …)."""
    expected = forecaster.several(history)
    assert ((expected > 0.02) & (expected < 0.98)).any()
    found = []
    for index in range(48):
        turned = np.ascontiguousarray(sequences.apply_symmetry(history, index))
        back = sequences.inverse_symmetry(index)
        found.append(sequences.apply_symmetry(forecaster.several(turned), back) - expected)
    return np.abs(found)


def test_turns_with_the_history(model, rng):
    noise = (rng.random((2, 6, GRID, GRID, GRID)) < 0.3).astype(np.float32)
    assert (turned_differences(wrap(model), noise) > 1e-5).mean() < 0.001


def test_turns_with_the_history_of_records_but_for_ties():
    """Where slopes are equal or 0, how the history lies decides."""
    config = dataclasses.replace(SMALL, grid=16, radius=3, blocks=2)
    forecaster = wrap(randomised(surfacenet.build(config)))
    packed = records.packed(SAMPLE / workshop.SPLITS["training"], limit=4, progress=False)
    history = T40_TINC2.select(packed.frames(np.arange(4)))[:, :6].astype(np.float32)
    differ = (turned_differences(forecaster, history) > 1e-5).any(axis=2)
    rings = rings_of(history[:, -1]).reshape(differ.shape[1:])
    for ring, share in enumerate((0.005, 0.03, 0.25)):
        assert differ[:, rings == ring].mean() < share


def test_without_the_canonical_pose_it_does_not(frames):
    plain = wrap(randomised(surfacenet.build(dataclasses.replace(SMALL, canonical=False))))
    history = frames[:, :6]
    turned = np.ascontiguousarray(sequences.apply_symmetry(history, 5))
    back = sequences.apply_symmetry(plain(turned), sequences.inverse_symmetry(5))
    assert (np.abs(back - plain(history)) > 1e-5).mean() > 0.2


@pytest.mark.parametrize("frame_format", THESIS_FORMATS)
def test_a_call_gives_the_first_of_several_near_the_surface(model, frames, frame_format):
    forecaster = surfacenet.forecaster(model, frame_format)
    history = frames[:, :5]
    reach = surfacenet.reach_of(frame_format.TINC)
    near = np.asarray(surfacenet.near_surface(history[:, -1], reach))
    assert not near.all()
    single, several = forecaster(history), forecaster.several(history)
    np.testing.assert_allclose(single[near], several[:, 0][near], atol=1e-6)
    assert np.array_equal(single[~near], history[:, -1][~near])
    assert several.shape == (2, 3, GRID, GRID, GRID)


@pytest.mark.parametrize("blocks, reach", [(0, 2), (1, 4)])
def test_voxels_far_away_do_not_matter(blocks, reach):
    """Beyond the ball and the blocks nothing is read: not for the pose, not for the forecast."""
    config = dataclasses.replace(SMALL, blocks=blocks, grid=16)
    forecaster = wrap(randomised(surfacenet.build(config)))
    history = np.zeros((1, 6, 16, 16, 16), np.float32)
    history[:, :, 1:4, 1:4, 1:4] = 1
    other = history.copy()
    other[:, 3, 8, 2, 2] = 1  # the last frames are the same, and so is what is forecast at all
    difference = np.abs(forecaster.several(other) - forecaster.several(history))[0].max(0)
    assert difference[: 8 - reach].max() == 0 and difference[8 - reach, 2, 2] > 0


def test_what_the_network_reads(rng, monkeypatch, observed=2):
    """Against loops: the past of each neighbour, the means of blocks, what it is told."""
    config = Config(
        history=4, span=12, ahead=2, radius=1, blocks=1, canonical=False, width=2, grid=5
    )
    model, given = surfacenet.build(config), []

    def first(*values):
        given.append(np.concatenate(values, axis=-1))
        return tf.zeros((len(given[0]), config.width))

    monkeypatch.setattr(model, "_first", first)
    frames = rng.integers(2, size=(2, 4, 5, 5, 5)).astype(np.float32)
    frames[:, : 4 - observed] = 0.5  # whatever they hold
    inputs = {"frames": frames, "observed": np.full(2, observed), "step": np.array([1, 4])}
    voxels = np.array([0, 62, 124, 31])  # corners, the middle
    inputs |= {"voxels": np.stack([voxels, voxels]).astype(np.int32)}
    model({name: tf.convert_to_tensor(values) for name, values in inputs.items()})
    for row, values in enumerate(given[0]):
        sample, place = row // 4, np.array(np.unravel_index(voxels[row % 4], (5, 5, 5)))
        pasts = np.full((13, 13, 13), 0)
        seen = min(observed, (4, 3)[sample])  # 12 time points hold three frames of TINC 4
        for voxel in np.ndindex(5, 5, 5):
            states = frames[(sample, slice(4 - seen, None), *voxel)].astype(int)
            pasts[tuple(np.array(voxel) + 4)] = number_of(states)
        expected = []
        for neighbour in surfacenet.neighbours(1):
            past = pasts[tuple(place + 4 + neighbour)]
            expected.extend(surfacenet.codes(4)[past] if past else np.zeros(8))
        for block in surfacenet.neighbours(1):
            d, h, w = place + 4 + 3 * block
            within = pasts[d - 1 : d + 2, h - 1 : h + 2, w - 1 : w + 2].ravel()
            expected.extend(sum((surfacenet.courses(4)[n] for n in within if n), np.zeros(6)) / 27)
        expected.extend([sample == 0, False, sample == 1, seen / 4, 1 / seen])
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_the_first_layer_is_that_of_all_numbers_beside_each_other(model, rng):
    units = surfacenet.numbers_read(model.config)
    values = rng.normal(size=(4, units)).astype(np.float32)
    expected = model.first(values)
    for split in (units // 3, units - 5):
        found = model._first(*np.split(values, [split], axis=1))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_history_of_any_length(model, frames, count):
    found = wrap(model)(frames[:, :count])
    assert found.shape == (2, GRID, GRID, GRID) and found.dtype == np.float32
    assert (found >= 0).all() and (found <= 1).all()


def test_an_empty_and_a_full_cube(model):
    forecaster = wrap(model)
    assert forecaster(np.zeros((1, 4, GRID, GRID, GRID))).max() == 0
    assert forecaster(np.ones((1, 4, GRID, GRID, GRID))).min() == 1


def test_batches_do_not_matter(model, frames):
    forecaster = wrap(model)
    many = np.concatenate([frames[:, :6]] * 6)  # more than `AT_ONCE`
    assert len(many) > surfacenet.AT_ONCE
    np.testing.assert_allclose(forecaster(many)[-1], forecaster(frames[1:, :6])[0], atol=1e-6)


def test_a_longer_history_is_cut(model, frames):
    """A model that reads fewer frames than it is given, as a scout may, reads the last ones."""
    given = {"observed": np.array([8, 3]), "step": np.array([1, 4]), "frames": frames[:, :8]}
    short = given | {"observed": np.array([6, 3]), "frames": frames[:, 2:8]}
    voxels = {"voxels": np.arange(40).reshape(2, 20).astype(np.int32)}
    for name, values in model(given | voxels).items():
        np.testing.assert_array_equal(values, model(short | voxels)[name])


@pytest.mark.parametrize("step, read", [(1, 6), (2, 4), (4, 2), (16, 1)])
def test_nothing_is_read_from_before_the_span(frames, step, read):
    """Of nine time points, as many frames as they hold, though always one."""
    config = dataclasses.replace(SMALL, span=9, steps=(step,))
    forecaster = surfacenet.forecaster(
        randomised(surfacenet.build(config)), FrameFormat(4 * step, step)
    )
    short = forecaster(frames[:, -read:])
    np.testing.assert_array_equal(forecaster(frames), short)
    assert read == 1 or np.abs(forecaster(frames[:, 1 - read :]) - short).max() > 1e-3


def test_a_scout_is_asked_first(model, frames, monkeypatch):
    """Where the scout is sure its forecast stands; elsewhere it is that of the model."""
    small = dataclasses.replace(SMALL, history=5, radius=1, blocks=0, residual=2.0)
    scout = randomised(surfacenet.build(small), 6)
    history = frames[:, :6]
    alone, glance, both = wrap(model), wrap(scout), wrap(model, scout=scout)
    near = surfacenet.mixed(history[:, -1], surfacenet.reach_of(2)).reshape(2, *[GRID] * 3)
    for ask in ("__call__", "several"):
        theirs, ours = (getattr(each, ask)(history) for each in (glance, alone))
        change = np.abs(theirs.reshape(2, -1, *[GRID] * 3) - history[:, -1:]).max(1)
        limit = float(np.median(change[near]))
        monkeypatch.setattr(surfacenet, "SURE", limit)
        found = getattr(both, ask)(history)
        sure = (change <= limit).reshape(2, *[1] * (found.ndim - 4), *[GRID] * 3)
        sure = np.broadcast_to(sure, found.shape)
        np.testing.assert_array_equal(found[sure], theirs[sure])
        np.testing.assert_allclose(found[~sure], ours[~sure], atol=1e-6)


def test_a_rollout_and_all_next_frames(model, frames):
    forecaster = wrap(model)
    found = rollout(forecaster, frames[:, :4], 5)
    assert found.shape == (2, 5, GRID, GRID, GRID)
    np.testing.assert_array_equal(found[:, :3], forecaster.several(frames[:, :4]))
    assert next_frames(forecaster, frames).shape == (2, 8, GRID, GRID, GRID)


def test_wrong_arguments(model):
    with pytest.raises(TypeError, match="SurfaceNet"):
        wrap(None)
    with pytest.raises(ValueError, match="knows 1, 2, 4"):
        surfacenet.forecaster(model, FrameFormat(24, 3))
    with pytest.raises(TypeError, match="scout is 'scout.npz'"):
        wrap(model, scout="scout.npz")
    for change, says in (
        ({"ahead": 2}, "expected 3 of 8³"),
        ({"grid": 9}, "expected 3 of 8³"),
        ({"steps": (1, 2)}, r"time steps \(1, 2\); expected"),
    ):
        with pytest.raises(ValueError, match=says):
            wrap(model, scout=surfacenet.build(dataclasses.replace(SMALL, **change)))
    for wrong in ({"history": 21}, {"radius": -1}, {"canonical": "no"}, {"steps": (1, 1)}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            Config(**wrong)


def test_counted_by_hand():
    config = Config(radius=1, blocks=1, width=10, layers=2, ahead=5)
    # 7 neighbours with 8 numbers each, 7 blocks with 6, 5 of what the network is told.
    assert surfacenet.numbers_read(config) == 56 + 42 + 5
    assert surfacenet.numbers_read(dataclasses.replace(config, blocks=0)) == 56 + 5
    assert surfacenet.multiply_adds(config, 3) == 3 * (103 * 10 + 10 * 5 + 5 * 5 + 5 * 5)
    small = Config(radius=0, blocks=0, width=2, layers=0, ahead=5)
    cost = 10 * (13 * 2 + 2 * 5) + surfacenet.multiply_adds(config, 3)
    assert surfacenet.multiply_adds(config, 10, scout=small, unsure=0.3) == cost
    kernels = sum(np.prod(w.shape) for w in surfacenet.build(config).weights if len(w.shape) == 2)
    assert kernels == surfacenet.multiply_adds(config, 1)


# Examples and training


@pytest.fixture(scope="module")
def split():
    return records.packed(SAMPLE / workshop.SPLITS["training"], limit=8, progress=False)


def test_examples_are_voxels_near_a_surface(split):
    config = Config(history=6, ahead=3)
    chances = (1.0, 0.25, 0.125)
    options = {"seed": 5, "voxels": 40, "chances": chances}
    examples = Examples(split, [T20_TINC1, T80_TINC4], config, 6, **options)
    frames, _, _, chosen, counts = found = examples.batch(3)
    for again, first in zip(examples.batch(3), found):
        np.testing.assert_array_equal(again, first)
    assert chosen.shape == counts.shape == (6, 40)
    rings = rings_of(frames[:, 5])
    assert {0, 1} <= set(np.take_along_axis(rings, chosen, 1).ravel())
    for sample in range(6):
        drawn = counts[sample] > 0
        assert len(set(chosen[sample, drawn])) == drawn.sum()
        assert (~drawn).sum() == max(0, 40 - (rings[sample] < 3).sum())
        ring = rings[sample, chosen[sample, drawn]]
        if (rings[sample] < 3).sum() > 400:  # all shares are below 1
            one = counts[sample, drawn][ring == 0][0]
            expected = one * np.array([1, 4, 8])[ring]
            np.testing.assert_allclose(counts[sample, drawn], expected, rtol=1e-5)


def rings_of(last):
    """Return the number of the ring of each voxel, 3 where it is in none: int (B, voxels)."""
    return sum(~surfacenet.mixed(last, reach).reshape(len(last), -1) for reach in surfacenet.RINGS)


def test_draw_takes_each_place_as_often_as_its_share_says(rng):
    chance = rng.random((4, 30)) ** 2
    chance[1, 12:] = 0  # fewer than wanted, but for some
    chance[2] = 0  # none at all
    chance[3, 3] = 50  # one that is always drawn
    times, shares, runs = np.zeros(chance.shape), np.zeros(chance.shape), 4000
    for _ in range(runs):
        places, share = surfacenet.draw(chance, 14, rng)
        assert places.shape == share.shape == (4, 14)
        for row in range(4):
            drawn = places[row, share[row] > 0]
            assert len(set(drawn)) == len(drawn) == min(14, np.count_nonzero(chance[row]))
            times[row, drawn] += 1
            shares[row, drawn] = share[row, share[row] > 0]
    np.testing.assert_allclose(times / runs, shares, atol=0.04)
    assert shares[3, 3] == 1 and (shares[1, :12] == 1).all()
    free = (shares[0] > 0) & (shares[0] < 1)
    np.testing.assert_allclose(np.ptp(np.log(chance[0, free] / shares[0, free])), 0, atol=1e-6)


@pytest.mark.parametrize("with_scout", [False, True])
def test_what_is_drawn_stands_for_all_voxels_near_a_surface(split, with_scout):
    """Summed by their weights, the chosen voxels give the mean over all, ring by ring."""
    config = Config(history=2, ahead=1)
    options = {"voxels": 60, "augment": False}
    if with_scout:
        scout = randomised(surfacenet.build(Config(radius=1, blocks=0, width=4, ahead=2)))
        options |= {"scout": scout, "candidates": 120}
    examples = Examples(split, [T20_TINC1], config, 8, **options)
    drawn, total = np.zeros(3), np.zeros(3)
    for step in range(60):
        frames, *_, chosen, counts = examples.batch(step)
        assert np.unique(counts).size > 3 * 8 or not with_scout
        rings = rings_of(frames[:, 1])
        of_chosen = np.take_along_axis(rings, chosen, 1)
        near = (rings < 3).sum(1)
        for ring in range(3):
            drawn[ring] += np.where(of_chosen == ring, counts, 0).mean(1)[near > 0].sum()
            total[ring] += ((rings == ring).sum(1)[near > 0] / near[near > 0]).sum()
    np.testing.assert_allclose(drawn, total, rtol=0.06)


def test_a_scout_chooses_what_it_is_unsure_of(split):
    """A scout that doubts filled voxels alone sends us to these."""
    config = Config(history=2, ahead=1)
    small = {"ahead": 1, "radius": 0, "blocks": 0, "width": 2, "layers": 0}
    scout = surfacenet.build(Config(history=2, **small))
    # The first layer gives about 9 for a filled voxel and 0 for an empty one; the logits: +1, -4.
    kernel = np.zeros((8 + 5, 2), np.float32)
    kernel[0] = 9
    scout.first.set_weights([kernel, np.zeros(2, np.float32)])
    scout.head.set_weights([np.full((2, 1), -3 / 18, np.float32), np.full(1, 0, np.float32)])
    options = {"voxels": 60, "augment": False, "chances": (1.0, 1.0, 1.0)}
    share = {}
    for name, extra in {"plain": {}, "scouted": {"scout": scout, "candidates": 600}}.items():
        frames, *_, chosen, counts = Examples(
            split, [T20_TINC1], config, 8, **options, **extra
        ).batch(1)
        last = frames[:, 1].reshape(8, -1)
        filled = np.take_along_axis(last, chosen, 1) == 1
        share[name] = (filled & (counts > 0)).sum() / (counts > 0).sum()
    assert share["scouted"] > 2 * share["plain"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"voxels": 4097}, "4097 of 4096 voxels"),
        ({"scout": surfacenet.build(surfacenet.scout()), "candidates": 255}, "256 of 255 of 4096"),
        ({"scout": surfacenet.build(SMALL)}, "expected 5 of 16³"),
        ({"voxels": 0}, "voxels is 0"),
        ({"chances": (1.0, 0.2)}, "3 numbers"),
        ({"chances": (1.0, 0.2, 0.0)}, "above 0"),
    ],
)
def test_examples_that_cannot_be(split, options, says):
    with pytest.raises(ValueError, match=says):
        Examples(split, [T20_TINC1], Config(), 2, **options)


def test_targets_are_those_of_the_chosen_voxels(split):
    config = Config(history=4, ahead=3)
    examples = Examples(split, [T20_TINC1], config, 3, voxels=30)
    frames, observed, _, chosen, counts = examples.batch(0)
    inputs, targets, weights = next(iter(examples.dataset()))
    np.testing.assert_array_equal(inputs["voxels"], chosen)
    np.testing.assert_array_equal(weights["next"], counts)
    flat = frames.reshape(3, 7, -1)
    for sample in range(3):
        for number, voxel in enumerate(chosen[sample]):
            truth = flat[sample, 4:, voxel]
            assert targets["next"][sample, number, 0] == truth[0]
            np.testing.assert_array_equal(targets["later"][sample, number], truth[1:])
        assert inputs["observed"][sample] == observed[sample]


def trained(split, folder, plan, **options):
    """Train a small network on the sample set; return it and the checkpoint."""
    config = Config(history=6, ahead=2, radius=1, width=16, layers=1)
    scout = surfacenet.load(register.WEIGHTS / "scout.npz")
    drawn = {"voxels": 32, "candidates": 64, "scout": scout}
    keras.utils.set_random_seed(4)
    model = surfacenet.build(config)
    model.compile(**surfacenet.compile_options(config, plan))
    batches = surfacenet.batches(split, THESIS_FORMATS, config, plan, **drawn)
    validation = surfacenet.validation(split, THESIS_FORMATS, config, 320, **drawn)
    options["validation"] = validation.cache()
    checkpoint = training.Checkpoint(folder, plan, surfacenet.monitor(config))
    return model, training.train(model, batches, checkpoint, **options)


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not_been(split, tmp_path):
    plan, stop = training.Plan(8, 4, 5e-3, validate_every=4), threading.Event()
    whole, _ = trained(split, tmp_path / "whole", plan)
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: stop.set())
    callbacks = [callback, training.Stop(event=stop)]
    _, first = trained(split, tmp_path / "parts", plan, callbacks=callbacks)
    assert first.step == 4
    resumed, second = trained(split, tmp_path / "parts", plan)
    assert second.step == 8 and second.rows[-1]["val_loss"] < first.rows[0]["val_loss"]
    # A compiled model forecasts as any other.
    frames = T20_TINC1.select(split.frames(np.arange(2)))[:, :6]
    several = surfacenet.forecaster(resumed, T20_TINC1).several(frames)
    assert several.shape == (2, 2, 16, 16, 16) and not np.array_equal(several[:, 0], frames[:, 5])
    for one, other in zip(whole.weights, resumed.weights):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_saved_and_loaded(model, frames, tmp_path):
    path = save_weights(tmp_path / "net.npz", model, {"model": "surfacenet"})
    again = surfacenet.load(path)
    assert again.config == SMALL
    np.testing.assert_array_equal(wrap(again)(frames), wrap(model)(frames))
