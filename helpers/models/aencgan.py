"""The thesis's own WGAN: an encoder, a generator and a critic of residual blocks."""

from __future__ import annotations

import functools

from helpers import workshop

keras = workshop.keras()
from keras import layers, ops  # noqa: E402  (after Keras has its backend)

COARSE = 4  # both networks halve the grid twice
DROPOUT = 0.2  # share of channels that encoder and critic leave out while they learn


def generator(config) -> keras.Model:
    """Return the network from `past` (B, D, H, W, C) to `next` (B, 1, D, H, W).

    Each frame is summed up in `latent` numbers by the encoder, the next one painted from those of
    all frames: nothing else is known of them. `config` is a `helpers.wgan_gp.Config`.
    """
    past = layers.Input(((config.grid,) * 3) + (config.channels,), name="past")
    frames = ops.moveaxis((past[..., : config.history] + 1) / 2, -1, 1)
    one_by_one = ops.reshape(frames, (-1, *[config.grid] * 3, 1))
    codes = ops.reshape(encoder(config)(one_by_one), (-1, config.history * config.latent))
    logits = ops.moveaxis(decoder(config)(codes), -1, 1)
    return keras.Model({"past": past}, {"next": ops.sigmoid(logits)}, name="aencgan")


def encoder(config) -> keras.Model:
    """Return the network from a frame (B, D, H, W, 1) to its latent code (B, `latent`)."""
    frame = keras.Input((*[config.grid] * 3, 1))
    x = _downwards(frame, config.width, config.kernel, layers.BatchNormalization)
    return keras.Model(frame, layers.Dense(config.latent, name="code")(x), name="encoder")


def decoder(config) -> keras.Model:
    """Return the network from latent codes (B, T·`latent`) to logits (B, D, H, W, 1)."""
    base, width = config.grid // COARSE, config.width
    conv = functools.partial(layers.Conv3DTranspose, kernel_size=config.kernel, padding="same")

    def active(x):
        return layers.ReLU()(layers.BatchNormalization()(x))

    codes = keras.Input((config.history * config.latent,))
    x = layers.Dense(width * base**3, name="from_code")(codes)
    x = layers.Reshape((base, base, base, width))(x)
    for filters, times in ((width // 2, 1), (width // 4, 2), (width // 8, 2)):
        shortcut = layers.Conv3D(filters, 1)(layers.UpSampling3D(times)(x))
        x = layers.Add()([shortcut, conv(filters)(layers.UpSampling3D(times)(active(x)))])
    return keras.Model(codes, conv(1, name="logits")(active(x)), name="decoder")


def critic(config) -> keras.Model:
    """Return the network from [target, candidate] (B, D, H, W, 2) to a score (B, 1)."""
    volumes = keras.Input((*[config.grid] * 3, 2))
    x = _downwards(volumes, config.critic_width, config.kernel, layers.LayerNormalization)
    return keras.Model(volumes, layers.Dense(1, name="score")(x), name="critic")


def _downwards(x, width: int, kernel: int, norm):
    """From volumes (B, D, H, W, C) over three blocks, two of which halve the grid, to (B, F)."""
    conv = functools.partial(layers.Conv3D, kernel_size=kernel, padding="same")

    def active(x):
        return layers.Dropout(DROPOUT)(layers.LeakyReLU(0.3)(norm()(x)))

    x = conv(width // 8)(x)
    for filters, stride in ((width // 4, 2), (width // 2, 2), (width, 1)):
        smaller = layers.AveragePooling3D(stride)(x) if stride > 1 else x
        shortcut = layers.Conv3D(filters, 1)(smaller)
        x = layers.Add()([shortcut, conv(filters, strides=stride)(active(x))])
    return layers.Flatten()(active(x))
