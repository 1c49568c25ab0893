"""The WGAN-GP: a generator that forecasts a frame, a critic that judges it, and their training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from helpers import metrics, sequences, training
from helpers._checks import whole
from helpers.models import patchnet
from helpers.models.shared import to_patches
from helpers.models.weights import load_model
from helpers.rollout import checked_history
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import ops  # noqa: E402

GENERATORS = ("patches", "bottleneck")
BLOCKS = ("preactivation", "classic")
NORMS = ("layer", "group")
PAIRINGS = ("history", "target")
PARTS = ("reconstruction", "critic", "both")  # of a training step
COARSE = 4  # the critic and the bottleneck halve the grid twice


@dataclass(frozen=True)
class Config:
    """Everything that shapes both networks and their losses: `thesis()` and `workshop()`.

    The generator is the trunk of `helpers.models.patchnet.PatchNet` (`"patches"`: skips, and logits
    that start from the last frame), or the thesis's encoder and generator (`"bottleneck"`: all
    that is known of a frame passes through `latent` numbers).

    Attributes:
        frames: both networks read so many of the latest frames, at least 1.
        generator: `"patches"` or `"bottleneck"`.
        width: of the generator: channels of the residual blocks (patches), or of the coarsest
            grid (bottleneck, a multiple of 8).
        blocks, channels, hidden, patch, residual: see `helpers.models.patchnet.Config`; patches
            only.
        noise: so many channels of noise are read beside the frames; patches only.
        latent, kernel, dropout: numbers that describe a frame, edge of the kernels (odd), share
            of channels left out in the encoder; bottleneck only.
        block: of bottleneck and critic: `"preactivation"`, residual blocks that normalise before
            they convolve, or `"classic"`, convolutions one after the other.
        critic_width, critic_kernel, critic_dropout, critic_patch: of the critic; it first cuts the
            volumes into patches of `critic_patch`³ voxels, which become channels.
        critic_norm: `"layer"` normalises the channels of each voxel, `"group"` those of all voxels
            of a sample together. There is no batch normalisation here: the penalty asks for the
            gradient at one sample, which must not depend on the others.
        pairing: what the critic sees beside a candidate: the `"history"`, or the `"target"` as in
            the thesis; see `WGANGP`.
        straight_through: the critic sees forecasts as 0 and 1; see `binarise`.
        centred: encoder and critic see -0.5…0.5 instead of 0…1.
        reconstruction: weight of the compiled loss, forecast against target.
        adversarial: weight of the critic's opinion in the loss of the generator.
        penalty: weight of the gradient penalty in the loss of the critic.
        drift: weight of the squared score of true frames, which keeps scores near 0 (the thesis's
            epsilon penalty).
        critic_steps: the critic learns so many times from a batch, the generator once.
        warm_up: for so many steps the generator learns from the reconstruction alone; for as many
            more the weight `adversarial` rises to its value, while the critic catches up.
        steps: the time steps (TINC) that the networks know; told only if there are several.
        grid: voxels along the edge of a frame, a multiple of 4 and of 4 · `critic_patch`.

    Raises:
        TypeError: one of them is of another type.
        ValueError: one of them breaks the rules above.
    """

    frames: int
    generator: str = "patches"
    width: int = 128
    blocks: int = 6
    channels: int = 16
    hidden: int = 32
    patch: int = 2
    residual: float = 4.0
    noise: int = 0
    latent: int = 256
    kernel: int = 5
    dropout: float = 0.0
    block: str = "preactivation"
    critic_width: int = 128
    critic_kernel: int = 3
    critic_dropout: float = 0.0
    critic_norm: str = "group"
    critic_patch: int = 2
    pairing: str = "history"
    straight_through: bool = True
    centred: bool = False
    reconstruction: float = 1.0
    adversarial: float = 0.03
    penalty: float = 10.0
    drift: float = 0.0
    critic_steps: int = 3
    warm_up: int = 500
    steps: tuple[int, ...] = (1, 2, 4)
    grid: int = 16

    def __post_init__(self):
        choices = {"generator": GENERATORS, "block": BLOCKS, "critic_norm": NORMS}
        for name, allowed in (choices | {"pairing": PAIRINGS}).items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                )
        positive = ("frames", "latent", "kernel", "critic_kernel", "critic_patch", "critic_steps")
        lowest = dict.fromkeys(positive, 1) | {"noise": 0, "warm_up": 0, "grid": 1}
        for name, least in lowest.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        for name in ("width", "critic_width"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
            if getattr(self, name) % 8 and (name != "width" or self.generator == "bottleneck"):
                raise ValueError(f"{name} is {getattr(self, name)}; expected a multiple of 8.")
        for name in ("kernel", "critic_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an odd number.")
        if self.grid % (COARSE * self.critic_patch):
            raise ValueError(
                f"grid is {self.grid}; expected a multiple of {COARSE * self.critic_patch}, since "
                f"the critic cuts it into patches of {self.critic_patch}³ and halves it twice."
            )
        for name in ("straight_through", "centred"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        weights = ("reconstruction", "adversarial", "penalty", "drift")
        for name in weights:
            training.check_number(self, name, "0 or above", lambda value: 0 <= value < math.inf)
        for name in ("dropout", "critic_dropout"):
            training.check_number(self, name, "0 to below 1", lambda value: 0 <= value < 1)
        if not self.reconstruction and not self.adversarial:
            raise ValueError("reconstruction and adversarial are 0: there is nothing to learn.")
        if self.noise and self.generator != "patches":
            raise ValueError(f"noise is {self.noise}; only generator='patches' reads noise.")
        self.trunk  # noqa: B018  (checks the rest, and keeps it as plain values)
        for name in ("steps", "residual"):
            object.__setattr__(self, name, getattr(self.trunk, name))

    @property
    def trunk(self) -> patchnet.Config:
        """The generator `"patches"` in the words of `helpers.models.patchnet`."""
        names = ("width", "blocks", "channels", "hidden", "patch", "residual", "steps", "grid")
        options = {name: getattr(self, name) for name in names}
        return patchnet.Config(history=self.frames, ahead=1, **options)

    @property
    def critic_input(self) -> tuple[int, int, int, int]:
        """The shape of what the critic sees: patches of the given frames and of a candidate.

        With pairing `"history"` and several known steps, one constant channel for each of them.
        """
        volumes, told = (2, 0) if self.pairing == "target" else (self.frames + 1, len(self.steps))
        channels = volumes * self.critic_patch**3 + (told if told > 1 else 0)
        return (*[self.grid // self.critic_patch] * 3, channels)

    def as_dict(self) -> dict:
        """Return the configuration as plain values, for JSON; `Config(**values)` reads it."""
        return asdict(self)


def thesis(frames: int = 1, **changes) -> Config:
    """The AEncGAN3D of the thesis, from one frame or from three.

    Encoder 9,620,416 parameters, generator 9,636,065 (three frames 18,024,673), critic 5,445,281.
    It has no reconstruction loss, a penalty of weight 100, one critic step, and a critic that
    compares a forecast with its target (see `WGANGP`). Its code names L1 regularisers, but its
    loss never adds them, so they are left out. With three frames it runs the encoder as if it
    forecast, so that its batch normalisation never learns; here it is trained like the rest.

    Args:
        frames: 1 or 3.
        changes: other values, for example `block="classic"` or `centred=True`. (The thesis's
            centred generator ends in a tanh, twice as wide as its data; here it is half of one.)

    Raises:
        ValueError: another number of frames.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    if frames not in (1, 3):
        raise ValueError(f"frames is {frames!r}; the thesis has models for 1 and 3.")
    options = {
        "generator": "bottleneck",
        "width": 256,
        "dropout": 0.2,
        "critic_width": 256,
        "critic_kernel": 5,
        "critic_dropout": 0.2,
        "critic_norm": "layer",
        "critic_patch": 1,
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
    """A conditional WGAN-GP for two CPU cores: one network for the three formats.

    Args:
        frames: how many frames it reads, at least 1.
        changes: other values, for example `noise=4`.
    """
    return Config(frames, **changes)


# The networks


def encoder(config: Config, dtype=None) -> keras.Model:
    """Return the network from a frame (B, D, H, W, 1) to its latent code (B, `latent`)."""
    x = frame = keras.Input((*[config.grid] * 3, 1))
    norm = functools.partial(keras.layers.BatchNormalization, dtype=dtype)
    x = _downwards(x, config.width, config.kernel, config.block, norm, config.dropout, dtype)
    code = keras.layers.Dense(config.latent, name="code", dtype=dtype)(x)
    return keras.Model(frame, code, name="encoder")


def generator(config: Config, dtype=None) -> keras.Model:
    """Return the network from latent codes (B, `frames`·`latent`) to logits (B, D, H, W, 1)."""
    layers, base, wide = keras.layers, config.grid // COARSE, config.width
    conv = functools.partial(
        layers.Conv3DTranspose, kernel_size=config.kernel, padding="same", dtype=dtype
    )

    def active(x):
        return layers.ReLU(dtype=dtype)(layers.BatchNormalization(dtype=dtype)(x))

    def larger(x, times):
        return layers.UpSampling3D(times, dtype=dtype)(x) if times > 1 else x

    codes = keras.Input((config.frames * config.latent,))
    x = layers.Dense(wide * base**3, name="from_code", dtype=dtype)(codes)
    x = layers.Reshape((base, base, base, wide), dtype=dtype)(x)
    if config.block == "preactivation":
        for filters, times in ((wide // 2, 1), (wide // 4, 2), (wide // 8, 2)):
            shortcut = layers.Conv3D(filters, 1, dtype=dtype)(larger(x, times))
            x = layers.Add(dtype=dtype)([shortcut, conv(filters)(larger(active(x), times))])
    else:
        for filters, times in ((wide, 1), (wide // 2, 2), (wide // 4, 2)):
            x = conv(filters)(larger(active(x), times))
    return keras.Model(codes, conv(1, name="logits")(active(x)), name="generator")


def critic(config: Config) -> keras.Model:
    """Return the network from patches (B, *`critic_input`) to a score (B, 1).

    Always float32: the penalty needs a derivative of a derivative, and half precision loses it.
    """
    norms = {
        "layer": keras.layers.LayerNormalization,
        "group": functools.partial(keras.layers.GroupNormalization, groups=1),
    }
    volumes = keras.Input(config.critic_input, dtype="float32")
    norm = functools.partial(norms[config.critic_norm], dtype="float32")
    sizes = (config.critic_width, config.critic_kernel, config.block)
    x = _downwards(volumes, *sizes, norm, config.critic_dropout, "float32")
    score = keras.layers.Dense(1, name="score", dtype="float32")(x)
    return keras.Model(volumes, score, name="critic")


def _downwards(x, width: int, kernel: int, block: str, norm: Callable, dropout: float, dtype):
    """From volumes (B, D, H, W, C) over three blocks, two of which halve the grid, to (B, F)."""
    layers = keras.layers
    conv = functools.partial(layers.Conv3D, kernel_size=kernel, padding="same", dtype=dtype)

    def active(x):
        x = layers.LeakyReLU(0.3, dtype=dtype)(norm()(x))
        return layers.Dropout(dropout, dtype=dtype)(x) if dropout else x

    sizes = ((width // 4, 2), (width // 2, 2), (width, 1))
    if block == "preactivation":
        x = conv(width // 8)(x)
        for filters, stride in sizes:
            smaller = layers.AveragePooling3D(stride, dtype=dtype)(x) if stride > 1 else x
            shortcut = layers.Conv3D(filters, 1, dtype=dtype)(smaller)
            x = layers.Add(dtype=dtype)([shortcut, conv(filters, strides=stride)(active(x))])
        x = active(x)
    else:
        for number, (filters, stride) in enumerate(sizes):
            x = conv(filters, strides=stride)(active(x) if number else x)
    return layers.Flatten(dtype=dtype)(x)


@keras.saving.register_keras_serializable("forecasting_4d")
class PastAndNoise(patchnet.Past):
    """`Past`, and noise beside it: the first `noise` of the frames that it reads are noise."""

    def __init__(self, noise: int, **kwargs):
        super().__init__(**kwargs)
        self.noise = noise

    def call(self, frames, observed):
        """(B, `noise` + T, D, H, W) to (B, D, H, W, C + `noise`)."""
        channels = super().call(frames[:, self.noise :], observed)
        noise = ops.transpose(frames[:, : self.noise], (0, 2, 3, 4, 1))
        return ops.concatenate([channels, noise], axis=-1)

    def compute_output_shape(self, frames_shape, observed_shape=None):
        """Return (B, D, H, W, C + `noise`), from the shape without noise."""
        *shape, channels = super().compute_output_shape(frames_shape)
        return (*shape, channels + self.noise)

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"noise": self.noise}


@keras.saving.register_keras_serializable("forecasting_4d")
class Trunk(patchnet.PatchNet):
    """A `PatchNet` that reads `noise` channels before the first frame."""

    def __init__(self, config: patchnet.Config | dict, noise: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.noise = noise
        if noise:
            self.past = PastAndNoise(
                noise, flip_times=self.config.flip_times, dtype=self.dtype_policy
            )

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"noise": self.noise}


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

    Returns:
        A scalar, 0 or above.

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


@keras.saving.register_keras_serializable("forecasting_4d")
class WGANGP(keras.Model):
    """Generator and critic as one Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `frames` (B, `frames`, D, H, W) and `step` (B,), their TINC, it returns
    the probabilities of the next frame, float32 (B, D, H, W). With `noise` channels it also takes
    `noise`, see `noise_for`; without it the noise is 0.

    One training step: the critic c learns `critic_steps` times from the batch, each time with new
    noise and new places on the line between truth and forecast, then the generator learns once:

        critic     mean c(forecast) - mean c(truth) + penalty · (‖slope‖ - 1)²
        generator  reconstruction · loss(forecast, truth) - adversarial · mean c(forecast)

    The critic is *conditional* with `pairing="history"`: it sees [history, candidate] and learns
    which frames may follow this history. Only the candidate is mixed in the penalty.

    The thesis's critic, `pairing="target"`, sees [candidate, target], and for the truth [target,
    target]. So it need not learn what frames look like: to tell the two apart it only asks whether
    its inputs are equal. The best critic of this kind is known, -‖candidate - target‖: its slope
    is 1 everywhere and its gap the largest there can be. It is a learned distance to the target,
    in place of a fixed one such as cross-entropy, and as with any distance nothing rewards a
    forecast that is possible over one that is the mean of what may come. It cannot say what is
    possible, since it does not see the history, and without a target it cannot judge at all.

    In `evaluate` and `fit`, `loss` is the reconstruction; `distance` is mean c(truth) - mean
    c(forecast), the critic's estimate of how far the forecasts are from the truth; `critic` is the
    critic's loss; `penalty` is without its weight. The last three are 0 while the generator warms
    up. What is drawn at random depends on the step only, so a resumed run draws the same.
    """

    def __init__(self, config: Config | dict, **kwargs):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, Config) else Config(**config)
        policy = self.dtype_policy
        self.encoder = None
        if self.config.generator == "bottleneck":
            self.encoder = encoder(self.config, policy)
            self.generator = generator(self.config, policy)
        else:
            options = {"noise": self.config.noise, "name": "generator", "dtype": policy}
            self.generator = Trunk(self.config.trunk, **options)
        self.critic = critic(self.config)
        self.distance = keras.metrics.Mean(name="distance")
        self.critic_loss = keras.metrics.Mean(name="critic")
        self.penalty = keras.metrics.Mean(name="penalty")
        self.part = PARTS[0]
        edge = self.config.grid
        signature = {
            "frames": tf.TensorSpec((None, self.config.frames, *[edge] * 3), tf.float32),
            "step": tf.TensorSpec((None,), tf.int64),
        }
        if self.config.noise:
            coarse = (self.config.noise, *[edge // COARSE] * 3)
            signature["noise"] = tf.TensorSpec((None, *coarse), tf.float32)
        # Compiled once for the model, whatever the batch and whichever forecaster asks.
        self.compiled_call = tf.function(self.call, input_signature=(signature,))

    def build(self, shape=None):
        """Make every weight; the shape of the input plays no role."""
        if self.encoder is None and not self.generator.built:
            self.generator.build()
        self.built = True

    def call(self, inputs, training=False):
        """See the class."""
        frames = self._frames(inputs)
        if self.encoder is not None:
            grid = (*[self.config.grid] * 3, 1)
            codes = self.encoder(ops.reshape(self._seen(frames), (-1, *grid)), training=training)
            codes = ops.reshape(codes, (-1, self.config.frames * self.config.latent))
            logits = ops.cast(self.generator(codes, training=training)[..., 0], "float32")
            # Half of a tanh, brought back to 0…1, is a sigmoid of twice the slope.
            return ops.sigmoid(2 * logits if self.config.centred else logits)
        step = inputs["step"]
        if self.config.noise:
            noise = inputs.get("noise")
            if noise is None:
                noise = ops.zeros_like(frames[:, :1, ::COARSE, ::COARSE, ::COARSE])
                noise = ops.repeat(noise, self.config.noise, axis=1)
            for axis in (2, 3, 4):
                noise = ops.repeat(noise, COARSE, axis=axis)
            frames = ops.concatenate([noise, frames], axis=1)
        observed = ops.full_like(step, self.config.frames)
        found = self.generator({"frames": frames, "observed": observed, "step": step})
        return found["next"][:, 0]

    def noise_for(self, count: int, seed) -> tf.Tensor:
        """Return normal noise (`count`, `noise`, D/4, H/4, W/4) for two whole numbers as seed."""
        coarse = [self.config.grid // COARSE] * 3
        return tf.random.stateless_normal((count, self.config.noise, *coarse), seed)

    def score(self, inputs, target, candidate, training=False):
        """Return the critic's opinion of candidates (B, D, H, W), float32 (B,).

        Args:
            inputs: see the class.
            target: (B, D, H, W); looked at with `pairing="target"` only.
            candidate: the frame to be judged.
            training: whether to leave out channels at random, if the configuration says so.
        """
        if self.config.pairing == "target":
            given = ops.cast(target, "float32")[:, None]
        else:
            given = self._frames(inputs)
        volumes = self._seen(ops.concatenate([given, candidate[:, None]], axis=1))
        cut = to_patches(ops.transpose(volumes, (0, 2, 3, 4, 1)), self.config.critic_patch)
        if self.config.critic_input[-1] > cut.shape[-1]:
            known = inputs["step"][:, None] == np.array(self.config.steps)
            known = ops.cast(known, "float32")[:, None, None, None, :]
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
        loss: keras.losses.Loss | None = None,
        metrics: Sequence = (),
        **options,
    ) -> None:
        """Make ready for `fit`: both optimizers get their variables here.

        Args:
            generator_optimizer: for generator and encoder.
            critic_optimizer: for the critic.
            loss: the reconstruction, `helpers.training.voxel_loss()` unless told.
            metrics, options: see `keras.Model.compile`.
        """
        super().compile(
            optimizer=None, loss=loss or training.voxel_loss(), metrics=list(metrics), **options
        )
        if not self.built:
            self.build()
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
        """Let the critic learn once from a batch; return what has been measured so far."""
        candidate = self.candidate(self(inputs, training=True))
        share = mixing_share(target, self._seed(1))
        with tf.GradientTape() as tape:
            fake = self.score(inputs, target, candidate, training=True)
            real = self.score(inputs, target, target, training=True)
            penalty = gradient_penalty(
                lambda mixed: self.score(inputs, target, mixed), target, candidate, share
            )
            distance = ops.mean(real) - ops.mean(fake)
            drift = ops.mean(ops.square(real))
            loss = self.config.penalty * penalty + self.config.drift * drift - distance
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

    def _seen(self, volumes):
        return volumes - 0.5 if self.config.centred else volumes

    def _frames(self, inputs):
        """Return the frames as float32, or say what is wrong with them."""
        frames = ops.cast(inputs["frames"], "float32")
        expected = (self.config.frames, *[self.config.grid] * 3)
        if tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames has shape {tuple(frames.shape)}; expected (B, "
                f"{', '.join(map(str, expected))}): {self.config.frames} frames on the grid that "
                "the model was made for."
            )
        return frames

    def compute_output_shape(self, inputs):
        """Return (B, D, H, W)."""
        frames = inputs["frames"]
        return (frames[0], *frames[2:])

    def get_config(self):
        """Return what `__init__` needs."""
        return super().get_config() | {"config": self.config.as_dict()}


def build(config: Config) -> WGANGP:
    """Return an untrained model of this configuration, its weights made."""
    model = WGANGP(config, name="wgan_gp")
    model.build()
    return model


def multiply_adds(config: Config) -> int:
    """Return how many multiplications, each with an addition, one forecast costs.

    Raises:
        ValueError: the generator is not `"patches"`.
    """
    if config.generator != "patches":
        raise ValueError(f"generator is {config.generator!r}; only 'patches' is counted.")
    return patchnet.multiply_adds(config.trunk) + config.grid**3 * config.noise * config.hidden


def load(path: str | Path) -> WGANGP:
    """Return the model of shipped weights: `NAME.npz` with its card `NAME.json` beside it.

    Raises:
        FileNotFoundError, CheckpointError: see `helpers.models.weights.load_model`.
    """
    return load_model(path, Config, build, "WGAN-GP")


# Optimizers and data


def workshop_optimizers(plan: training.Plan, critic_rate: float = 2e-4) -> dict:
    """Return AdamW by the plan for the generator, and for the critic an Adam of constant rate.

    The critic's Adam has no momentum: what it chases moves away at every step.

    Source: betas 0 and 0.9 as in Gulrajani et al., 2017.
    """
    return {
        "generator_optimizer": plan.optimizer(),
        "critic_optimizer": keras.optimizers.Adam(critic_rate, beta_1=0.0, beta_2=0.9),
    }


def from_windows(
    config: Config, frame_format: sequences.FrameFormat, history, target
) -> tuple[dict, tf.Tensor]:
    """Turn a batch of `Windows`, (B, T, D, H, W, 1) and (B, D, H, W, 1), into what `fit` reads."""
    step = tf.fill(tf.shape(history)[:1], tf.constant(frame_format.TINC, tf.int64))
    return {"frames": history[..., 0], "step": step}, target[..., 0]


def batches(
    split, formats: Sequence[sequences.FrameFormat], config: Config, plan: training.Plan
) -> Callable[[int], tf.data.Dataset]:
    """Return what `training.train` asks for: the batches from any step on, turned and mirrored.

    With several formats, one batch of each follows the other. Each is a pair of `frames` (B,
    `frames`, D, H, W) and `step` (B,), and the frame that follows, (B, D, H, W).

    Args:
        split: a `helpers.records.PackedSplit`.
        formats: their TINC are among `config.steps`.
        config: of the model.
        plan: of the training: batch size and seed.

    Raises:
        ValueError: the model does not know the step of a format.
    """
    _check_formats(formats, config)

    def stream(number: int, step: int) -> tf.data.Dataset:
        found = formats[number]
        return sequences.from_packed(
            split,
            found,
            sequences.Windows(config.frames),
            batch_size=plan.batch_size,
            seed=plan.seed + number,
            repeat=True,
            drop_remainder=True,
            symmetries=True,
            time_reversal=True,
            start_step=step,
        ).map(functools.partial(from_windows, config, found))

    return sequences.in_turn(stream, len(formats))


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
        window = tf.cast(window, tf.float32)
        return {"frames": window[:, :-1], "step": step}, window[:, -1]

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
    metric=None,
) -> dict:
    """Return optimizers, loss and metric for `model.compile`.

    Args:
        config: of the model.
        plan: of the training.
        jaccard_weight: of the soft Jaccard distance in the loss of the generator.
        critic_rate: learning rate of the critic.
        metric: of the next frame; the Jaccard distance, frame by frame, unless told.
    """
    return workshop_optimizers(plan, critic_rate) | {
        "loss": training.voxel_loss(jaccard_weight),
        "metrics": [metric or metrics.keras_jaccard("per_frame")],
    }


def monitor(config: Config) -> str:
    """Return by which figure of validation the best weights are chosen."""
    return "val_jaccard_per_frame"


# Forecasts


def forecaster(
    model: WGANGP,
    frame_format: sequences.FrameFormat,
    name: str = "WGAN-GP",
    *,
    seed: int | None = None,
) -> WGANGPForecaster:
    """Wrap a model so that `rollout` and `evaluation` can use it.

    Args:
        model: from `build` or `load`.
        frame_format: of the histories it will see; a model that knows several steps is told its.
        name: how tables and figures call it.
        seed: of the noise, drawn anew at each call; None forecasts without noise.

    Raises:
        TypeError: not a `WGANGP`; a seed that is not a whole number.
        ValueError: the model does not know the format's time step; a seed for a model without
            noise.
    """
    return WGANGPForecaster(model, frame_format, name, seed)


class WGANGPForecaster:
    """A model in the interface of all forecasters; see `helpers.rollout.Forecaster`.

    Attributes:
        name: how tables and figures call it.
        model: the Keras model.
        step, seed: see `forecaster`.
    """

    def __init__(self, model, frame_format, name, seed):
        if not isinstance(model, WGANGP):
            raise TypeError(f"model is {model!r}; expected a WGANGP from build() or load().")
        _check_formats([frame_format], model.config)
        if seed is not None and not model.config.noise:
            raise ValueError(f"seed is {seed}, but the model reads no noise; leave it out.")
        self.model, self.name, self.step = model, name, frame_format.TINC
        self.seed = None if seed is None else whole("seed", seed, 0)
        self._drawn = 0

    def __call__(self, history) -> np.ndarray:
        """Forecast the next frame: (B, T, D, H, W) with values 0…1 to (B, D, H, W), float32.

        Raises:
            ValueError, TypeError: see `helpers.rollout.checked_history`; the history is shorter
                than what the model reads.
        """
        config = self.model.config
        grid = (config.grid,) * 3
        frames = checked_history(history, grid=grid, frames=config.frames)[:, -config.frames :]
        inputs = {
            "frames": tf.constant(frames),
            "step": tf.fill((len(frames),), tf.constant(self.step, tf.int64)),
        }
        if config.noise:
            noise = self.model.noise_for(len(frames), (self.seed or 0, self._drawn))
            inputs["noise"] = noise if self.seed is not None else tf.zeros_like(noise)
            self._drawn += 1
        return self.model.compiled_call(inputs).numpy()
