"""What one look at residuals finds: all that a step needs of them, however many they are."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class Steered(Protocol):
    """What steers the steps of Levenberg-Marquardt, of one problem or of many that share parameters."""

    @property
    def start(self) -> Float[Array, "p"]: ...
    @property
    def bounds(self) -> tuple[Float[Array, "p"], Float[Array, "p"]] | None: ...
    @property
    def size(self) -> Float[Array, ""]:
        """‖y/(sigma·unit)‖."""

    @property
    def loss(self) -> Any:
        """None for the squared one."""

    @property
    def scaled(self) -> bool:
        """Whether the unit of the loss is estimated."""

    @property
    def careful(self) -> bool:
        """Whether what steps alone do not settle is looked into."""

    @property
    def valid(self) -> Bool[Array, ""]: ...
    @property
    def startable(self) -> Bool[Array, ""]: ...

    def unseen(self) -> Look:
        """A look in its shape, before the first."""

    def free(self, params: Float[Array, "p"], gradient: Float[Array, "p"]) -> Bool[Array, "p"]:
        """Whether each parameter can move."""

    def second_derivative(
        self, params: Float[Array, "p"], one: Float[Array, "p"], other: Float[Array, "p"]
    ) -> Float[Array, "n"]:
        """Of the residuals, where a look has their Jacobian."""


@runtime_checkable
class Residuals(Steered, Protocol):
    """Residuals that can be looked at."""

    def look(self, params: Float[Array, "p"], noise: Float[Array, "*k"]) -> Look:
        """All that a step needs to know at parameters, and the cost in a unit of the loss from before."""

    def cost_at(self, params: Float[Array, "p"], noise: Float[Array, "*k"]) -> Float[Array, ""]:
        """The cost in a given unit of the loss."""


def compressed(
    jacobian: Float[Array, "p n"], values: Float[Array, "n"], *, alone: bool = False
) -> tuple[Float[Array, "q p"], Float[Array, "q"], Float[Array, "p"], Float[Array, ""]]:
    """As many rows as parameters with the products of these: columns, values, the columns' unit, the values' length."""
    unit = power_of_two(jnp.max(jnp.abs(jacobian), axis=1))
    # With the values as one more column their projection stands beside R, and Q is never formed.
    triangle = qr_root(jnp.concatenate([jacobian / unit[:, None], values[None]]), alone=alone)
    return triangle[:-1, :-1], triangle[:-1, -1], unit, jnp.sqrt(jnp.sum(triangle[:, -1] ** 2))
