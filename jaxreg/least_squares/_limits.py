"""Derivatives where differentiation gives none though the function is finite: the limit from one side."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import lengths
from jaxreg._shapes import Float

_FINER = 16.0  # by how much the second difference's step is shorter
_MOST_GROWTH = 1.1  # of a difference whose step gets shorter: by 4 at a root's pole, by 1.2 at a logarithm's


def one_sided_derivative(
    function: Callable[[Array], Array],
    params: Float[Array, "p"],
    value: Float[Array, "n"],
    jacobian: Float[Array, "p n"],
) -> Float[Array, "p n"]:
    """The derivative by each parameter as the limit of differences from above, or else from below.

    Args:
        function: (p,) -> (n,).
        params: where; finite.
        value: of the function there.
        jacobian: its derivative, of which the finite part says how far a parameter of zero is to be moved.

    Returns:
        The limits, NaN where there is none, as at a pole: two differences, extrapolated, that do not grow as their
        step gets shorter.
    """
    eps = float(jnp.finfo(value.dtype).eps)
    columns = lengths(jnp.where(jnp.isfinite(jacobian), jacobian, 0))
    size = jnp.linalg.norm(jnp.where(jnp.isfinite(value), value, 0)) / jnp.where(columns > 0, columns, 1)
    size = jnp.where(params != 0, jnp.abs(params), jnp.where((columns > 0) & (size > 0), size, 1))
    step = eps ** (1 / 3) * size

    shift = jnp.stack([step, step / _FINER, -step, -step / _FINER])
    moved = params[None, None] + shift[:, :, None] * jnp.eye(params.size, dtype=params.dtype)[None]
    values = jax.vmap(jax.vmap(function))(moved)
    differences = (values - value[None, None]) / shift[:, :, None]
    hidden = 8 * eps * jnp.abs(value)[None, None] / jnp.abs(shift[1::2])[:, :, None]
    first, second = differences[::2], differences[1::2]
    settles = jnp.abs(second) <= _MOST_GROWTH * jnp.abs(first) + hidden
    above, below = jnp.where(settles, second + (second - first) / (_FINER - 1), jnp.nan)
    return jnp.where(jnp.isfinite(above), above, below)
