"""The WGAN-GP: a generator that forecasts frames, a critic that judges them, and their training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from helpers import training
from helpers._checks import choice, field, whole
from helpers.models import aencgan, cnn, shared
from helpers.models.weights import load_model
from helpers.workshop import tensorflow

tf = tensorflow()
import keras  # noqa: E402  (after the quiet import of TensorFlow)
from keras import layers, ops  # noqa: E402

COARSE = 4  # voxels along the edge of a block that shares its noise


@dataclass(frozen=True)
class Config(cnn.Config):
    """Everything that shapes both networks and their losses.

    The generator is the network of `helpers.models.cnn`, in any of its sizes; the critic halves
    the grid twice. Or both are the thesis's, see `helpers.models.aencgan`.

    Attributes:
        history, …, grid: of the generator, see `helpers.models.cnn.Config`; one value of `noise` is
            drawn for 4³ voxels.
        critic_width: channels of the critic where the grid is halved once; twice as many where
            it is halved twice.
        critic_kernel: edge of its kernels.
        straight_through: the critic sees forecasts as 0 and 1; see `binarise`.
        reconstruction: weight of the compiled losses, forecast against truth.
        adversarial: weight of the critic's opinion in the loss of the generator, λ.
        ramp: in so many steps λ rises to its value, while the critic catches up.
        penalty: weight of the gradient penalty in the loss of the critic.
        critic_steps: the critic learns so many times from a batch, the generator once.
        draws: the reconstruction takes the nearest of so many forecasts with different noise.
        latent: so many numbers describe a frame in the thesis's networks; 0 takes the CNN.
    """

    noise: int = field(4, least=0, whole=True)
    critic_width: int = field(32, least=1, whole=True)
    critic_kernel: int = field(3, least=1, whole=True, odd=True)
    straight_through: bool = field(False, choices=(True, False))
    reconstruction: float = field(1.0, least=0)
    adversarial: float = field(0.3, least=0)
    ramp: int = field(300, least=0, whole=True)
    penalty: float = field(10.0, least=0)
    critic_steps: int = field(3, least=1, whole=True)
    draws: int = field(1, least=1, whole=True)
    latent: int = field(0, least=0, whole=True)

    def __post_init__(self):
        super().__post_init__()
        if self.grid % COARSE:
            raise ValueError(f"grid is {self.grid}; expected a multiple of {COARSE}.")
        if not self.reconstruction and not self.adversarial:
            raise ValueError("reconstruction and adversarial are 0: there is nothing to learn.")
        if self.draws > 1 and not self.noise:
            raise ValueError(f"draws is {self.draws}, but without noise all draws are the same.")
        if self.latent and (self.ahead > 1 or self.noise):
            raise ValueError("The thesis's networks forecast one frame and read no noise.")

    @property
    def alone(self) -> cnn.Config:
        """The generator without noise: the CNN that is trained alone first."""
        known = {each.name: getattr(self, each.name) for each in fields(cnn.Config)}
        return cnn.Config(**known | {"noise": 0})

    @property
    def channels(self) -> int:
        """How many channels `past` has."""
        return cnn.channels(self)


def plain(**changes) -> Config:
    """Both networks as small as they can be: what notebooks 06 and 07 build and train."""
    return Config(**asdict(cnn.plain()) | {"noise": 4, "critic_width": 16} | changes)


def shipped(**changes) -> Config:
    """A generator like the shipped CNN, from whose weights it begins."""
    return Config(**asdict(cnn.shipped()) | {"noise": 4} | changes)


def thesis(frames: int = 1, **changes) -> Config:
    """The AEncGAN3D of the thesis, from one frame or from three; changes as in `width=16`.

    Encoder 9,620,416 parameters, generator 9,636,065 (three frames 18,024,673), critic 5,445,281.
    It has no reconstruction loss, a penalty of weight 100, one critic step, and a critic that
    compares a forecast with its target (see `WGANGP`). Its code names L1 regularisers, but its
    loss never adds them, so they are left out. With three frames it runs the encoder as if it
    forecast, so that its batch normalisation never learns; here it is trained like the rest.

    Source: M. Goldgruber, *3D Spatio-Temporal Predictions with ConvLSTM and GAN models*.
    """
    options = {
        "ahead": 1,
        "steps": (1,),
        "flip_times": False,
        "patch": 1,
        "width": 256,
        "kernel": 5,
        "noise": 0,
        "critic_width": 256,
        "reconstruction": 0.0,
        "adversarial": 1.0,
        "ramp": 0,
        "penalty": 100.0,
        "critic_steps": 1,
        "latent": 256,
    }
    return Config(choice("frames", frames, (1, 3)), **(options | changes))


def critic(config: Config) -> keras.Model:
    """Return the network from volumes (B, D, H, W, C) to a score (B, 1).

    The channels are those of the history and one for each frame of a candidate, so that motion
    counts. It is always float32: the penalty needs a derivative of a derivative. And it has no
    batch normalisation, since the penalty asks for the slope at one sample, which must not depend
    on the others.
    """
    x = volumes = keras.Input((*[config.grid] * 3, config.channels + config.ahead))
    for number, width in enumerate((config.critic_width, 2 * config.critic_width)):
        # Twice: 2³ voxels become one, and look at their neighbours. A strided convolution could do
        # the first of it, too; of a dense layer, slopes are plain products of matrices.
        x = layers.Dense(width, name=f"patch_{number}", dtype="float32")(shared.to_patches(x, 2))
        x = layers.LeakyReLU(0.2, dtype="float32")(x)
        options = {"padding": "same", "name": f"mix_{number}", "dtype": "float32"}
        x = layers.Conv3D(width, config.critic_kernel, **options)(x)
        x = layers.LeakyReLU(0.2, dtype="float32")(x)
    score = layers.Dense(1, name="score", dtype="float32")(layers.Flatten(dtype="float32")(x))
    return keras.Model(volumes, score, name="critic")


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
    """Return where on the line between two candidates, uniform in 0…1: (B, 1, 1, 1, 1)."""
    return tf.random.stateless_uniform((ops.shape(like)[0], 1, 1, 1, 1), seed)


def frames_of(parts):
    """Return the frames in targets or forecasts one behind the other: float32 (B, `ahead`, …)."""
    found = [ops.cast(parts[name], "float32") for name in ("next", "later") if name in parts]
    return ops.concatenate(found, axis=1)


class WGANGP(keras.Model):
    """Generator and critic as one Keras model: made by `build`, trained by `fit`.

    Called with a mapping of `past` (B, D, H, W, C), see `helpers.models.cnn.inputs`, it returns
    what the CNN does: probabilities `next` (B, 1, D, H, W) and `later`. With `noise` channels it
    also takes `noise`, see `noise_for`; without it the noise is 0.

    One training step: the critic c learns `critic_steps` times from the batch, each time with new
    noise and new places on the line between truth and forecast, then the generator learns once:

        critic     mean c(forecast) - mean c(truth) + penalty · (‖slope‖ - 1)²
        generator  reconstruction · loss(forecast, truth) - λ · mean c(forecast)

    The critic is *conditional*: it sees the history beside a candidate, which is all frames that
    were forecast, and learns what may follow this history. Only the candidate is mixed in the
    penalty. The thesis's critic sees [candidate, target], and for the truth [target, target]. It
    becomes a learned distance to the target: the best one of its kind is -‖candidate - target‖. It
    cannot say what is possible, since it does not see the history.

    In `evaluate` and `fit`, `loss` is the reconstruction; `distance` is mean c(truth) - mean
    c(forecast), the critic's estimate of how far the forecasts are from the truth; `critic` is the
    critic's loss; `penalty` is without its weight. What is drawn at random depends on the step
    only, so a resumed run draws the same.
    """

    def __init__(self, config: Config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        thesis = config.latent > 0
        self.generator = (aencgan.generator if thesis else cnn.build)(config)
        self.critic = (aencgan.critic if thesis else critic)(config)
        self.built = True
        self.distance = keras.metrics.Mean(name="distance")
        self.critic_loss = keras.metrics.Mean(name="critic")
        self.penalty = keras.metrics.Mean(name="penalty")

    def call(self, inputs, training=False):
        """See the class."""
        past = ops.cast(inputs["past"], "float32")
        shape = ("B", *[self.config.grid] * 3, self.config.channels)
        shared.check_shape(past.shape, shape, "past")
        if self.config.noise:
            noise = inputs.get("noise")
            if noise is None:
                noise = ops.zeros_like(self.noise_for(ops.shape(past)[0], (0, 0)))
            for axis in (1, 2, 3):
                noise = ops.repeat(noise, COARSE, axis=axis)
            past = ops.concatenate([past, noise], axis=-1)
        return self.generator({"past": past}, training=training)

    def noise_for(self, count: int, seed) -> tf.Tensor:
        """Return normal noise (`count`, D/4, H/4, W/4, `noise`) for two whole numbers as seed."""
        coarse = [self.config.grid // COARSE] * 3
        return tf.random.stateless_normal((count, *coarse, self.config.noise), seed)

    def score(self, given, candidate, training=False):
        """Return the critic's opinion of a candidate (B, `ahead`, D, H, W), float32 (B,).

        `given` (B, D, H, W, C) is what it sees beside it, see `given`.
        """
        volumes = ops.concatenate([given, ops.moveaxis(candidate, 1, -1)], axis=-1)
        return self.critic(volumes, training=training)[:, 0]

    def given(self, inputs, truth):
        """Return what the critic sees beside a candidate: the history, in the thesis the truth."""
        if self.config.latent:
            return ops.moveaxis(truth, 1, -1)
        return ops.cast(inputs["past"], "float32")

    def candidate(self, forecast):
        """Return forecasts as the critic sees them."""
        probability = frames_of(forecast)
        return binarise(probability) if self.config.straight_through else probability

    # Training

    def compile(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        critic_optimizer: keras.optimizers.Optimizer,
        **options,
    ) -> None:
        """Make ready for `fit`: both optimizers get their variables; options as in Keras."""
        super().compile(optimizer=None, **options)
        if self.compute_dtype == "float16":
            generator_optimizer = keras.optimizers.LossScaleOptimizer(generator_optimizer)
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.critic_optimizer.build(self.critic.trainable_variables)

    def train_step(self, data):
        """Learn from a batch: the critic a few times, then the generator once."""
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        truth = frames_of(targets)
        for number in range(self.config.critic_steps):
            self._train_critic(inputs, truth, number)
        return self._train_generator(inputs, targets, weights)

    def _train_critic(self, inputs, truth, number: int) -> None:
        """Let the critic learn once from a batch."""
        config, given = self.config, self.given(inputs, truth)
        candidate = self.candidate(self(self._noisy(inputs, number), training=True))
        share = mixing_share(truth, self._seed(number, 1))
        with tf.GradientTape() as tape:
            fake = self.score(given, candidate, training=True)
            real = self.score(given, truth, training=True)
            penalty = gradient_penalty(lambda x: self.score(given, x), truth, candidate, share)
            distance = ops.mean(real) - ops.mean(fake)
            loss = config.penalty * penalty - distance
            # Gradients of several devices are added up, and each has its part of the batch.
            part = loss / self._replicas
        variables = self.critic.trainable_variables
        self.critic_optimizer.apply(tape.gradient(part, variables), variables)
        self.distance.update_state(distance)
        self.critic_loss.update_state(loss)
        self.penalty.update_state(penalty)

    def _train_generator(self, inputs, targets, weights) -> dict:
        """Let the generator learn once from a batch; return what has been measured so far."""
        config, truth = self.config, frames_of(targets)
        likely = self._noisy(inputs, config.critic_steps)
        nearest = self._nearest(inputs, truth) if config.draws > 1 else likely
        with tf.GradientTape() as tape:
            forecast = self(nearest, training=True)
            reconstruction = self.compute_loss(inputs, targets, forecast, weights)
            judged = forecast if nearest is likely else self(likely, training=True)
            opinion = ops.mean(
                self.score(self.given(inputs, truth), self.candidate(judged), training=True)
            )
            loss = config.reconstruction * reconstruction - self.weight() * opinion / self._replicas
            loss = self.generator_optimizer.scale_loss(loss)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, variables), variables)
        count = ops.shape(inputs["past"])[0]
        self._loss_tracker.update_state(reconstruction * self._replicas, sample_weight=count)
        return self.compute_metrics(inputs, targets, forecast, weights)

    def _nearest(self, inputs, truth):
        """Add to each example, of several draws of noise, the one whose forecast is nearest."""
        drawn = [self._noisy(inputs, 100 + number) for number in range(self.config.draws)]
        axes = (1, 2, 3, 4)
        error = [ops.mean(ops.square(frames_of(self(each)) - truth), axes) for each in drawn]
        chosen = ops.one_hot(ops.argmin(ops.stack(error), 0), len(drawn), axis=0)  # (draws, B)
        noise = ops.stack([each["noise"] for each in drawn])
        noise = ops.sum(noise * chosen[:, :, None, None, None, None], axis=0)
        return {**inputs, "noise": noise}

    def weight(self):
        """Return λ at this step, a scalar: in `ramp` steps it rises to `adversarial`."""
        step = ops.cast(self.generator_optimizer.iterations, "float32") + 1
        return self.config.adversarial * ops.minimum(step / max(self.config.ramp, 1), 1.0)

    def test_step(self, data):
        """Judge a batch: the losses and the compiled metrics, and the critic's distance."""
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        truth, count = frames_of(targets), ops.shape(inputs["past"])[0]
        forecast = self(inputs)
        loss = self.compute_loss(inputs, targets, forecast, weights, training=False)
        self._loss_tracker.update_state(loss * self._replicas, sample_weight=count)
        given = self.given(inputs, truth)
        gap = self.score(given, truth) - self.score(given, self.candidate(forecast))
        self.distance.update_state(ops.mean(gap), sample_weight=count)
        found = self.compute_metrics(inputs, targets, forecast, weights)
        return {name: each for name, each in found.items() if name not in ("critic", "penalty")}

    @property
    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync

    def _noisy(self, inputs, number: int):
        """Add noise to what is read, if the configuration says so."""
        if not self.config.noise:
            return inputs
        noise = self.noise_for(ops.shape(inputs["past"])[0], self._seed(number, 0))
        return {**inputs, "noise": noise}

    def _seed(self, number: int, kind: int):
        """Return a seed of its own for each step, part of it, kind and device, int64 (2,)."""
        place = ops.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "int64")
        done = ops.cast(self.generator_optimizer.iterations, "int64")
        return ops.stack([done, 1000 * place + 2 * number + kind])


