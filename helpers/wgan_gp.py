"""The WGAN-GP: a generator that forecasts a frame, a critic that judges it, and their training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, sequences, training
from helpers._checks import choice, configuration, field, whole
from helpers.models import cnn, shared
from helpers.models.weights import load_model
from helpers.rollout import checked_history
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import layers, ops  # noqa: E402

GENERATORS = ("cnn", "bottleneck")
NORMS = ("layer", "group")
PAIRINGS = ("history", "target")
PARTS = ("reconstruction", "critic", "both")  # of a training step
COARSE = 4  # the critic and the bottleneck halve the grid twice


@dataclass(frozen=True)
class Config:
    """Everything that shapes both networks and their losses: `thesis()` and `workshop()`.

    The generator is the network of `helpers.models.cnn` (`"cnn"`: skips, and logits that start from
    the last frame), or the thesis's encoder and generator (`"bottleneck"`: all that is known of a
    frame passes through `latent` numbers).

    Attributes:
        frames: both networks read so many of the latest frames.
        generator: `"cnn"` or `"bottleneck"`.
        width: of the generator: channels of the residual blocks (CNN), or of the coarsest grid
            (bottleneck).
        blocks, residual: see `helpers.models.cnn.Config`; CNN only.
        noise: so many channels of noise are read beside the frames; CNN only.
        latent, kernel: numbers that describe a frame, edge of the kernels; bottleneck only.
        dropout: share of channels left out in encoder and critic.
        patch: generator and critic cut frames into patches of `patch`³ voxels, which become
            channels; 1 for the bottleneck.
        critic_width, critic_kernel: of the critic: channels of its coarsest grid, edge of its
            kernels.
        critic_norm: `"layer"` normalises the channels of each voxel, `"group"` those of all voxels
            of a sample together. There is no batch normalisation here: the penalty asks for the
            gradient at one sample, which must not depend on the others.
        pairing: what the critic sees beside a candidate: the `"history"`, or the `"target"` as in
            the thesis; see `WGANGP`.
        straight_through: the critic sees forecasts as 0 and 1; see `binarise`.
        reconstruction: weight of the compiled loss, forecast against target.
        adversarial: weight of the critic's opinion in the loss of the generator.
        penalty: weight of the gradient penalty in the loss of the critic.
        critic_steps: the critic learns so many times from a batch, the generator once.
        warm_up: for so many steps the generator learns from the reconstruction alone; for as many
            more the weight `adversarial` rises to its value, while the critic catches up.
        steps: the time steps (TINC) that the networks know; told only if there are several.
        grid: voxels along the edge of a frame, a multiple of 4 · `patch`.

    Raises:
        TypeError, ValueError: one of them breaks the rules above.
    """

    frames: int = field(least=1, whole=True)
    generator: str = field("cnn", choices=GENERATORS)
    width: int = field(128, least=8, whole=True)
    blocks: int = field(6, least=0, whole=True)
    patch: int = field(2, least=1, whole=True)
    residual: float = field(4.0, above=0)
    noise: int = field(0, least=0, whole=True)
    latent: int = field(256, least=1, whole=True)
    kernel: int = field(5, least=1, whole=True, odd=True)
    dropout: float = field(0.0, least=0, below=1)
    critic_width: int = field(128, least=8, whole=True)
    critic_kernel: int = field(3, least=1, whole=True, odd=True)
    critic_norm: str = field("group", choices=NORMS)
    pairing: str = field("history", choices=PAIRINGS)
    straight_through: bool = field(True, choices=(True, False))
    reconstruction: float = field(1.0, least=0)
    adversarial: float = field(0.03, least=0)
    penalty: float = field(10.0, least=0)
    critic_steps: int = field(3, least=1, whole=True)
    warm_up: int = field(500, least=0, whole=True)
    steps: tuple[int, ...] = field((1, 2, 4), least=1, whole=True, several=True)
    grid: int = field(16, least=1, whole=True)

    def __post_init__(self):
        configuration(self)
        if self.grid % (COARSE * self.patch):
            raise ValueError(
                f"grid is {self.grid}; expected a multiple of {COARSE * self.patch}, since the "
                f"critic cuts it into patches of {self.patch}³ and halves it twice."
            )
        if not self.reconstruction and not self.adversarial:
            raise ValueError("reconstruction and adversarial are 0: there is nothing to learn.")
        if self.noise and self.generator != "cnn":
            raise ValueError(f"noise is {self.noise}; only generator='cnn' reads noise.")
        self.network  # noqa: B018  (checks what is left)

    @property
    def network(self) -> cnn.Config:
        """The generator `"cnn"` in the words of `helpers.models.cnn`; it says what is read."""
        names = ("width", "blocks", "patch", "residual", "steps", "grid", "noise")
        options = {name: getattr(self, name) for name in names}
        return cnn.Config(history=self.frames, ahead=1, **options)

    @property
    def critic_input(self) -> tuple[int, int, int, int]:
        """The shape of what the critic sees: patches of the given frames and of a candidate.

        With pairing `"history"` and several known steps, one constant channel for each of them.
        """
        volumes, told = (2, 0) if self.pairing == "target" else (self.frames + 1, len(self.steps))
        channels = volumes * self.patch**3 + (told if told > 1 else 0)
        return (*[self.grid // self.patch] * 3, channels)


def thesis(frames: int = 1, **changes) -> Config:
    """The AEncGAN3D of the thesis, from one frame or from three; changes as in `width=16`.

    Encoder 9,620,416 parameters, generator 9,636,065 (three frames 18,024,673), critic 5,445,281.
    It has no reconstruction loss, a penalty of weight 100, one critic step, and a critic that
    compares a forecast with its target (see `WGANGP`). Its code names L1 regularisers, but its
    loss never adds them, so they are left out. With three frames it runs the encoder as if it
    forecast, so that its batch normalisation never learns; here it is trained like the rest.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    choice("frames", frames, (1, 3))
    options = {
        "generator": "bottleneck",
        "width": 256,
        "patch": 1,
        "dropout": 0.2,
        "critic_width": 256,
        "critic_kernel": 5,
        "critic_norm": "layer",
        "pairing": "target",
        "straight_through": False,
        "reconstruction": 0.0,
        "adversarial": 1.0,
        "penalty": 100.0,
        "critic_steps": 1,
        "warm_up": 0,
        "steps": (1,),
    }
    return Config(frames, **(options | changes))


