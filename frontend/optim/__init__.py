"""Optimisers, written with array functions alone; gradient clipping; learning rate schedules."""

from thalweg.frontend.optim.adaptive import AdaDelta, AdaGrad, Adam, AdamW, RMSProp
from thalweg.frontend.optim.base import Optimizer
from thalweg.frontend.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from thalweg.frontend.optim.descent import SGD, Momentum, Nesterov
from thalweg.frontend.optim.schedules import constant, cosine, exponential, piecewise, polynomial, warmup

__all__ = [
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "constant",
    "cosine",
    "exponential",
    "global_norm",
    "piecewise",
    "polynomial",
    "warmup",
]
