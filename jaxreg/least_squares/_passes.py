"""What one pass over the rows of a tall fit finds, as programs: of the rows of a piece, and of the pieces together.

Inside a piece the rows go block by block, so that the derivatives of a block stay in the cache. All is added up in a
tree over the rows that depends on their number alone, so the bits depend on no thread and no device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg import _jit
from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance._factors import safe_root
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._flat_term import model_of
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._look import Look, combined, compressed, pairwise, together
from jaxreg.problems import Problem
from jaxreg.problems._form import Term


class Facts(NamedTuple):
    """What is known of rows before any step."""

    unit: Float[Array, ""]  # a power of two near the largest |y/sigma|
    size: Float[Array, ""]  # ‖y/(sigma·unit)‖
    usable: Bool[Array, ""]
    num_rows: Int[Array, ""]  # residuals that are there


class Sums(NamedTuple):
    """What the errors at parameters rest on, of some rows."""

    cost: Float[Array, ""]
    chi2: Float[Array, ""]
    columns: Float[Array, "k p p"]  # a triangle of the rows weighted with ψ', and one of those where that is negative
    unit: Float[Array, "k p"]
    gradient: Float[Array, "p"]  # half the cost's
    inside: Float[Array, "2 p"]  # that of the rows inside the domain of their loss, and of its terms' sizes
    moments: Float[Array, "3"]  # Σψ², Σψ', Σψ'²


def _facts(flat: FlatProblem) -> Facts:
    usable = flat.valid & ~flat.unusable.any()
    return Facts(jnp.where(flat.size == 0, 0, flat.unit), flat.size, usable, flat.counted.sum())


def _joined_facts(facts: Facts) -> Facts:
    unit = jnp.max(facts.unit)
    size = jnp.sqrt(pairwise((facts.size * (facts.unit / jnp.where(unit > 0, unit, 1))) ** 2))
    return Facts(unit, size, facts.usable.all(), facts.num_rows.sum())


def _look(
    flat: FlatProblem, params: Float[Array, "p"], noise: Float[Array, ""], along: Float[Array, "p p"] | None = None
) -> tuple[Look, Float[Array, ""]]:
    """A look, and χ² of the data."""
    return flat.look(params, noise, along)._replace(jacobian=None, root=None), flat.chi2(flat.residual(params))


def _joined_looks(looks: tuple[Look, Array], *, products: bool) -> tuple[Look, Array]:
    return together(looks[0], products=products), pairwise(looks[1])


def _sums(flat: FlatProblem, params: Float[Array, "p"], noise: Float[Array, ""]) -> Sums:
    residual, jacobian = flat.linearise(params)
    slope = flat.slope(residual, noise)
    weight = jnp.where(flat.counted, flat.information(residual, noise), 0)
    signs = (weight, -weight) if flat.terms[0].is_robust else (weight,)
    triangles = [compressed(safe_root(sign)[None] * jacobian, slope) for sign in signs]
    inside = flat.slopes_inside(residual, jacobian, slope, noise) if flat.has_domain else jacobian[:, :1]
    return Sums(
        cost=flat.cost(residual, noise),
        chi2=flat.chi2(residual),
        columns=jnp.stack([triangle[0] for triangle in triangles]),
        unit=jnp.stack([triangle[2] for triangle in triangles]),
        gradient=jacobian @ slope,
        inside=jnp.stack([inside.sum(axis=1), jnp.abs(inside).sum(axis=1)]),
        moments=jnp.stack([jnp.sum(part) for part in (slope**2, weight, weight**2)]),
    )


def _joined_sums(sums: Sums) -> Sums:
    plain = jax.tree.map(pairwise, sums._replace(columns=sums.cost, unit=sums.cost))
    columns, _, unit = jax.vmap(combined, in_axes=1)(sums.columns, jnp.zeros_like(sums.unit), sums.unit)
    return plain._replace(columns=columns, unit=unit)


# Of each kind of pass what it finds in a block of rows, and how that of several is joined.
_KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "facts": (_facts, _joined_facts),
    "rows": (_look, functools.partial(_joined_looks, products=False)),
    "products": (_look, functools.partial(_joined_looks, products=True)),
    "sums": (_sums, _joined_sums),
}


@_jit.compiled("kind", "block", "careful")
def of_piece(
    problem: Problem, rows: Term, num_rows: Any, unit: Any, given: Any, *, kind: str, block: int, careful: bool
) -> Any:
    """What a pass finds in the first of these rows; ``problem`` is that of one, which stands in for those beyond."""
    one, join = _KINDS[kind]

    def of_block(part: Term) -> Any:
        alone = dataclasses.replace(problem, terms=(part,))
        return one(flat_problem(alone, careful=careful, unit=unit, least=0, neutral=True), *given)

    return join(_of_blocks(problem, rows, num_rows, block, of_block))


@_jit.compiled("kind")
def joined(found: Any, *, kind: str) -> Any:
    """What it finds in all, of what it found in each piece."""
    return _KINDS[kind][1](found)


@_jit.compiled()
def predictions(problem: Problem, x: Any) -> Array:
    """At the start, whatever the rows."""
    return model_of(problem.terms[0], problem.form.terms[0])(problem.p0, x)


def _of_blocks(problem: Problem, rows: Term, count: Any, block: int, one: Callable[[Term], Any]) -> Any:
    """``one(rows)`` of each block of the rows of a piece, those that are not there like one that is."""
    stand = problem.terms[0]
    shape = rows.y.shape
    there = (jnp.arange(shape[0]) < count).reshape(-1, *(1,) * (len(shape) - 1))
    mask = jnp.broadcast_to(there, shape) if rows.mask is None else rows.mask & there
    rows = rows._replace(sigma=stand.sigma if rows.sigma is None else rows.sigma, mask=mask)
    leaves, structure = jax.tree.flatten(rows)
    numbers = [leaf if jnp.ndim(leaf) == 0 else None for leaf in leaves]
    blocks = [leaf.reshape(-1, block, *leaf.shape[1:]) for leaf in leaves if jnp.ndim(leaf)]

    def of_block(parts: list[Array]) -> Any:
        left = iter(parts)
        part: Term = jax.tree.unflatten(structure, [next(left) if number is None else number for number in numbers])
        known = part.mask.reshape(block, -1).any(axis=1)

        def filled(leaf: Array, row: Array) -> Array:
            which = part.mask if leaf.shape[: part.mask.ndim] == part.mask.shape else known
            return jnp.where(which.reshape(which.shape + (1,) * (leaf.ndim - which.ndim)), leaf, row)

        return one(part._replace(x=jax.tree.map(filled, part.x, stand.x), y=filled(part.y, stand.y)))

    return lax.map(of_block, blocks)
