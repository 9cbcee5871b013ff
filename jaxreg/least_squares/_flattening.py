"""A problem's numbers made into the solver's view of it."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import power_of_two
from jaxreg._shapes import Float
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._flat_term import (
    counts_are_usable,
    errors_of,
    flat_of,
    flat_term,
    joined,
    loss_of_all,
    parts_of,
    unusable_rows,
    whitened,
)
from jaxreg.least_squares._layout import dtype_of, layout_of
from jaxreg.least_squares._true_x import rows_are_apart, with_errors_in_x
from jaxreg.problems import Problem
from jaxreg.problems._starts import start_of


def flat_problem(
    problem: Problem,
    *,
    careful: bool = True,
    unit: Float[Array, ""] | None = None,
    least: int | None = None,
    neutral: bool = False,
) -> FlatProblem:
    """The solver's view of a problem; its unit and the least number of its rows may be those of a larger one.

    ``neutral`` if rows that are not there are already like one that is.
    """
    form = problem.form
    numbers = jax.tree.map(jnp.asarray, (problem.p0, problem.bounds, problem.terms))
    p0, box, terms = numbers
    layout = layout_of(start_of(p0, box, terms, form), form, dtype_of(numbers))
    dtype = layout.start.dtype
    errors, targets, counted, valid = [], [], [], jnp.asarray(True)
    for term, form_of in zip(terms, form.terms, strict=True):
        there = flat_of(jnp.ones(term.y.shape, bool) if term.mask is None else term.mask, term.y)
        sizes, usable = errors_of(term, there, dtype)
        errors.append(sizes)
        targets.append(whitened(sizes[0], jnp.where(there, parts_of(term.y), 0).astype(dtype)))
        counted.append(there)
        valid &= usable & counts_are_usable(term, form_of, there)
    there, target = joined(counted), joined(targets)
    valid &= there.sum() >= (layout.start.size if least is None else least)
    unit = power_of_two(jnp.max(jnp.abs(target))) if unit is None else unit
    bounds = None
    if box is not None:
        lower, upper = map(layout.of_free, box)
        bounds = lower, upper
        valid &= ((lower <= layout.start) & (layout.start <= upper)).all()
    unusable = jnp.concatenate([unusable_rows(*pair) for pair in zip(terms, counted, strict=True)], axis=1)

    flat, first = [], 0
    for term, one, sizes, rows in zip(terms, form.terms, errors, counted, strict=True):
        root, factors = jax.tree.map(lambda leaf: leaf * unit, sizes)
        flat.append(flat_term(term, one, root, rows, first, dtype, neutral=neutral))
        if factors is not None:
            valid &= rows_are_apart(flat[-1], term, one, layout.restore(layout.start))
            flat[-1] = with_errors_in_x(flat[-1], term, factors, dtype)
        first += rows.size

    def residual(params: Float[Array, "p"]) -> Float[Array, "n"]:
        everything = layout.restore(params)
        return joined([term.residual(everything) for term in flat])

    return FlatProblem(
        start=layout.start,
        unit=unit,
        places=layout.places,
        spread=layout.spread,
        restore=layout.restore,
        residual=residual,
        terms=tuple(flat),
        counted=there,
        size=jnp.linalg.norm(target / unit),
        valid=valid,
        startable=valid & ~unusable[0].any(),
        bounds=bounds,
        loss=loss_of_all(flat),
        scaled=any(term.scale is not None for term in flat),
        tied=form.tie is not None,
        held=None,
        careful=careful,
        accelerates=all(term.true_x is None for term in flat),
        alone=False,
        unusable=unusable,
    )