def workshop(frames: int = 3, **changes) -> Config:
    """A conditional WGAN-GP for two CPU cores, one for all formats; changes as in `noise=4`."""
    return Config(frames, **changes)


def inputs(config: Config, frames: np.ndarray, step) -> dict[str, np.ndarray]:
    """Return what a model reads: `past` (B, D, H, W, C), see `helpers.models.cnn.inputs`.

    Args:
        config: of the model.
        frames: (B, `frames`, D, H, W), 0…1.
        step: their TINC, one for all or (B,).
    """
    count = len(frames)
    known = np.full(count, config.frames), np.broadcast_to(step, count)
    return {"past": cnn.inputs(config.network, frames, *known)}


def frames_of(config: Config, inputs):
    """Return the frames in what a model reads, 0…1: float32 (B, `frames`, D, H, W)."""
    return ops.moveaxis((inputs["past"][..., : config.frames] + 1) / 2, -1, 1)


# The networks


def encoder(config: Config) -> keras.Model:
    """Return the network from a frame (B, D, H, W, 1) to its latent code (B, `latent`)."""
    frame = keras.Input((*[config.grid] * 3, 1))
    norm = layers.BatchNormalization
    x = _downwards(frame, config.width, config.kernel, norm, config.dropout)
    return keras.Model(frame, layers.Dense(config.latent, name="code")(x), name="encoder")


