"""Tests of the ideal forecaster: is its posterior exactly what the frames say?"""

import math
from dataclasses import replace

import numpy as np
import pytest

from helpers.world.cavities import BALL, Solid, World, place, render
from helpers.world.ideal import Ideal, Posterior, prior

SMALL = World(resolution=32, pooling=4, time_points=32)
TINY = World(resolution=20, pooling=4, time_points=20)
ONE = (1, 0, 0, 0)


def a_ball(rng, world=SMALL):
    """A ball in the middle of time, where frames before and after it are in the cube."""
    (ball,) = place(ONE, rng, world)
    return replace(ball, centre=(world.resolution // 2, *ball.centre[1:]))


def is_member(ball, posterior: Posterior) -> bool:
    k = posterior.moments.tolist().index(ball.centre[0])
    s = posterior.places.tolist().index(list(ball.centre[1:]))
    return bool(posterior.low[k, s] <= ball.a**2 < posterior.high[k, s])


def test_every_member_reproduces_all_frames_and_the_true_ball_is_one(rng):
    for world, step in ((SMALL, 1), (SMALL, 3), (World(), 4)):
        for _ in range(6 if world == SMALL else 2):
            ball = a_ball(rng, world)
            frames = render([ball], world).frames
            times = ball.centre[0] + rng.integers(1 - int(ball.a), 1) + step * np.arange(-2, 2)
            posterior = Posterior(frames[times], times, world)
            assert is_member(ball, posterior)
            assert posterior.weights.sum() == pytest.approx(1)
            for chosen in rng.choice(posterior.weights.size, 4, p=posterior.weights.flat):
                k, s = np.unravel_index(chosen, posterior.weights.shape)
                centre = (posterior.moments[k], *posterior.places[s])
                squared = (posterior.low[k, s] + posterior.high[k, s]) / 2
                member = Solid(BALL, centre, np.eye(4), math.sqrt(squared))
                assert np.array_equal(render([member], world).frames[times], frames[times])


@pytest.mark.parametrize("times", [[9, 10]])
def test_the_posterior_holds_every_ball_that_reproduces_the_frames(times):
    """All 500,000 balls of a tiny world, tried one by one: none is missing, and weights agree."""
    side, ball = TINY.resolution, Solid(BALL, (10, 9, 10, 6), np.eye(4), 2.9)
    frames = render([ball], TINY).frames[times]
    posterior = Posterior(frames, times, TINY)
    frames = frames.reshape(len(times), -1)
    centres = np.indices((side,) * 3).reshape(3, -1).T
    voxels = np.abs(np.arange(side) - np.arange(side)[:, None]).reshape(side, 5, 4).min(axis=2)
    d, h, w = np.moveaxis(voxels[centres] ** 2, 1, 0)
    squares = (d[:, :, None, None] + h[:, None, :, None] + w[:, None, None, :]).reshape(side**3, -1)
    walls = np.minimum(centres, side - 1 - centres).min(axis=1)
    shares, weight, forecast = prior(TINY), {}, np.zeros(125)
    for n in range(1, len(shares) - 1):
        roomy = walls >= math.isqrt(n) + TINY.border
        for moment in range(5, 14):  # radii are below 4
            fits = roomy.copy()
            for frame, time in zip(frames, times):
                fits &= ((squares + (time - moment) ** 2 <= n) == frame).all(axis=1)
            share = shares[n + 1] - shares[n]
            for s in np.flatnonzero(fits):
                weight[moment, s] = weight.get((moment, s), 0) + share
                forecast += share * (squares[s] + (12 - moment) ** 2 <= n)
    total = sum(weight.values())
    found = {
        (moment, int(np.ravel_multi_index(place, (side,) * 3))): posterior.weights[k, s]
        for k, moment in enumerate(posterior.moments.tolist())
        for s, place in enumerate(posterior.places)
        if posterior.weights[k, s] > 0
    }
    assert len(found) >= 3
    assert found == pytest.approx({key: share / total for key, share in weight.items() if share})
    np.testing.assert_allclose(posterior.probability([12])[0].ravel(), forecast / total, atol=1e-12)


def test_the_prior_is_how_balls_are_drawn(rng):
    radii = np.array([place(ONE, rng)[0].a for _ in range(1000)])
    world = World()
    shares = (
        np.diff(prior()) * (128 - 2.0 * (np.floor(np.sqrt(np.arange(len(prior()) - 1))) + 1)) ** 3
    )
    assert shares.sum() == pytest.approx(1)
    for radius in (9, 12, 15, 18, 21):
        expected = shares[: radius**2].sum()
        assert (radii < radius).mean() == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(1000))
    assert len(prior(world)) == 611  # the largest ball has a radius of 15 · 1.47 · 1.12 = 24.7


def test_probabilities_come_true(rng):
    """Of the voxels that are filled with probability p, the share p is filled, whatever p."""
    said, came = [], []
    while len(said) < 100:
        (ball,) = place(ONE, rng, SMALL)
        last = int(rng.integers(SMALL.resolution))
        if abs(last - ball.centre[0]) > ball.a:
            continue
        ball = replace(ball, centre=(16 + ball.centre[0] - last, *ball.centre[1:]))
        frames = render([ball], SMALL).frames[[14, 16, 18]]
        said.append(Posterior(frames[:2], [14, 16], SMALL).probability([18])[0])
        came.append(frames[2])
    said, came = np.array(said), np.array(came)
    for low, high in ((0, 0.001), (0.001, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.999), (0.999, 1.1)):
        within = (low <= said) & (said < high)
        assert within.sum() > 50
        # Voxels of a frame come true together: so much less is known than there are voxels.
        few = 4 * math.sqrt(0.25 / min(100, within.sum()))
        assert came[within].mean() == pytest.approx(said[within].mean(), abs=min(0.12, few))
    # Nothing is called impossible, or certain, in vain.
    assert not came[said == 0].any() and came[said == 1].all()


def test_the_posterior_narrows_and_what_remains_at_full_history_is_small(rng):
    remaining = []
    for _ in range(5):
        ball = a_ball(rng, World())
        life = ball.centre[0] + np.arange(-int(ball.a), int(ball.a) + 1)
        frames = render([ball]).frames
        counts, spreads = [], []
        for seen in (1, 2, 4, 8, len(life)):
            posterior = Posterior(frames[life[:seen]], life[:seen])
            counts.append((posterior.weights > 0).sum())
            spreads.append(posterior.spread())
        assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
        assert spreads[0].shape == (5,) and spreads[0][4] > 10 * spreads[-1][4]
        remaining.append(spreads[-1])
        radii, joint = posterior.by_moment_and_radius()
        assert joint.sum() == pytest.approx(1)
        np.testing.assert_allclose(joint.sum(axis=1), posterior.weights.sum(axis=1))
        assert radii @ joint.sum(axis=0) == pytest.approx(ball.a, abs=0.2)
    # A ball that was seen from its first frame to its last is known to a twentieth of a voxel.
    assert np.max(remaining) < 0.05


def test_the_forecaster_reads_observed_frames_at_its_time_step(rng):
    ball = a_ball(rng, SMALL)
    frames = render([ball], SMALL).frames
    start = ball.centre[0] - int(ball.a)
    times = start + 2 * np.arange(-1, 3)
    history = np.stack([frames[times], np.zeros_like(frames[times])]).astype(np.float32)
    ideal = Ideal(step=2, world=SMALL, ahead=3)
    found = ideal(history)
    expected = Posterior(frames[times], times, SMALL).probability(times[-1] + [2, 4, 6])
    assert found.dtype == np.float32 and found.shape == (2, 8, 8, 8)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(ideal.several(history)[0], expected, atol=1e-6)
    assert not found[1].any()  # nothing seen: an empty frame
    step = 2 * int(ball.a) + 1  # from the first frame of its life to the one after it
    gone = frames[[start, start + step]][np.newaxis]
    assert gone[0, 0].any() and not gone[0, 1].any() and not Ideal(step, SMALL)(gone).any()
    coarse = Ideal(1, replace(SMALL, time_points=16))  # a time point is two voxels there
    np.testing.assert_array_equal(coarse(history), found)


def test_what_no_ball_can_be_is_refused(rng):
    ball = a_ball(rng, SMALL)
    times = ball.centre[0] + np.arange(-1, 2)
    frames = render([ball], SMALL).frames[times]
    other = frames.copy()
    other[1, 0, 0, 0] = 1
    for bad, message in (
        (other, "No ball of this world"),
        (np.zeros_like(frames), "All frames are empty"),
        (frames * 0.5, "expected observed ones"),
        (frames[:, :4], r"expected \(T, 8, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Posterior(bad, times, SMALL)
    with pytest.raises(ValueError, match="expected 3 whole numbers"):
        Posterior(frames, times[:2], SMALL)
    with pytest.raises(ValueError, match="step is 0"):
        Ideal(0)
