"""The ConvLSTM: a recurrent network whose memory is a grid of channels, in 3D."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, training
from helpers._checks import configuration, field
from helpers.models.shared import Mix, Pointwise, check_shape, to_patches, to_voxels
from helpers.models.weights import load_model
from helpers.records import PackedSplit
from helpers.rollout import checked_history
from helpers.sequences import FrameFormat, Shifted, from_packed
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

State = list[tuple[tf.Tensor, ...]]


def keras2_hard_sigmoid(x):
    """Return clip(0.2 x + 0.5, 0, 1), which Keras 2 called `hard_sigmoid`.

    Keras 3 gives that name to relu6(x + 3) / 6, whose slope is 1/6. Weights trained with one and
    run with the other give other forecasts without a word.
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


ACTIVATIONS = {"tanh": ops.tanh, "relu": ops.relu}
GATES = {"sigmoid": ops.sigmoid, "keras2_hard_sigmoid": keras2_hard_sigmoid}


@dataclass(frozen=True)
class Config:
    """Everything that shapes a ConvLSTM: `thesis()` and `workshop()` are two of them.

    A frame is cut into patches of `patch`³ voxels, whose voxels become channels. One ConvLSTM
    layer after another reads them. Then, if `width` is above 0, the memory and the patches are
    mixed in `blocks` residual bottleneck blocks. A last convolution gives one logit for each
    voxel.

    Attributes:
        filters: channels of the state of each ConvLSTM layer.
        kernels: edge of the kernel of each ConvLSTM layer, odd; as many as `filters`.
        activation: of the candidate and the output of a cell: `"tanh"` or `"relu"`.
        gate: of the three gates: `"sigmoid"` or `"keras2_hard_sigmoid"`.
        batch_normalisation: after every ConvLSTM layer but the last.
        output_kernel: edge of the kernel of the last convolution, odd.
        patch: voxels along the edge of a patch; divides `grid`.
        previous: read the frame before beside each frame, so that what moved need not be
            remembered; the first frame stands beside itself.
        width: channels of the residual blocks; 0 leaves them out.
        blocks: how many residual blocks.
        residual: the logits start from ± this value, + where the last frame is filled, so that an
            untrained network is persistence; 0 adds nothing.
        grid: voxels along the edge of a frame.
    """

    filters: tuple[int, ...] = field(least=1, whole=True, several=True)
    kernels: tuple[int, ...] = field(least=1, whole=True, odd=True, several=True)
    activation: str = field("tanh", choices=ACTIVATIONS)
    gate: str = field("sigmoid", choices=GATES)
    batch_normalisation: bool = field(False, choices=(False, True))
    output_kernel: int = field(1, least=1, whole=True, odd=True)
    patch: int = field(1, least=1, whole=True)
    previous: bool = field(False, choices=(False, True))
    width: int = field(0, least=0, whole=True)
    blocks: int = field(0, least=0, whole=True)
    residual: float = field(0.0, least=0)
    grid: int = field(16, least=1, whole=True)

    def __post_init__(self):
        configuration(self)
        if len(self.filters) != len(self.kernels):
            raise ValueError(
                f"filters is {self.filters}, kernels is {self.kernels}; expected one number for "
                "each ConvLSTM layer in both."
            )
        if self.grid % self.patch:
            raise ValueError(
                f"patch is {self.patch}, grid is {self.grid}; patches must fill the grid."
            )
        if self.blocks and not self.width:
            raise ValueError(
                f"blocks is {self.blocks}, width is {self.width}; residual blocks need a width."
            )


