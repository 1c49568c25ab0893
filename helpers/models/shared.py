"""What several networks use: layers, windows to learn from, forecasts of several frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helpers import sequences, workshop
from helpers._checks import whole
from helpers.rollout import checked_history

keras = workshop.keras()
from keras import ops  # noqa: E402  (after Keras has its backend)

ROLLOUT_HISTORY = 5  # frames, as in the thesis


def to_patches(voxels, patch: int):
    """Cut a grid into patches of `patch`³ voxels, whose voxels become channels.

    (B, D, H, W, C) to (B, D/p, H/p, W/p, p³·C), the edges of the grid known.
    """
    if patch == 1:
        return voxels
    *edges, channels = voxels.shape[1:]
    d, h, w = (edge // patch for edge in edges)
    cut = ops.reshape(voxels, (-1, d, patch, h, patch, w, patch, channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 3, 5, 2, 4, 6, 7)), (-1, d, h, w, patch**3 * channels)
    )


def to_voxels(patches, patch: int):
    """Put patches together again: the reverse of `to_patches`."""
    if patch == 1:
        return patches
    d, h, w, channels = patches.shape[1:]
    channels //= patch**3
    cut = ops.reshape(patches, (-1, d, h, w, patch, patch, patch, channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 4, 2, 5, 3, 6, 7)),
        (-1, d * patch, h * patch, w * patch, channels),
    )


class Pointwise(keras.layers.Dense):
    """A dense layer that reads each voxel or patch by itself: (…, C) to (…, `units`).

    Voxels are laid in one row first. So TensorFlow adds the bias and applies the activation while
    it multiplies; to a product of more than two axes it would do so one after the other.
    """

    def call(self, x, training=None):
        """See the class."""
        rows = super().call(ops.reshape(x, (-1, x.shape[-1])), training=training)
        return ops.reshape(rows, (*ops.shape(x)[:-1], self.units))


class Mix(keras.layers.Layer):
    """A residual bottleneck block: x + up(silu(mix(silu(down(x))))), only `mix` sees neighbours.

    (B, D, H, W, C) to the same shape; inside, C / 4 channels.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        inner, policy = max(width // 4, 1), self.dtype_policy
        self.down = Pointwise(inner, activation="silu", name="down", dtype=policy)
        self.mix = keras.layers.Conv3D(
            inner, 3, padding="same", activation="silu", name="mix", dtype=policy
        )
        self.up = Pointwise(width, name="up", dtype=policy)

    def build(self, shape):
        """Make the weights of the three layers."""
        self.down.build(shape)
        self.mix.build((*shape[:-1], self.down.units))
        self.up.build((*shape[:-1], self.down.units))

    def call(self, x):
        """See the class."""
        return x + self.up(self.mix(self.down(x)))


def check_shape(shape, expected: Sequence[int | str], what: str = "frames") -> None:
    """See that frames have the sizes that a network was made for; a letter stands for any."""
    sizes = [size if isinstance(size, int) else found for found, size in zip(shape, expected)]
    if len(shape) != len(expected) or list(shape) != sizes:
        raise ValueError(
            f"{what} has shape {tuple(shape)}; expected ({', '.join(map(str, expected))})."
        )


def check_steps(config) -> None:
    """See that the `steps` of a configuration are different ones."""
    if len(set(config.steps)) < len(config.steps):
        raise ValueError(f"steps is {config.steps}; expected each time step once.")


def most_observed(time_points: int, step: int, ahead: int) -> int:
    """Return how many frames may be seen so that the next `ahead` lie in those time points, too."""
    found = (time_points - 1) // step - ahead + 1
    if found < 1:
        raise ValueError(
            f"Of {time_points} time points, every {step} of them a frame, {ahead} frames cannot be "
            "forecast; take a smaller ahead or TINC."
        )
    return found


def outputs(config) -> list[str]:
    """Return the names of the outputs of a network that forecasts `ahead` frames."""
    return ["next", "later"] if config.ahead > 1 else ["next"]


@dataclass(frozen=True)
class Examples:
    """What one batch of training examples is drawn from, the same for the same seed and step.

    An example is a window of a sample in one of the formats: 1 to all but one of its frames seen,
    of which the network reads the last `config.history`, and the next `config.ahead` to forecast.
    The window may lie anywhere at least `border` time points from both ends of a sample, or in the
    middle of one too short for that; may be turned and mirrored, and may run backwards.

    Attributes:
        split: a `helpers.records.PackedSplit`.
        formats: the formats, drawn with equal chance.
        config: of the network; its `steps` hold those of the formats.
        batch_size: examples in a batch.
        seed: of all that is drawn.
        border: time points, so that few windows see the empty ends of a sample.
        augment: turn, mirror and reverse.
        format_weights: of the formats in the loss, by time step; 1 unless told.
        fives: in this share of the examples, 0…1, five frames are seen, as in the thesis's
            rollouts; in the others, each number that the format has is equally likely, before it
            is cut to what the network reads.
    """

    split: object
    formats: Sequence[sequences.FrameFormat]
    config: Any
    batch_size: int
    seed: int = 1
    border: int = 12
    augment: bool = True
    format_weights: Mapping[int, float] = field(default_factory=dict)
    fives: float = 0.0

    def batch(self, step: int) -> tuple[np.ndarray, ...]:
        """Return frames uint8 (B, history + ahead, D, H, W), observed, step, weight, each (B,)."""
        rng = np.random.default_rng([self.seed, step])
        config, size = self.config, self.batch_size
        samples = rng.integers(len(self.split), size=size)
        chosen = rng.integers(len(self.formats), size=size)
        strides = np.array([found.TINC for found in self.formats])[chosen]
        longest = np.array([found.steps - 1 for found in self.formats])[chosen]
        observed = np.minimum(rng.integers(1, longest + 1), config.history)
        if self.fives:
            observed[rng.random(size) < self.fives] = min(ROLLOUT_HISTORY, config.history)
        points = self.split.shape[0]
        most = [most_observed(points, found.TINC, config.ahead) for found in self.formats]
        observed = np.minimum(observed, np.array(most)[chosen])
        span = (observed + config.ahead - 1) * strides
        border = np.clip((points - 1 - span) // 2, 0, self.border)
        start = border + (rng.random(size) * (points - 2 * border - span)).astype(int)
        # Frames before the observed ones are read, too, and struck out afterwards.
        places = np.arange(-config.history, config.ahead)
        times = start[:, None] + (observed[:, None] + places) * strides[:, None]
        times = np.clip(times, 0, points - 1)
        if self.augment:
            backwards = rng.integers(2, size=size).astype(bool)
            times[backwards] = points - 1 - times[backwards]
        frames = self.split.frames(samples, times)
        if self.augment:
            frames = sequences.apply_symmetries(frames, rng.integers(48, size=size))
        weights = np.float32([self.format_weights.get(found.TINC, 1) for found in self.formats])
        return frames, observed, strides, weights[chosen]


class SeveralForecaster:
    """A network for several frames, in the interface `helpers.rollout.Several`.

    Each network has a class of its own, which says how it is asked.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; the model knows its time step.
        name: how tables and figures call it.
        frames: look at so many of the latest frames at most; None looks at all that the model can
            read.
    """

    config: type  # the class of the configurations of such models
    title: str  # of the network

    def __init__(
        self,
        model: keras.Model,
        frame_format: sequences.FrameFormat,
        name: str | None = None,
        *,
        frames: int | None = None,
    ):
        config = getattr(model, "config", None)
        if not isinstance(config, self.config):
            raise TypeError(f"model is {model!r}; expected a {self.title} from build() or load().")
        self.model, self.name, self.step = model, name or self.title, frame_format.TINC
        if self.step not in config.steps:
            raise ValueError(
                f"{frame_format.name} has time step {self.step}; this model knows "
                f"{', '.join(map(str, config.steps))}."
            )
        self.ahead = config.ahead
        frames = config.history if frames is None else whole("frames", frames, 1)
        self.frames = min(frames, config.history)

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32."""
        return self._forecast(history, 1)[:, 0]

    def several(self, history) -> np.ndarray:
        """Forecast the next `ahead` frames: (B, T, D, H, W) to (B, ahead, D, H, W), float32."""
        return self._forecast(history, self.ahead)

    def _forecast(self, history, ahead: int) -> np.ndarray:
        config = self.model.config
        history = checked_history(history, grid=(config.grid,) * 3)[:, -self.frames :]
        count, observed = history.shape[:2]
        frames = np.zeros((count, config.history, *history.shape[2:]), np.float32)
        frames[:, -observed:] = history
        return self._probability(frames, observed, ahead)[:, :ahead]

    def _probability(self, frames: np.ndarray, observed: int, ahead: int) -> np.ndarray:
        """Ask the network: frames (B, `history`, D, H, W) to at least (B, `ahead`, D, H, W)."""
        raise NotImplementedError
