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

TARGETS = 4  # every run of a format is judged on the last so many frames
ROUNDS = 6  # validations in a run,
ROUND = (20, 100)  # but at least and at most so many steps from one to the next
CRITIC = ("adversarial", "penalty", "critic_steps")


class Model(NamedTuple):
    """What the knobs mean to a model: its module, its configuration, and what it lacks."""

    kind: ModuleType
    config: Callable[[Settings], Any]
    lacks: tuple[str, ...] = ()


def _convlstm(settings: Settings) -> convlstm.Config:
    size = {"width": settings.width, "blocks": settings.depth, "kernels": (settings.kernel,)}
    filters = (max(settings.width // 4, 4),)
    return dataclasses.replace(convlstm.workshop(), filters=filters, **size)


def _cnn(settings: Settings) -> cnn.Config:
    known = (settings.frame_format.TINC,)
    size = {"width": settings.width, "blocks": settings.depth, "kernel": settings.kernel}
    return cnn.Config(history=settings.history, ahead=1, steps=known, **size)


def _wgan_gp(settings: Settings) -> wgan_gp.Config:
    generator = vars(_cnn(settings)) | {"noise": 0}
    losses = {name: getattr(settings, name) for name in CRITIC}
    size = {"critic_width": max(settings.width // 4, 4), "critic_kernel": settings.kernel}
    # The generator learns from the start: λ rises over half of the run, while both catch up.
    return wgan_gp.Config(**generator | losses | size, ramp=settings.steps // 2)


MODELS = {
    "ConvLSTM": Model(convlstm, _convlstm, lacks=("history", *CRITIC)),
    "CNN": Model(cnn, _cnn, lacks=CRITIC),
    "WGAN-GP": Model(wgan_gp, _wgan_gp),
}


# What each of the settings is; the panel shows it beside the knob.
TIPS = {
    "model": "Which network forecasts the next frame",
    "format": "Which frames of a sample are used; with T80_TINC4 most moves from frame to frame",
    "history": "The model reads so many of the latest frames; a ConvLSTM reads all there are",
    "width": "Channels of the residual blocks; a ConvLSTM remembers a quarter of them",
    "depth": "How many residual blocks",
    "kernel": "Edge of the kernel through which neighbours are seen",
    "learning_rate": "The highest learning rate; it rises to it in the first tenth of the steps",
    "decay": "How the learning rate falls to 0 at the end",
    "batch_size": "Examples in a batch: windows, or whole sequences for a ConvLSTM",
    "jaccard_weight": "Loss: weight of the soft Jaccard distance beside the cross-entropy",
    "adversarial": "Loss of a WGAN-GP: weight of the critic's opinion",
    "penalty": "Loss of a critic: weight of the gradient penalty",
    "critic_steps": "How often the critic learns from a batch; the generator learns from it once",
    "steps": "How many batches it learns from",
    "seed": "Of weights and batches: the same settings with the same seed give the same run",
}


@dataclass(frozen=True)
class Settings:
    """Everything that a participant can turn; all that it takes to repeat a run on the same data.

    `TIPS` says what each is. One of another type or outside its range is refused.
    """

    model: str = _checks.field("ConvLSTM", choices=MODELS)
    format: str = _checks.field("T80_TINC4", choices=FORMATS)
    history: int = _checks.field(8, least=1, most=20 - TARGETS, whole=True)
    width: int = _checks.field(32, choices=(8, 16, 32, 64, 128))
    depth: int = _checks.field(2, least=0, most=12, whole=True)
    kernel: int = _checks.field(3, choices=(1, 3, 5))
    learning_rate: float = _checks.field(1e-2, least=1e-6, most=10)
    decay: str = _checks.field("linear", choices=training.DECAYS)
    batch_size: int = _checks.field(4, least=1, most=64, whole=True)
    jaccard_weight: float = _checks.field(0.05, least=0, most=10)
    adversarial: float = _checks.field(0.03, least=0, most=10)
    penalty: float = _checks.field(10.0, least=0, most=1000)
    critic_steps: int = _checks.field(3, least=1, most=10, whole=True)
    steps: int = _checks.field(60, least=1, most=100_000, whole=True)
    seed: int = _checks.field(1, least=0, most=2**31 - 1, whole=True)

    def __post_init__(self):
        _checks.configuration(self)
        self.config  # noqa: B018  (the model has rules of its own)

    @property
    def frame_format(self) -> sequences.FrameFormat:
        """The format as the pipelines know it."""
        return FORMATS[self.format]

    @property
    def kind(self) -> ModuleType:
        """The module of the model."""
        return MODELS[self.model].kind

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return MODELS[self.model].config(self)

    @property
    def plan(self) -> training.Plan:
        """How it is trained."""
        return training.Plan(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warm_up=round(0.1 * self.steps),
            decay=self.decay,
            decay_from=0.3,
            weight_decay=1e-4,
            validate_every=int(np.clip(math.ceil(self.steps / ROUNDS), *ROUND)),
            seed=self.seed,
        )

    def used(self) -> dict:
        """Return the settings that this model has, by name."""
        lacks = MODELS[self.model].lacks
        return {name: value for name, value in vars(self).items() if name not in lacks}

    def compiled(self) -> keras.Model:
        """Return a new model, ready to be trained."""
        hardware, config = workshop.hardware(seed=self.seed), self.config
        with hardware.scope():
            model = self.kind.build(config)
            weight = {"jaccard_weight": self.jaccard_weight}
            options = self.kind.compile_options(config, self.plan, **weight)
            model.compile(**options, jit_compile=hardware.xla)
        return model


@functools.lru_cache(maxsize=256)
def parameters(settings: Settings) -> int:
    """Count the parameters of the model that the settings describe, critic included."""
    return settings.kind.build(settings.config).count_params()