def thesis() -> Config:
    """The network of the thesis: 762,017 parameters, three layers at full resolution.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    return Config(
        filters=(32, 32, 32),
        kernels=(5, 3, 1),
        activation="relu",
        gate="keras2_hard_sigmoid",
        batch_normalisation=True,
        output_kernel=5,
    )


def workshop() -> Config:
    """A network for two CPU cores: a memory on 2³ patches, then residual blocks."""
    return Config(
        filters=(24,), kernels=(3,), patch=2, previous=True, width=128, blocks=6, residual=4.0
    )


class Memory(keras.layers.Layer):
    """One ConvLSTM3D layer, written from its equations.

    With * for convolution, ∘ for the product voxel by voxel, σ the gate and φ the activation:

        i = σ(Wᵢ * x + Uᵢ * h + bᵢ)      input gate: what to write
        f = σ(W_f * x + U_f * h + b_f)    forget gate: what to keep
        g = φ(W_g * x + U_g * h + b_g)    candidate: the new content
        o = σ(Wₒ * x + Uₒ * h + bₒ)      output gate: what to show
        c ← f ∘ c + i ∘ g                 cell state
        h ← o ∘ φ(c)                      hidden state, the output

    The four kernels lie side by side, in this order, in one array, so a step costs one
    convolution, and W * x is computed for all frames at once. Weights have the layout of
    `keras.layers.ConvLSTM3D`; given the same ones, both give the same output.

    Source: X. Shi et al., *Convolutional LSTM Network*, 2015 (arXiv 1506.04214), equation 3
    without peepholes.
    """

    def __init__(self, filters: int, kernel: int, activation="tanh", gate="sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_edge = filters, kernel
        self.activation, self.gate = activation, gate
        self._phi, self._sigma = ACTIVATIONS[activation], GATES[gate]

    def build(self, shape):
        """Make kernel (k, k, k, C, 4F), recurrent kernel (k, k, k, F, 4F) and bias (4F,)."""
        edge = (self.kernel_edge,) * 3
        four = 4 * self.filters
        self.kernel = self.add_weight(shape=(*edge, shape[-1], four), name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(*edge, self.filters, four), initializer="orthogonal", name="recurrent_kernel"
        )
        # The forget gate starts open, so that early training does not lose the past.
        self.bias = self.add_weight(shape=(four,), initializer=_open_forget_gate, name="bias")

    def start(self, frame) -> tuple[tf.Tensor, tf.Tensor]:
        """Return an empty memory (h, c), each (B, D, H, W, F), for a frame (B, D, H, W, C)."""
        empty = ops.zeros((*ops.shape(frame)[:-1], self.filters), self.compute_dtype)
        return empty, empty

    def step(self, frame, state):
        """Read one frame (B, D, H, W, C); return the new state (h, c)."""
        return self._step(self._from_input(frame), state)

    def call(self, frames):
        """Read all frames (B, T, D, H, W, C); return h after each one, (B, T, D, H, W, F)."""
        if len(frames.shape) != 6 or not frames.shape[1]:  # each frame is a step in the graph
            raise ValueError(
                f"frames has shape {tuple(frames.shape)}; expected (B, T, D, H, W, C), the number "
                "of frames known and above 0."
            )
        shape = ops.shape(frames)
        every = ops.reshape(frames, (-1, *shape[2:]))
        inputs = ops.reshape(self._from_input(every), (*shape[:-1], 4 * self.filters))
        state = self.start(frames[:, 0])
        hidden = []
        for time in range(frames.shape[1]):
            state = self._step(inputs[:, time], state)
            hidden.append(state[0])
        return ops.stack(hidden, axis=1)

    def _from_input(self, frames):
        return self._conv(frames, self.kernel) + ops.cast(self.bias, self.compute_dtype)

    def _step(self, inputs, state):
        h, c = state
        i, f, g, o = ops.split(inputs + self._conv(h, self.recurrent_kernel), 4, axis=-1)
        c = self._sigma(f) * c + self._sigma(i) * self._phi(g)
        return self._sigma(o) * self._phi(c), c

    def _conv(self, x, kernel):
        # Keras casts weights for mixed precision in `call` only, and `step` is called by itself.
        return ops.conv(x, ops.cast(kernel, self.compute_dtype), padding="same")


def _open_forget_gate(shape, dtype=None):
    i, f, g, o = np.zeros((4, shape[0] // 4))
    return ops.convert_to_tensor(np.concatenate([i, f + 1, g, o]), dtype)


class ConvLSTM(keras.Model):
    """A ConvLSTM forecaster as a Keras model: made by `build`, trained by `fit`.

    Called with frames (B, T, D, H, W, 1), it returns probabilities of the same shape: what comes
    out at time t was computed from frames 0…t and forecasts frame t + 1.
    """

    def __init__(self, config: Config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.memories = [
            Memory(*sizes, config.activation, config.gate, name=f"memory_{number}")
            for number, sizes in enumerate(zip(config.filters, config.kernels))
        ]
        self.norms = [
            keras.layers.BatchNormalization(name=f"norm_{number}")
            for number in range(len(self.memories) - 1)
            if config.batch_normalisation
        ]
        self.widen = Pointwise(config.width, name="widen") if config.width else None
        self.mixes = [Mix(config.width, name=f"mix_{number}") for number in range(config.blocks)]
        self.head = keras.layers.Conv3D(
            config.patch**3,
            config.output_kernel,
            padding="same",
            kernel_initializer="zeros" if config.residual else "glorot_uniform",
            name="head",
        )
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        frame = tf.zeros((1, *[config.grid] * 3, 1))
        signature = tf.nest.map_structure(
            lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype),
            (frame, self.start(frame)),
        )
        self.compiled_step = tf.function(self.step, input_signature=signature)
        # Without what reads a forecast from the states, which TensorFlow leaves out here.
        self.compiled_remember = tf.function(
            lambda frame, states: self.step(frame, states)[1], input_signature=signature
        )

    def call(self, frames, training=False):
        """Return the probability of the frame after each one, float32 (B, T, D, H, W, 1)."""
        check_shape(frames.shape, ("B", "T", *[self.config.grid] * 3, 1))
        frames = ops.cast(frames, self.compute_dtype)
        shape = ops.shape(frames)
        patches = hidden = self._cut(ops.reshape(frames, (-1, *shape[2:])))
        if self.config.previous:
            steps = ops.reshape(patches, (*shape[:2], *patches.shape[1:]))
            before = ops.concatenate([steps[:, :1], steps[:, :-1]], axis=1)
            hidden = ops.concatenate([patches, ops.reshape(before, ops.shape(patches))], axis=-1)
        seen = hidden
        for number, memory in enumerate(self.memories):
            # Frames become time steps for the memory only; all else reads them one by one.
            steps = ops.reshape(hidden, (*shape[:2], *hidden.shape[1:]))
            hidden = ops.reshape(memory(steps), (-1, *hidden.shape[1:-1], memory.filters))
            if number < len(self.norms):
                hidden = self.norms[number](hidden, training=training)
        return ops.reshape(self._read_out(hidden, seen, patches), shape)

    def step(self, frame, states: State):
        """Read one more frame.

        Args:
            frame: (B, D, H, W, 1).
            states: from the step before, or `self.start(frame)`: one (h, c) for each layer,
                after the patches of the frame before if the configuration reads them.

        Returns:
            The probability of the next frame, float32 (B, D, H, W, 1), and the new states.
        """
        patches = hidden = self._cut(ops.cast(frame, self.compute_dtype))
        new = []
        if self.config.previous:
            (before,), *states = states
            new.append((patches,))
            hidden = ops.concatenate([patches, before], axis=-1)
        seen = hidden
        for number, (memory, state) in enumerate(zip(self.memories, states)):
            state = memory.step(hidden, state)
            new.append(state)
            hidden = state[0]
            if number < len(self.norms):
                hidden = self.norms[number](hidden, training=False)
        return self._read_out(hidden, seen, patches), new

    def start(self, frame) -> State:
        """Return empty memories for a batch of frames (B, D, H, W, 1)."""
        patches = self._cut(ops.cast(frame, self.compute_dtype))
        first = [(patches,)] if self.config.previous else []
        return first + [memory.start(patches) for memory in self.memories]

    def _cut(self, frames):
        return to_patches(frames, self.config.patch)

    def _read_out(self, hidden, seen, patches):
        """From memory (N, …, F), what it read, and last frame (N, …, p³) to (N, D, H, W, 1)."""
        if self.widen:
            hidden = self.widen(ops.concatenate([hidden, seen], axis=-1))
        for mix in self.mixes:
            hidden = mix(hidden)
        # Probabilities need float32, also where the rest is computed in half precision.
        logits = ops.cast(self.head(hidden), "float32")
        if self.config.residual:
            logits = logits + self.config.residual * (2 * ops.cast(patches, "float32") - 1)
        return ops.sigmoid(to_voxels(logits, self.config.patch))


def build(config: Config) -> ConvLSTM:
    """Return an untrained model of this configuration, its weights made."""
    model = ConvLSTM(config, name="convlstm")
    model(keras.Input((1, *[config.grid] * 3, 1), 1))  # a symbol: layers see their shapes
    return model


def multiply_adds(config: Config) -> int:
    """Return how many multiplications, each with an addition, one more frame costs.

    Every layer works on each patch, so that is the number of patches times that of the weights in
    kernels. Activations and sums are left out.
    """
    kernels = [each.shape for each in build(config).trainable_variables if len(each.shape) > 1]
    return (config.grid // config.patch) ** 3 * sum(math.prod(shape) for shape in kernels)


def load(path: str | Path) -> ConvLSTM:
    """Return the model of shipped weights: `NAME.npz` with its card `NAME.json` beside it."""
    return load_model(path, Config, build, "ConvLSTM")


def batches(
    split: PackedSplit, formats: Sequence[FrameFormat], config: Config, plan: training.Plan
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on, of whole sequences.

    With several formats, one batch of each follows the other. Each is a pair of all frames but the
    last and all but the first, (B, T - 1, D, H, W, 1).
    """

    def stream(number: int, step: int) -> tf.data.Dataset:
        options = {"batch_size": plan.batch_size, "seed": plan.seed + number, "repeat": True}
        options |= {"drop_remainder": True, "start_step": step}
        return from_packed(split, formats[number], Shifted(), **options)

    def batches(step: int) -> tf.data.Dataset:
        count = len(formats)
        # Of the first `step` batches, so many were of this stream.
        streams = [stream(n, (step - n + count - 1) // count) for n in range(count)]
        turns = tf.data.Dataset.counter(step).map(lambda number: number % count)
        return tf.data.Dataset.choose_from_datasets(streams, turns)

    return batches


def validation(
    split: PackedSplit, formats: Sequence[FrameFormat], config: Config, count: int = 64
) -> tf.data.Dataset:
    """Return pairs of the first `count` sequences in each format."""
    frames = split.frames(slice(count))
    chosen = np.concatenate([found.select(frames) for found in formats])[..., np.newaxis]
    data = tf.data.Dataset.from_tensor_slices((chosen[:, :-1], chosen[:, 1:])).batch(16)
    return data.map(lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.float32)))