def build(config: Config) -> WGANGP:
    """Return an untrained model of this configuration, its weights made."""
    return WGANGP(config, name="wgan_gp")


def begin_with(model: WGANGP, generator: keras.Model) -> None:
    """Give the generator the weights of a CNN that was trained alone; noise plays no role yet."""
    mine, theirs = model.generator.weights, [np.array(each) for each in generator.weights]
    if len(mine) == len(theirs):
        # The first kernel reads noise, too: (…, C, width).
        around = [(0, 0)] * (theirs[0].ndim - 2)
        theirs[0] = np.pad(theirs[0], [*around, (0, model.config.noise), (0, 0)])
    if [each.shape for each in theirs] != [tuple(each.shape) for each in mine]:
        raise ValueError(f"{generator.name} has other sizes than the generator; nothing changed.")
    for weight, array in zip(mine, theirs):
        weight.assign(array)


def load(path: str | Path) -> WGANGP:
    """Return the model of shipped weights; see `helpers.models.weights.load_model`."""
    return load_model(path, Config, build, "WGAN-GP")


# A `Config` is one of a CNN, too: what is read and how it is validated are the same.
batches, validation, monitor = cnn.batches, cnn.validation, cnn.monitor
multiply_adds = cnn.multiply_adds


def compile_options(
    config: Config, plan: training.Plan, *, critic_rate: float = 2e-4, **options
) -> dict:
    """Return optimizers, losses and metric for `model.compile`.

    The generator has the AdamW of the plan, the critic an Adam of constant rate without momentum:
    what it chases moves away at every step.

    `critic_rate` is the learning rate of the critic; for the options see
    `helpers.models.cnn.compile_options`.

    Source: betas 0 and 0.9 as in Gulrajani et al., 2017.
    """
    found = cnn.compile_options(config, plan, **options)
    adam = keras.optimizers.Adam(critic_rate, beta_1=0.0, beta_2=0.9)
    return {"generator_optimizer": found.pop("optimizer"), "critic_optimizer": adam} | found


class WGANGPForecaster(cnn.CNNForecaster):
    """A model as a forecaster; see `helpers.models.shared.SeveralForecaster`.

    `seed` is that of the noise, which is drawn anew at each call; None forecasts without noise. A
    seed without noise is a ValueError.
    """

    config, title = Config, "WGAN-GP"

    def __init__(self, model, frame_format, name=None, *, seed: int | None = None, **options):
        super().__init__(model, frame_format, name, **options)
        if seed is not None and not model.config.noise:
            raise ValueError(f"seed is {seed}, but the model reads no noise; leave it out.")
        self.seed, self._drawn = None if seed is None else whole("seed", seed, 0), 0

    def _read(self, *known) -> dict[str, np.ndarray]:
        given = super()._read(*known)
        if self.seed is not None:
            count = len(given["past"])
            given["noise"] = self.model.noise_for(count, (self.seed, self._drawn)).numpy()
            self._drawn += 1
        return given


forecaster = WGANGPForecaster  # the same name in the module of each model
