"""Losses: elementwise, unreduced functions of prediction and target, in terms of the residual r = prediction - target.

All refuse shapes that differ instead of broadcasting: predictions (n, 1) against targets (n,) would make (n, n)
residuals, and training would converge in silence to w = 0, b = mean(y). All have finite gradients at r = 0.
Thresholds may be traced; ``functools.partial(huber, delta=0.1)`` binds one.
"""

from jaxreg.likelihoods import binomial, poisson
from jaxreg.losses._functions import (
    absolute,
    cauchy,
    huber,
    irls_weight,
    log_cosh,
    pseudo_huber,
    quantile,
    soft_l1,
    squared,
    tukey,
)
from jaxreg.losses._kinds import elementwise

__all__ = [
    "absolute",
    "binomial",
    "cauchy",
    "elementwise",
    "huber",
    "irls_weight",
    "log_cosh",
    "poisson",
    "pseudo_huber",
    "quantile",
    "soft_l1",
    "squared",
    "tukey",
]