def generator(config: Config) -> keras.Model:
    """Return the network from latent codes (B, `frames`·`latent`) to logits (B, D, H, W, 1)."""
    base, width = config.grid // COARSE, config.width
    conv = functools.partial(layers.Conv3DTranspose, kernel_size=config.kernel, padding="same")

    def active(x):
        return layers.ReLU()(layers.BatchNormalization()(x))

    codes = keras.Input((config.frames * config.latent,))
    x = layers.Dense(width * base**3, name="from_code")(codes)
    x = layers.Reshape((base, base, base, width))(x)
    for filters, times in ((width // 2, 1), (width // 4, 2), (width // 8, 2)):
        shortcut = layers.Conv3D(filters, 1)(layers.UpSampling3D(times)(x))
        x = layers.Add()([shortcut, conv(filters)(layers.UpSampling3D(times)(active(x)))])
    return keras.Model(codes, conv(1, name="logits")(active(x)), name="generator")


def critic(config: Config) -> keras.Model:
    """Return the network from patches (B, *`critic_input`) to a score (B, 1).

    Always float32: the penalty needs a derivative of a derivative, and half precision loses it.
    """
    volumes = keras.Input(config.critic_input, dtype="float32")
    norm = functools.partial(layers.LayerNormalization, dtype="float32")
    if config.critic_norm == "group":
        norm = functools.partial(layers.GroupNormalization, groups=1, dtype="float32")
    sizes = config.critic_width, config.critic_kernel
    x = _downwards(volumes, *sizes, norm, config.dropout, "float32")
    return keras.Model(volumes, layers.Dense(1, name="score", dtype="float32")(x), name="critic")


def _downwards(x, width: int, kernel: int, norm: Callable, dropout: float, dtype=None):
    """From volumes (B, D, H, W, C) over three blocks, two of which halve the grid, to (B, F)."""
    conv = functools.partial(layers.Conv3D, kernel_size=kernel, padding="same", dtype=dtype)

    def active(x):
        x = layers.LeakyReLU(0.3, dtype=dtype)(norm()(x))
        return layers.Dropout(dropout, dtype=dtype)(x) if dropout else x

    x = conv(width // 8)(x)
    for filters, stride in ((width // 4, 2), (width // 2, 2), (width, 1)):
        smaller = layers.AveragePooling3D(stride, dtype=dtype)(x) if stride > 1 else x
        shortcut = layers.Conv3D(filters, 1, dtype=dtype)(smaller)
        x = layers.Add(dtype=dtype)([shortcut, conv(filters, strides=stride)(active(x))])
    return layers.Flatten(dtype=dtype)(active(x))


# The losses


def gradient_penalty(critic: Callable, real, fake, share):
    """Return how far the critic's slope between true and generated frames is from 1.

    With x = `real` + `share` · (`fake` - `real`) it is the mean of (‖∇ₓ critic(x)‖ - 1)² over the
    samples. The slope of a constant critic is 0, and there the square root has no derivative: it
    is left out of the gradient, which stays finite.

    Args:
        critic: from candidates (B, ...) to scores (B,) or (B, 1). Whatever else it looks at is no
            part of x: only candidates are mixed.
        real, fake: (B, ...), true and generated candidates.
        share: (B, 1, ..., 1), uniform in 0…1: where on the line between them. Not normal: that
            would leave the line.

    Source: I. Gulrajani et al., *Improved Training of Wasserstein GANs*, 2017 (arXiv 1704.00028),
    equation 3.
    """
    mixed = real + share * (fake - real)
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        # The sum over samples: each score depends on its own sample only.
        score = ops.sum(critic(mixed))
    slope = tape.gradient(score, mixed)
    squared = ops.sum(ops.square(slope), axis=tuple(range(1, len(slope.shape))))
    # Without the inner choice the gradient at 0 would be 0 · ∞, which is NaN.
    flat = squared == 0
    length = ops.where(flat, 0.0, ops.sqrt(ops.where(flat, 1.0, squared)))
    return ops.mean(ops.square(length - 1))


def binarise(probability):
    """Return 0 and 1, with the gradient of the probabilities: a straight-through estimator.

    True frames hold only 0 and 1. A critic that sees a grey voxel knows at once that the frame is
    none of them, and teaches the generator to paint black and white, and nothing about shapes.
    Rounded, forecasts look like frames; but rounding has no gradient. So the way forward is
    rounded and the way back takes the gradient as if it were not.

    Args:
        probability: any shape, 0…1; a voxel counts as filled from 0.5 on.

    Source: Y. Bengio et al., *Estimating or Propagating Gradients Through Stochastic Neurons*, 2013
    (arXiv 1308.3432).
    """
    filled = ops.cast(probability >= 0.5, probability.dtype)
    return filled + (probability - ops.stop_gradient(probability))


def mixing_share(like, seed):
    """Return where on the line between two candidates, uniform in 0…1: (B, 1, 1, 1)."""
    return tf.random.stateless_uniform((ops.shape(like)[0], 1, 1, 1), seed)


class WGANGP(keras.Model):
    """Generator and critic as one Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `past` (B, D, H, W, C), see `helpers.models.cnn.inputs`, it returns the
    probabilities of the next frame, float32 (B, D, H, W). With `noise` channels it also takes
    `noise`, see `noise_for`; without it the noise is 0.

    One training step: the critic c learns `critic_steps` times from the batch, each time with new
    noise and new places on the line between truth and forecast, then the generator learns once:

        critic     mean c(forecast) - mean c(truth) + penalty · (‖slope‖ - 1)²
        generator  reconstruction · loss(forecast, truth) - adversarial · mean c(forecast)

    The critic is *conditional* with `pairing="history"`: it sees [history, candidate] and learns
    which frames may follow this history. Only the candidate is mixed in the penalty. The thesis's
    critic, `pairing="target"`, sees [candidate, target], and for the truth [target, target]. It
    becomes a learned distance to the target: the best one of its kind is -‖candidate - target‖.
    It cannot say what is possible, since it does not see the history.

    In `evaluate` and `fit`, `loss` is the reconstruction; `distance` is mean c(truth) - mean
    c(forecast), the critic's estimate of how far the forecasts are from the truth; `critic` is the
    critic's loss; `penalty` is without its weight. The last three are 0 while the generator warms
    up. What is drawn at random depends on the step only, so a resumed run draws the same.
    """

    def __init__(self, config: Config, **kwargs):
        super().__init__(**kwargs)
        self.config, self.encoder = config, None
        if config.generator == "bottleneck":
            self.encoder, self.generator = encoder(config), generator(config)
        else:
            self.generator = cnn.build(config.network)
        self.critic = critic(config)
        self.built = True
        self.distance = keras.metrics.Mean(name="distance")
        self.critic_loss = keras.metrics.Mean(name="critic")
        self.penalty = keras.metrics.Mean(name="penalty")
        self.part = PARTS[0]
        grid, coarse = [config.grid] * 3, [config.grid // COARSE] * 3
        signature = {"past": tf.TensorSpec((None, *grid, cnn.channels(config.network)), tf.float32)}
        if config.noise:
            signature["noise"] = tf.TensorSpec((None, *coarse, config.noise), tf.float32)
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        self.compiled_call = tf.function(self.call, input_signature=(signature,))

    def call(self, inputs, training=False):
        """See the class."""
        past = self._past(inputs)
        if self.encoder is not None:
            frames = frames_of(self.config, inputs)
            codes = self.encoder(ops.reshape(frames, (-1, *frames.shape[2:], 1)), training=training)
            codes = ops.reshape(codes, (-1, self.config.frames * self.config.latent))
            logits = self.generator(codes, training=training)[..., 0]
            return ops.sigmoid(ops.cast(logits, "float32"))
        if self.config.noise:
            noise = inputs.get("noise")
            if noise is None:
                noise = ops.zeros_like(self.noise_for(ops.shape(past)[0], (0, 0)))
            for axis in (1, 2, 3):
                noise = ops.repeat(noise, COARSE, axis=axis)
            past = ops.concatenate([past, noise], axis=-1)
        return self.generator({"past": past})["next"][:, 0]

    def noise_for(self, count: int, seed) -> tf.Tensor:
        """Return normal noise (`count`, D/4, H/4, W/4, `noise`) for two whole numbers as seed."""
        coarse = [self.config.grid // COARSE] * 3
        return tf.random.stateless_normal((count, *coarse, self.config.noise), seed)

    def score(self, inputs, target, candidate, training=False):
        """Return the critic's opinion of candidates (B, D, H, W), float32 (B,).

        Args:
            inputs: see the class.
            target: (B, D, H, W); looked at with `pairing="target"` only.
            candidate: the frame to be judged.
            training: whether to leave out channels at random, if the configuration says so.
        """
        past = self._past(inputs)
        if self.config.pairing == "target":
            given = ops.cast(target, "float32")[:, None]
        else:
            given = frames_of(self.config, inputs)
        volumes = ops.concatenate([given, candidate[:, None]], axis=1)
        cut = shared.to_patches(ops.transpose(volumes, (0, 2, 3, 4, 1)), self.config.patch)
        if self.config.critic_input[-1] > cut.shape[-1]:
            known = past[:, :1, :1, :1, -1 - len(self.config.steps) : -1]
            cut = ops.concatenate([cut, known * ops.ones_like(cut[..., :1])], axis=-1)
        return self.critic(cut, training=training)[:, 0]

    def candidate(self, probability):
        """Return forecasts as the critic sees them."""
        return binarise(probability) if self.config.straight_through else probability

    # Training

    def compile(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        critic_optimizer: keras.optimizers.Optimizer,
        **options,
    ) -> None:
        """Make ready for `fit`: both optimizers get their variables; options as in Keras.

        The loss is `helpers.training.voxel_loss()` unless told.
        """
        super().compile(optimizer=None, **{"loss": training.voxel_loss()} | options)
        if self.compute_dtype == "float16":
            generator_optimizer = keras.optimizers.LossScaleOptimizer(generator_optimizer)
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer
        self.generator_optimizer.build(self.generator_variables)
        self.critic_optimizer.build(self.critic.trainable_variables)

    @property
    def generator_variables(self) -> list[keras.Variable]:
        """What the generator's optimizer changes."""
        parts = [self.generator] if self.encoder is None else [self.encoder, self.generator]
        return [variable for part in parts for variable in part.trainable_variables]

    def make_train_function(self, force: bool = False):
        """Compile what is done with a batch as three functions, and call them one by one.

        All in one graph would not do: with several devices, an optimizer must not be called inside
        a branch or a loop, and without loops the graph would hold every step of the critic.
        """
        if self.train_function is not None and not force:
            return
        parts = {}
        for part in PARTS:
            super().make_train_function(force=True)
            parts[part] = self.train_function

        def run(part, batch):
            self.part = part  # read when the function is traced
            return parts[part]([batch])

        def step(iterator):
            batch = next(iterator)
            done = int(ops.convert_to_numpy(self.generator_optimizer.iterations))
            if not self.config.adversarial or done < self.config.warm_up:
                return run("reconstruction", batch)
            for _ in range(self.config.critic_steps):
                run("critic", batch)
            return run("both", batch)

        self.train_function = step

    def train_step(self, data):
        """Do one part of a training step with a batch (inputs, target); see `PARTS`."""
        inputs, target, _ = keras.utils.unpack_x_y_sample_weight(data)
        target = ops.cast(target, "float32")
        if self.config.noise:
            inputs = {**inputs, "noise": self.noise_for(ops.shape(target)[0], self._seed(0))}
        if self.part == "critic":
            return self._train_critic(inputs, target)
        return self._train_generator(inputs, target, self.part == "both")

    def _train_critic(self, inputs, target) -> dict:
        """Let the critic learn once from a batch; its figures are reported with the generator's."""
        candidate = self.candidate(self(inputs, training=True))
        share = mixing_share(target, self._seed(1))
        with tf.GradientTape() as tape:
            fake = self.score(inputs, target, candidate, training=True)
            real = self.score(inputs, target, target, training=True)
            penalty = gradient_penalty(
                lambda mixed: self.score(inputs, target, mixed), target, candidate, share
            )
            distance = ops.mean(real) - ops.mean(fake)
            loss = self.config.penalty * penalty - distance
            # Gradients of several devices are added up, and each has its part of the batch.
            part = loss / self._replicas
        variables = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(part, variables), variables)
        self.distance.update_state(distance)
        self.critic_loss.update_state(loss)
        self.penalty.update_state(penalty)
        return {}

    def _train_generator(self, inputs, target, judged: bool) -> dict:
        """Let the generator learn once from a batch; return what has been measured so far."""
        with tf.GradientTape() as tape:
            probability = self(inputs, training=True)
            reconstruction = self.compute_loss(inputs, target, probability)
            loss = self.config.reconstruction * reconstruction
            if judged:
                candidate = self.candidate(probability)
                score = self.score(inputs, target, candidate, training=True)
                loss = loss - self._weight() * ops.mean(score) / self._replicas
            loss = self.generator_optimizer.scale_loss(loss)
        variables = self.generator_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        count = ops.shape(target)[0]
        self._loss_tracker.update_state(reconstruction * self._replicas, sample_weight=count)
        return self.compute_metrics(inputs, target, probability)

    def test_step(self, data):
        """Judge a batch: the loss and the compiled metrics, and the critic's distance."""
        inputs, target, _ = keras.utils.unpack_x_y_sample_weight(data)
        target = ops.cast(target, "float32")
        count = ops.shape(target)[0]
        probability = self(inputs)
        loss = self.compute_loss(inputs, target, probability, training=False)
        self._loss_tracker.update_state(loss * self._replicas, sample_weight=count)
        real = self.score(inputs, target, target)
        fake = self.score(inputs, target, self.candidate(probability))
        self.distance.update_state(ops.mean(real - fake), sample_weight=count)
        found = self.compute_metrics(inputs, target, probability)
        return {name: each for name, each in found.items() if name not in ("critic", "penalty")}

    @property
    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync

    def _weight(self):
        """Return the weight of the critic's opinion at this step, a scalar."""
        done = ops.cast(self.generator_optimizer.iterations, "float32") + 1 - self.config.warm_up
        return self.config.adversarial * ops.minimum(done / max(self.config.warm_up, 1), 1.0)

    def _seed(self, number: int):
        """Return a seed of its own for each step of either part, device and number, int64 (2,)."""
        place = ops.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "int64")
        optimizers = (self.generator_optimizer, self.critic_optimizer)
        done = sum(ops.cast(each.iterations, "int64") for each in optimizers)
        return ops.stack([done, 1000 * place + number])

    def _past(self, inputs):
        """Return what is read as float32, or say what is wrong with it."""
        past = ops.cast(inputs["past"], "float32")
        config = self.config
        shared.check_shape(
            past.shape, ("B", *[config.grid] * 3, cnn.channels(config.network)), "past"
        )
        return past


def build(config: Config) -> WGANGP:
    """Return an untrained model of this configuration, its weights made."""
    return WGANGP(config, name="wgan_gp")


def multiply_adds(config: Config) -> int:
    """Return how many multiplications, each with an addition, one forecast of `"cnn"` costs."""
    choice("generator", config.generator, ("cnn",))
    return cnn.multiply_adds(config.network)


def load(path: str | Path) -> WGANGP:
    """Return the model of shipped weights: `NAME.npz` with its card `NAME.json` beside it.

    Raises:
        FileNotFoundError, CheckpointError: see `helpers.models.weights.load_model`.
    """
    return load_model(path, Config, build, "WGAN-GP")


# Data and training


def from_windows(
    config: Config, frame_format: sequences.FrameFormat, history, target
) -> tuple[dict, tf.Tensor]:
    """Turn a batch of `Windows`, (B, T, D, H, W, 1) and (B, D, H, W, 1), into what `fit` reads."""
    inputs, _ = cnn.from_windows(config.network, frame_format, history, target)
    return inputs, target[..., 0]


def batches(
    split, formats: Sequence[sequences.FrameFormat], config: Config, plan: training.Plan
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on, turned and mirrored.

    With several formats, one batch of each follows the other. Each is a pair of `past`
    (B, D, H, W, C), see `helpers.models.cnn.inputs`, and the frame that follows, (B, D, H, W).
    """
    _check_formats(formats, config)
    windows, prepare = sequences.Windows(config.frames), functools.partial(from_windows, config)
    augmented = {"symmetries": True, "time_reversal": True}
    return shared.in_turn(split, formats, plan, windows, prepare, **augmented)


def validation(
    split, formats: Sequence[sequences.FrameFormat], config: Config, count: int = 64
) -> tf.data.Dataset:
    """Return every third window of the first `count` samples in each format, in even batches."""
    _check_formats(formats, config)
    frames = split.frames(np.arange(min(count, len(split))))
    parts = []
    for found in formats:
        chosen = found.select(frames)
        for first in range(0, found.steps - config.frames, 3):
            window = chosen[:, first : first + config.frames + 1]
            parts.append((window, np.full(len(window), found.TINC, np.int64)))
    windows, steps = (np.concatenate(part) for part in zip(*parts))
    data = tf.data.Dataset.from_tensor_slices((windows, steps)).batch(32, drop_remainder=True)

    def split_up(window, step):
        past = cnn.past_of(config.network, window[:, :-1], step)
        return {"past": past}, tf.cast(window[:, -1], tf.float32)

    return data.map(split_up)


def _check_formats(formats: Sequence[sequences.FrameFormat], config: Config) -> None:
    unknown = [found.name for found in formats if found.TINC not in config.steps]
    # A model that knows one step is never told it, and takes any.
    if not formats or (unknown and len(config.steps) > 1):
        raise ValueError(
            f"The formats are {', '.join(found.name for found in formats) or 'none'}; expected "
            f"one or more with a TINC in {config.steps}, the steps that the model knows."
        )


def compile_options(
    config: Config,
    plan: training.Plan,
    *,
    jaccard_weight: float = 0.05,
    critic_rate: float = 2e-4,
) -> dict:
    """Return optimizers, loss and metric for `model.compile`.

    The generator has the AdamW of the plan, the critic an Adam of constant rate without momentum:
    what it chases moves away at every step.

    Args:
        config: of the model.
        plan: of the training.
        jaccard_weight: of the soft Jaccard distance in the loss of the generator.
        critic_rate: learning rate of the critic.

    Source: betas 0 and 0.9 as in Gulrajani et al., 2017.
    """
    return {
        "generator_optimizer": plan.optimizer(),
        "critic_optimizer": keras.optimizers.Adam(critic_rate, beta_1=0.0, beta_2=0.9),
        "loss": training.voxel_loss(jaccard_weight),
        "metrics": [metrics.keras_jaccard("per_frame")],
    }


def monitor(config: Config) -> str:
    """Return by which figure of validation the best weights are chosen."""
    return "val_jaccard_per_frame"


# Forecasts


class WGANGPForecaster:
    """A model in the interface of all forecasters; see `helpers.rollout.Forecaster`.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; a model that knows several steps is told its.
        name: how tables and figures call it.
        seed: of the noise, drawn anew at each call; None forecasts without noise.

    Raises:
        TypeError: not a `WGANGP`.
        ValueError: the model does not know the format's time step; a seed without noise.
    """

    def __init__(
        self,
        model: WGANGP,
        frame_format: sequences.FrameFormat,
        name: str = "WGAN-GP",
        *,
        seed: int | None = None,
    ):
        if not isinstance(model, WGANGP):
            raise TypeError(f"model is {model!r}; expected a WGANGP from build() or load().")
        _check_formats([frame_format], model.config)
        if seed is not None and not model.config.noise:
            raise ValueError(f"seed is {seed}, but the model reads no noise; leave it out.")
        self.model, self.name, self.step = model, name, frame_format.TINC
        self.seed = None if seed is None else whole("seed", seed, 0)
        self._drawn = 0

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32."""
        config = self.model.config
        grid = (config.grid,) * 3
        frames = checked_history(history, grid=grid, frames=config.frames)[:, -config.frames :]
        given = {"past": tf.constant(inputs(config, frames, self.step)["past"])}
        if config.noise:
            noise = self.model.noise_for(len(frames), (self.seed or 0, self._drawn))
            given["noise"] = noise if self.seed is not None else tf.zeros_like(noise)
            self._drawn += 1
        return self.model.compiled_call(given).numpy()


forecaster = WGANGPForecaster  # the same name in the module of each model
