"""What one look at residuals finds: all that a step needs of them, however many they are."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import power_of_two, qr_root
from jaxreg._shapes import Bool, Float
from jaxreg.least_squares._triangles import Triangles


class Look(NamedTuple):
    """Residuals at parameters, weighted as their loss says, and compressed."""

    cost: Float[Array, ""]
    before: Float[Array, ""]  # the cost in the loss's unit from before
    noise: Float[Array, "*k"]  # that unit here, of all rows, of each or of each block
    triangles: Triangles  # of the Jacobian's columns divided by unit, and of ψ/√weight
    unit: Float[Array, "p"]  # powers of two near their largest numbers
    length: Float[Array, ""]  # ‖ψ/√weight‖
    square: Float[Array, ""]  # ‖ψ‖², for the squared loss the cost itself
    smooth: Bool[Array, ""]  # whether the derivatives are finite
    jacobian: Float[Array, "p n"] | None = None  # with the weights, for an acceleration; None where there is none
    root: Float[Array, "n"] | None = None  # of the weights; None for the squared loss


def compressed(
    jacobian: Float[Array, "p n"], values: Float[Array, "n"]
) -> tuple[Float[Array, "q p"], Float[Array, "q"], Float[Array, "p"], Float[Array, ""]]:
    """As many rows as parameters with the products of these: columns, values, the columns' unit, the values' length."""
    unit = power_of_two(jnp.max(jnp.abs(jacobian), axis=1))
    # With the values as one more column their projection stands beside R, and Q is never formed.
    triangle = qr_root(jnp.concatenate([jacobian / unit[:, None], values[None]]))
    return triangle[:-1, :-1], triangle[:-1, -1], unit, jnp.sqrt(jnp.sum(triangle[:, -1] ** 2))
