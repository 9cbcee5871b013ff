"""Likelihoods of counts, as losses: elementwise in prediction and target, half the deviance of each.

Source: P. McCullagh and J. A. Nelder, Generalized Linear Models (1989), sections 2.3 and 2.5.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln, xlogy
from jax.typing import ArrayLike

from jaxreg import _checks


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihood:
    """A loss that is minus the logarithm of a probability, up to what does not depend on the prediction.

    It knows the size of its errors, so that it takes neither a sigma nor a scale. Called it is a loss as any other, and
    serves ``train`` too.

    Attributes:
        name: for messages.
        half_deviance: (prediction, target, \\*\\*keywords) -> the loss, 0 where they agree, infinite beyond its domain.
        information: (prediction, \\*\\*keywords) -> the expectation of its second derivative by the prediction.
        expected: (prediction, \\*\\*keywords) -> the expectation of the target.
        log_probability: (prediction, target, \\*\\*keywords) -> with all constants.
        saturated: (target, \\*\\*keywords) -> the prediction that expects just this.
        draw: (key, prediction, \\*\\*keywords) -> targets.
        usable: (target, \\*\\*keywords) -> whether each target can be one.
        wanted: what targets have to be, in words.
        needs: the keywords without a default.
    """

    name: str
    half_deviance: Callable[..., Array]
    information: Callable[..., Array]
    expected: Callable[..., Array]
    log_probability: Callable[..., Array]
    saturated: Callable[..., Array]
    draw: Callable[..., Array]
    usable: Callable[..., Any]
    wanted: str
    needs: tuple[str, ...] = ()

    @property
    def __name__(self) -> str:  # the label of a sweep over losses
        return self.name

    def __call__(self, prediction: ArrayLike, target: ArrayLike, **keywords: Any) -> Array:
        """The loss of each element."""
        prediction = jnp.asarray(_checks.array("prediction", prediction))
        target = jnp.asarray(_checks.array("target", target))
        if prediction.shape != target.shape:
            shapes = f"{prediction.shape} and {target.shape}"
            raise ValueError(f"prediction and target must have the same shape, got {shapes}")
        return self.half_deviance(prediction, target, **keywords)

    def __reduce__(self) -> str:
        return self.name


@jax.custom_jvp
def _half_deviance(target: Array, expected: Array) -> Array:
    """y·log(y/m) + m - y of positive y and m, to its own digits also where they nearly agree, and far from there."""
    ratio = (expected - target) / target
    near = jnp.abs(ratio) < 0.3
    small = jnp.where(near, ratio, 0)
    # t - log(1 + t), where log(1 + t) = 2·atanh(s) with s = t/(2 + t), and t - 2s = t·s.
    half = small / (2 + small)
    square, series = half**2, jnp.zeros_like(half)
    for power in range(21, 1, -2):
        series = square * (1 / power + series)
    far = ratio - (jnp.log(expected) - jnp.log(target))
    return target * jnp.where(near, small * half - 2 * half * series, far)


@_half_deviance.defjvp
def _half_deviance_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (target, expected), (of_target, of_expected) = primals, tangents
    slope = jnp.log(target) - jnp.log(expected)
    return _half_deviance(target, expected), (expected - target) / expected * of_expected + slope * of_target


def _kept(target: Array, expected: Array) -> Array:
    """y·log(y/m) + m - y of a target y and its expectation m; infinite outside its domain, m > 0 or m = y = 0."""
    some, positive = ~(target <= 0), expected > 0  # a target that is NaN is none of zero
    both = _half_deviance(jnp.where(some, target, 1), jnp.where(positive, expected, 1))
    return jnp.where(positive | (~some & (expected == 0)), jnp.where(some, both, expected), jnp.inf)


def _inverse(value: Array) -> Array:
    """1/value; 0 where that is none."""
    return jnp.where(value > 0, 1 / jnp.where(value > 0, value, 1), 0)


def _is_count(value: Any) -> Any:
    return (value >= 0) & (value == jnp.floor(value))


poisson = Likelihood(
    name="poisson",
    half_deviance=lambda prediction, target: _kept(target, prediction),
    information=_inverse,
    expected=lambda prediction: prediction,
    log_probability=lambda prediction, target: xlogy(target, prediction) - prediction - gammaln(target + 1),
    saturated=lambda target: target,
    draw=lambda key, prediction: jax.random.poisson(key, prediction).astype(prediction.dtype),
    usable=lambda target: _is_count(target),
    wanted="counts, whole and not below zero",
)
"""Half the deviance of counts y, μ - y + y·log(y/μ), for a model of their expectation μ, which is their variance too.

>>> print(poisson(jnp.array([2.0, 2.0]), jnp.array([2.0, 0.0])))
[0. 2.]
"""


def _binomial(prediction: Array, target: Array, *, trials: ArrayLike) -> Array:
    trials = jnp.asarray(trials, prediction.dtype)
    expected = trials * prediction
    return _kept(target, expected) + _kept(trials - target, trials - expected)


def _log_binomial(prediction: Array, target: Array, *, trials: ArrayLike) -> Array:
    trials = jnp.asarray(trials, prediction.dtype)
    ways = gammaln(trials + 1) - gammaln(target + 1) - gammaln(trials - target + 1)
    return ways + xlogy(target, prediction) + xlogy(trials - target, 1 - prediction)


binomial = Likelihood(
    name="binomial",
    half_deviance=_binomial,
    information=lambda prediction, trials: trials * _inverse(prediction * (1 - prediction)),
    expected=lambda prediction, trials: trials * prediction,
    log_probability=_log_binomial,
    saturated=lambda target, trials: target / trials,
    draw=lambda key, prediction, trials: jax.random.binomial(key, trials, prediction).astype(prediction.dtype),
    usable=lambda target, trials: _is_count(target) & _is_count(trials) & (target <= trials),
    wanted="successes, whole, not below zero and not more than the trials, which are whole too",
    needs=("trials",),
)
"""Half the deviance of y successes, y·log(y/np) + (n - y)·log((n - y)/(n - np)), for a model of one's probability p.

The trials are bound by ``functools.partial(binomial, trials=n)``, a number or one for each point.

>>> print(binomial(jnp.array([0.5]), jnp.array([1.0]), trials=2.0))
[0.]
"""
