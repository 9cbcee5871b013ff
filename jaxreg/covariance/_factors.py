"""A covariance from a factor of it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxreg._shapes import Bool, Float


class Covariance(NamedTuple):
    """What the data say about the parameters.

    Attributes:
        matrix: (p, p), in units of the parameters; NaN where it cannot be estimated and in entries that leave the range
            of the dtype, 0 in the rows and columns of parameters that are not free.
        stderr: (p,), standard errors, right also where their squares leave the range; infinite where they themselves
            do, above or below.
        regular: whether the data determine every free parameter.
        undetermined: (p,), the combination of parameters that they determine least, of length 1.
        definite: whether the bread is positive definite. If not there are no errors: a fit of a redescending loss is at
            no minimum, or, with an estimated scale, at one of which this estimate knows nothing.
    """

    matrix: Array
    stderr: Array
    regular: Array
    undetermined: Array
    definite: Array


def from_factor(half: Float[Array, "p k"], unit: Float[Array, "p"]) -> Covariance:
    """The covariance that is half·halfᵀ in these units of the parameters, and the standard errors from the factor.

    >>> print(from_factor(jnp.array([[3.0, 4.0]]), jnp.array([1e-30])).stderr)
    [5.e-30]
    """
    length = safe_root(jnp.sum(half**2, axis=1))
    stderr = length * unit
    # Not a product of matrices, which vmap would make a call of a library for each of many small ones.
    scaled = jnp.stack([jnp.sum(half * row[None], axis=1) for row in half]) if len(half) < 9 else half @ half.T
    matrix = scaled * unit[:, None] * unit[None]
    return Covariance(
        matrix=jnp.where(_lost(scaled, matrix), jnp.nan, matrix),
        stderr=jnp.where(_lost(length, stderr), jnp.inf, stderr),
        regular=jnp.asarray(True),
        undetermined=jnp.zeros_like(unit),
        definite=jnp.asarray(True),
    )


def _lost(scaled: Float[Array, "..."], value: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether a value has left the range of floats by its unit."""
    return (scaled != 0) & ((jnp.abs(value) < jnp.finfo(value.dtype).tiny) | jnp.isinf(value))


def safe_root(value: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The square root, 0 of what is not positive; there it has the derivative 0, not infinity."""
    flat = value <= 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, value)))


def inverse_factor(matrix: Float[Array, "p p"]) -> tuple[Float[Array, "p p"], Bool[Array, ""]]:
    """L⁻¹ of a symmetric matrix L·Lᵀ, and whether it is positive definite; the identity if not."""
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    definite = jnp.isfinite(jnp.linalg.cholesky(lax.stop_gradient(matrix))).all()
    factor = jnp.linalg.cholesky(jnp.where(definite, matrix, identity))
    return solve_triangular(factor, identity, lower=True), definite