def compile_options(config: Config, plan: training.Plan, *, jaccard_weight: float = 0.05) -> dict:
    """Return optimizer, loss and metric for `model.compile`.

    `jaccard_weight` is that of the soft Jaccard distance in the loss.
    """
    return {
        "optimizer": plan.optimizer(),
        "loss": training.voxel_loss(jaccard_weight),
        "metrics": [metrics.keras_jaccard("pooled")],
    }


def monitor(config: Config) -> str:
    """Return by which figure of validation the best weights are chosen."""
    return "val_jaccard_pooled"


class ConvLSTMForecaster:
    """A model as a forecaster that carries its memory along; see `helpers.rollout.Recurrent`.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; it is not told, and forecasts any.
        name: how tables and figures call it.
    """

    def __init__(
        self, model: ConvLSTM, frame_format: FrameFormat | None = None, name: str = "ConvLSTM3D"
    ):
        if not isinstance(model, ConvLSTM):
            raise TypeError(f"model is {model!r}; expected a ConvLSTM from build() or load().")
        self.model, self.name = model, name

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32."""
        return self.begin(history)[0]

    def begin(self, history) -> tuple[np.ndarray, State]:
        """Read a history; return the forecast of the next frame and the memory."""
        frames = tf.constant(self._checked(history, "history"))
        state = self.model.start(frames[:, 0])
        for time in range(frames.shape[1] - 1):
            state = self.model.compiled_remember(frames[:, time], state)
        return self._forecast(frames[:, -1], state)

    def advance(self, frame, state: State) -> tuple[np.ndarray, State]:
        """Read one more frame (B, D, H, W); return the forecast of the next one and the memory."""
        frame = self._checked(np.expand_dims(frame, 1), "frame")[:, 0]
        remembered = len(state[0][0])
        if len(frame) != remembered:
            raise ValueError(
                f"frame has {len(frame)} sequences, the memory {remembered}; go on with those that "
                "it began with."
            )
        return self._forecast(tf.constant(frame), state)

    def _checked(self, frames, what: str) -> np.ndarray:
        """(B, T, D, H, W) to float32 (B, T, D, H, W, 1), if it is right for the model."""
        grid = (self.model.config.grid,) * 3
        return checked_history(frames, grid=grid, what=what)[..., np.newaxis]

    def _forecast(self, frame, state: State) -> tuple[np.ndarray, State]:
        probability, state = self.model.compiled_step(frame, state)
        return probability.numpy()[..., 0], state


forecaster = ConvLSTMForecaster  # the same name in the module of each model
