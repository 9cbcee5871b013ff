"""Quantiles of Student's t, of F and of χ², which JAX does not bring: inverses of the incomplete beta and gamma."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc, gammaincc, ndtri
from jax.typing import ArrayLike


@jax.jit
def t_quantile(probability: ArrayLike, dof: ArrayLike) -> Array:
    """The t below which a probability lies, with dof degrees of freedom; NaN where dof is not positive.

    >>> print(f"{t_quantile(0.975, 4.0):.4f}")
    2.7764
    """
    probability, dof = _floats(probability, dof)
    tail = jnp.minimum(probability, 1 - probability)
    # 2·tail = I_s(ν/2, 1/2) with s = ν/(ν + t²).
    size = jnp.sqrt(_beta_tail(2 * tail, dof / 2, jnp.full_like(dof, 0.5)) * dof)
    size = jnp.where(dof > (50 if dof.dtype == jnp.float32 else 2000), _nearly_normal(-ndtri(tail), dof), size)
    return jnp.where(dof > 0, jnp.where(tail == 0.5, 0, jnp.sign(probability - 0.5) * size), jnp.nan)


@jax.jit
def f_quantile(probability: ArrayLike, numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """The F below which a probability lies, for numerator and denominator degrees of freedom; NaN if not positive.

    >>> print(f"{f_quantile(0.95, 2.0, 10.0):.4f}")
    4.1028
    """
    probability, numerator, denominator = _floats(probability, numerator, denominator)
    # 1 - probability = I_s(ν₂/2, ν₁/2) with s = ν₂/(ν₂ + ν₁F).
    ratio = _beta_tail(1 - probability, denominator / 2, numerator / 2)
    return jnp.where((numerator > 0) & (denominator > 0), ratio * denominator / numerator, jnp.nan)


@jax.jit
def chi2_quantile(probability: ArrayLike, dof: ArrayLike) -> Array:
    """The χ² below which a probability lies, with dof degrees of freedom; NaN where dof is not positive.

    >>> print(f"{chi2_quantile(0.95, 2.0):.4f}")
    5.9915
    """
    probability, dof = _floats(probability, dof)
    shape = jnp.where(dof > 0, dof / 2, 1)
    half = _bisected(lambda half: gammaincc(shape, half) > 1 - probability, probability)
    return jnp.where(dof > 0, 2 * half, jnp.nan)


def one_quantile(level: float, dof: int, distribution: str) -> float:
    """What a normal or Student's t is within, both ways, with probability ``level``: on the host, without a program.

    Source: M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.

    >>> print(f"{one_quantile(0.95, 4, 't'):.4f}")
    2.7764
    """
    if distribution == "normal" or dof > 2000:
        z = NormalDist().inv_cdf(0.5 + level / 2)
        return z if distribution == "normal" else float(_nearly_normal(z, dof))
    if dof <= 0:
        return math.nan

    def probability(angle: float) -> float:  # of |t| < √ν·tan(angle)
        sine, cosine = math.sin(angle), math.cos(angle)
        term, total = 1.0, 0.0
        for place in range(1 + dof % 2, dof, 2):
            total += term
            term *= cosine**2 * place / (place + 1)
        return 2 / math.pi * (angle + sine * cosine * total) if dof % 2 else sine * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < level else (low, middle)
    return math.sqrt(dof) * math.tan(low)


def _nearly_normal(z: Any, dof: Any) -> Any:
    """Student's t from the normal quantile, where betainc loses digits: Abramowitz and Stegun, 26.7.5."""
    square = z**2
    terms = (
        (square + 1) / 4,
        ((5 * square + 16) * square + 3) / 96,
        (((3 * square + 19) * square + 17) * square - 15) / 384,
        ((((79 * square + 776) * square + 1482) * square - 1920) * square - 945) / 92160,
    )
    return z * (1 + sum(term / dof**power for power, term in enumerate(terms, start=1)))


def _floats(*values: ArrayLike) -> list[Array]:
    dtype = jnp.result_type(float, *(value for value in values if jnp.issubdtype(jnp.result_type(value), jnp.floating)))
    return list(jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values)))


def _beta_tail(tail: Array, a: Array, b: Array) -> Array:
    """The ratio r with I_{1/(1+r)}(a, b) = tail; by its logarithm, small and large ratios are equally accurate."""
    a, b = jnp.where(a > 0, a, 1), jnp.where(b > 0, b, 1)  # what is not is answered NaN by the callers
    # Of I_s(a, b) and 1 - I_{1-s}(b, a) take the one that keeps the digits: the second but far out in the tail.
    near = tail > 0.1
    first, second = jnp.where(near, b, a), jnp.where(near, a, b)

    def below(ratio: Array) -> Array:
        value = betainc(first, second, jnp.where(near, ratio, 1) / (1 + ratio))
        return jnp.where(near, value < 1 - tail, value > tail)

    return _bisected(below, tail)


def _bisected(below: Callable[[Array], Array], like: Array) -> Array:
    """The positive number up to which ``below`` holds, by bisection of its logarithm over all that the dtype holds."""
    bound = jnp.full_like(like, jnp.log(jnp.finfo(like.dtype).max) * 0.99)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        inside = below(jnp.exp(middle))
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    low, high = jax.lax.fori_loop(0, 32 if like.dtype == jnp.float32 else 64, halve, (-bound, bound))
    return jnp.where(jnp.isnan(like), jnp.nan, jnp.exp((low + high) / 2))
