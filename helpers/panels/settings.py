"""What can be turned in the laboratory, and what it means to each model."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from helpers import _checks, convlstm, sequences, training, wgan_gp, workshop
from helpers.models import cnn
from helpers.sequences import FORMATS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from helpers.records import PackedSplit

TARGETS = 4  # every run of a format is judged on the last so many frames
ROUNDS = 8  # validations in a run,
ROUND = (15, 250)  # but at least and at most so many steps from one to the next
TIMED = 10  # steps that tell how many of them fit into a budget
MOST_STEPS = 100_000
CRITIC = ("reconstruction", "adversarial", "penalty", "critic_steps")


class Model(NamedTuple):
    """What the knobs mean to a model: its module, its configuration, and what it lacks."""

    kind: ModuleType
    config: Callable[[Settings, int], Any]  # the int: how many steps it is trained
    lacks: tuple[str, ...] = ()


def _cnn(settings: Settings, steps: int) -> cnn.Config:
    known = (settings.frame_format.TINC,)
    size = {"width": settings.width, "blocks": settings.depth, "kernel": settings.kernel}
    return cnn.Config(history=settings.history, ahead=1, steps=known, **size)


def _convlstm(settings: Settings, steps: int) -> convlstm.Config:
    size = {"width": settings.width, "blocks": settings.depth, "kernels": (settings.kernel,)}
    filters = (max(settings.width // 4, 4),)
    return dataclasses.replace(convlstm.workshop(), filters=filters, **size)


def _wgan_gp(settings: Settings, steps: int) -> wgan_gp.Config:
    generator = vars(_cnn(settings, steps)) | {"noise": 0}
    losses = {name: getattr(settings, name) for name in CRITIC}
    size = {"critic_width": max(settings.width // 4, 4), "critic_kernel": settings.kernel}
    return wgan_gp.Config(**generator | losses | size, ramp=steps // 2)


MODELS = {
    "CNN": Model(cnn, _cnn, lacks=CRITIC),
    "ConvLSTM": Model(convlstm, _convlstm, lacks=CRITIC),
    "WGAN-GP": Model(wgan_gp, _wgan_gp),
}


# What each of the settings is; the panel shows it beside the knob.
TIPS = {
    "model": "Which network forecasts the next frame",
    "format": "Which frames of a sample are used; with T80_TINC4 most moves from frame to frame",
    "history": "Frames that the model reads before it forecasts",
    "width": "Channels of the residual blocks; a ConvLSTM remembers a quarter of them",
    "depth": "How many residual blocks",
    "kernel": "Edge of the kernel through which neighbours are seen; of a WGAN-GP, the critic's",
    "learning_rate": "The highest learning rate; it rises to it in the first tenth of the steps",
    "decay": "How the learning rate falls to 0 at the end",
    "batch_size": "Windows in a batch",
    "jaccard_weight": "Loss: weight of the soft Jaccard distance beside the cross-entropy",
    "reconstruction": "Loss of a WGAN-GP: weight of cross-entropy and soft Jaccard together",
    "adversarial": "Loss of a WGAN-GP: weight of the critic's opinion",
    "penalty": "Loss of a critic: weight of the gradient penalty",
    "critic_steps": "So many times the critic learns from a batch, the generator once",
    "steps": "So many batches; 0 is as many as fit into the seconds, by the time that ten take",
    "seconds": "Stop after so many seconds; a run that was stopped can be continued for as many",
    "seed": "Of weights and batches: the same seed and steps give the same run",
}


@dataclass(frozen=True)
class Settings:
    """Everything that a participant can turn; all that it takes to repeat a run on the same data.

    Attributes: see `TIPS`.

    Raises:
        TypeError, ValueError: one of them is of another type or outside its range.
    """

    model: str = _checks.field("CNN", choices=MODELS)
    format: str = _checks.field("T80_TINC4", choices=FORMATS)
    history: int = _checks.field(8, least=1, most=20 - TARGETS, whole=True)
    width: int = _checks.field(64, choices=(8, 16, 24, 32, 48, 64, 96, 128, 192, 256))
    depth: int = _checks.field(3, least=0, most=12, whole=True)
    kernel: int = _checks.field(3, choices=(1, 3, 5))
    learning_rate: float = _checks.field(1e-2, least=1e-6, most=10)
    decay: str = _checks.field("linear", choices=training.DECAYS)
    batch_size: int = _checks.field(16, least=1, most=64, whole=True)
    jaccard_weight: float = _checks.field(0.05, least=0, most=10)
    reconstruction: float = _checks.field(1.0, least=0, most=10)
    adversarial: float = _checks.field(0.03, least=0, most=10)
    penalty: float = _checks.field(10.0, least=0, most=1000)
    critic_steps: int = _checks.field(3, least=1, most=10, whole=True)
    steps: int = _checks.field(0, least=0, most=MOST_STEPS, whole=True)
    seconds: float = _checks.field(60.0, least=5, most=12 * 3600)
    seed: int = _checks.field(1, least=0, most=2**31 - 1, whole=True)

    def __post_init__(self):
        _checks.configuration(self)
        self.config(TIMED)  # the model has rules of its own

    @property
    def frame_format(self) -> sequences.FrameFormat:
        """The format as the pipelines know it."""
        return FORMATS[self.format]

    @property
    def kind(self) -> ModuleType:
        """The module of the model."""
        return MODELS[self.model].kind

    def used(self) -> dict:
        """Return the settings that this model has, by name."""
        lacks = MODELS[self.model].lacks
        return {name: value for name, value in vars(self).items() if name not in lacks}

    def config(self, steps: int) -> Any:
        """Return the configuration of the model, for a training of so many steps."""
        return MODELS[self.model].config(self, steps)

    def plan(self, steps: int) -> training.Plan:
        """Return the plan of a training of so many steps."""
        return training.Plan(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warm_up=round(0.1 * steps),
            decay=self.decay,
            decay_from=0.3,
            weight_decay=1e-4,
            validate_every=int(np.clip(math.ceil(steps / ROUNDS), *ROUND)),
            seed=self.seed,
        )

    def compiled(self, steps: int) -> keras.Model:
        """Return a new model, ready for a training of so many steps."""
        hardware, config = workshop.hardware(seed=self.seed), self.config(steps)
        with hardware.scope():
            model = self.kind.build(config)
            weight = {"jaccard_weight": self.jaccard_weight}
            options = self.kind.compile_options(config, self.plan(steps), **weight)
            model.compile(**options, jit_compile=hardware.xla)
        return model

    def batches(self, config: Any, split: PackedSplit, step: int = 0) -> tf.data.Dataset:
        """Return turned and mirrored windows without end, from a step on, for the model."""
        options = {"batch_size": self.batch_size, "seed": self.seed, "start_step": step}
        options |= {"repeat": True, "drop_remainder": True}
        options |= {"symmetries": True, "time_reversal": True}
        task = sequences.Windows(self.history)
        windows = sequences.from_packed(split, self.frame_format, task, **options)
        return windows.map(functools.partial(self.kind.from_windows, config, self.frame_format))


@functools.lru_cache(maxsize=256)
def parameters(settings: Settings) -> int:
    """Count the parameters of the model that the settings describe, critic included."""
    return settings.kind.build(settings.config(TIMED)).count_params()
