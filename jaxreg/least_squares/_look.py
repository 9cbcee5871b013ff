"""What one look at residuals finds: all that a step needs of them, however many they are."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import power_of_two, qr_root, solve_upper
from jaxreg._shapes import Bool, Float
from jaxreg.least_squares._triangles import Triangles

_LEAST_PIVOT = 0.1  # of columns of length 1 that were orthonormal at other parameters: products then lose two digits


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


Compressed = tuple[Float[Array, "q p"], Float[Array, "q"], Float[Array, "p"], Float[Array, ""]]


def compressed(jacobian: Float[Array, "p n"], values: Float[Array, "n"], *, alone: bool = False) -> Compressed:
    """As many rows as parameters with the products of these: columns, values, the columns' unit, the values' length."""
    unit = power_of_two(jnp.max(jnp.abs(jacobian), axis=1))
    # With the values as one more column their projection stands beside R, and Q is never formed.
    triangle = qr_root(jnp.concatenate([jacobian / unit[:, None], values[None]]), alone=alone)
    return triangle[:-1, :-1], triangle[:-1, -1], unit, jnp.sqrt(jnp.sum(triangle[:, -1] ** 2))


def multiplied(jacobian: Float[Array, "p n"], values: Float[Array, "n"]) -> Compressed:
    """The products themselves in the place of rows: a third of the price, to be added up, and right only of columns
    that are nearly orthonormal, as derivatives along ``directions`` are."""
    columns = jnp.concatenate([jacobian, values[None]])
    products = columns @ columns.T
    return products[:-1, :-1], products[:-1, -1], jnp.ones_like(products[:-1, -1]), jnp.sqrt(products[-1, -1])


def directions(look: Look) -> Float[Array, "p p"]:
    """Along which the derivatives were orthonormal where a look found R: a row for each column of R⁻¹.

    They are not finite where parameters could not be told from each other.
    """
    root = look.triangles.shared[0]
    return solve_upper(root, jnp.eye(len(root), dtype=root.dtype)).T / look.unit[None]


def from_products(look: Look, before: Look) -> tuple[Look, Bool[Array, ""]]:
    """A look that ends in rows, of one whose products are along the directions of another; and whether it is sound.

    With Q the columns along these directions, QᵀQ = LLᵀ, and the triangle is LᵀR.
    """
    products, root = look.triangles.shared[0], before.triangles.shared[0]
    size = jnp.sqrt(jnp.diagonal(products))
    size = jnp.where(size > 0, size, 1)
    factor = jnp.linalg.cholesky(products / size[:, None] / size[None], symmetrize_input=False)
    rest = solve_upper(factor.T, look.triangles.rest[0] / size, transposed=True)
    sound = (jnp.diagonal(factor) > _LEAST_PIVOT).all() & jnp.isfinite(rest).all()
    triangles = look.triangles._replace(shared=((factor.T * size[None]) @ root)[None], rest=rest[None])
    return look._replace(triangles=triangles, unit=before.unit), sound


def together(looks: Look, *, products: bool = False) -> Look:
    """One look of those at parts of the rows, of one unit of the loss: sums in a fixed tree, and one more QR."""
    columns, rest, unit = combined(
        looks.triangles.shared[:, 0], looks.triangles.rest[:, 0], looks.unit, products=products
    )
    nothing = looks.triangles.own[0]
    return Look(
        cost=pairwise(looks.cost),
        before=pairwise(looks.before),
        noise=looks.noise[0],
        triangles=Triangles(nothing, columns[None], rest[None]),
        unit=unit,
        length=jnp.sqrt(pairwise(looks.length**2)),
        square=pairwise(looks.square),
        smooth=looks.smooth.all(),
    )


def combined(
    columns: Float[Array, "m p p"], rest: Float[Array, "m p"], unit: Float[Array, "m p"], *, products: bool = False
) -> tuple[Float[Array, "p p"], Float[Array, "p"], Float[Array, "p"]]:
    """One triangle of those of parts of the rows, or the sum of their products."""
    if products:
        return pairwise(columns), pairwise(rest), unit[0]
    moves = (columns != 0).any(axis=1)  # a column of zeros has no unit
    largest = jnp.max(jnp.where(moves, unit, jnp.finfo(unit.dtype).tiny), axis=0)
    columns = columns * (jnp.where(moves, unit, 1) / largest[None])[:, None]
    # What is left of the rest beside its projection is in no row: its length is known.
    count = rest.shape[1]
    root = qr_root(jnp.concatenate([columns, rest[:, :, None]], axis=2).reshape(-1, count + 1).T)
    return root[:count, :count], root[:count, count], largest


def pairwise(values: Array) -> Array:
    """The sum over the first axis, in a tree, whose rounding does not grow with the number of terms."""
    while values.shape[0] > 1:
        odd = values.shape[0] % 2
        values = jnp.concatenate([values, jnp.zeros_like(values[:odd])])
        values = values[::2] + values[1::2]
    return values[0]
