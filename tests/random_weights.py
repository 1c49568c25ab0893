"""Weights that are not zero, for tests of networks that have learned nothing."""

from __future__ import annotations

import math

import numpy as np


def randomised(model, seed=3):
    """Give every weight another value, so that no test passes because of zeros or ones."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = rng.normal(size=weight.shape) / math.sqrt(max(1, math.prod(weight.shape[:-1])))
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return model
