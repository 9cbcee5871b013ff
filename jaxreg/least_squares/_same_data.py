"""Whether a fit is one of a problem's data: they have the χ² that it has."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _jit, _trace
from jaxreg._shapes import Float
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.problems import Problem
from jaxreg.problems._form import Term
from jaxreg.status import is_optimum


def on_axes(problem: Problem, members: tuple[int, ...], params: Any) -> Problem:
    """A problem of many fits, what all share spread over their axes; ``params`` are theirs."""

    def spread(leaf: Any, own: tuple[int, ...]) -> Any:
        return leaf if np.shape(leaf)[: len(own)] == own else np.broadcast_to(leaf, members + np.shape(leaf))

    def of_params(tree: Any) -> Any:
        """Shaped like the parameters, of a dict perhaps some of them."""
        like = {name: params[name] for name in tree} if isinstance(tree, dict) else params
        return jax.tree.map(lambda leaf, param: spread(leaf, np.shape(param)), tree, like)

    def of_term(term: Term) -> Term:
        shape = np.shape(term.y)
        own = shape if shape[: len(members)] == members else members + shape
        return jax.tree.map(lambda leaf: spread(leaf, own), term)

    p0 = None if problem.p0 is None else of_params(problem.p0)
    bounds = None if problem.bounds is None else tuple(map(of_params, problem.bounds))
    found = Problem(p0, bounds, tuple(map(of_term, problem.terms)), problem.form)
    # That of the fits themselves has all on their axes, also what all share.
    is_theirs = all(np.shape(leaf)[: len(members)] == members for leaf in jax.tree.leaves(problem))
    starts_are = p0 is None or jax.tree.map(np.shape, p0) == jax.tree.map(np.shape, problem.p0)
    return problem if is_theirs and starts_are else found


def check_same_data(fit: Any) -> None:
    """Raise if a fit has another χ² with its problem; of many the first and the last that did not fail are asked."""
    if not _trace.at_top_level() or not _trace.concrete(fit):
        return
    axes = np.ndim(fit.status)
    pairs = zip(fit.problem.terms, fit.problem.form.terms, strict=True)
    data = [np.shape(term.y)[axes:] for term, form in pairs if not form.is_prior]
    if (len(data) < len(fit.problem.terms)) != (fit.chi2_prior is not None):
        raise ValueError("the fit was made with a prior, and this problem has none, or the reverse")
    shapes = [np.shape(leaf)[axes:] for leaf in jax.tree.leaves(fit.residuals)]
    if shapes and shapes != data:
        raise ValueError(f"the fit was made of y of shape {_spoken(shapes)}, and this problem has {_spoken(data)}")
    places = np.argwhere(is_optimum(np.asarray(fit.status)))
    for place in [tuple(places[end]) for end in (0, -1)] if len(places) else []:
        one = jax.tree.map(lambda leaf, place=place: jnp.asarray(leaf[place] if place else leaf), fit)
        chi2, rounding = _chi2(one.problem.starting_at(one.params), one.chi2)
        if np.isfinite(one.chi2) and not abs(float(chi2) - float(one.chi2)) <= float(rounding):
            where = f"fit {', '.join(map(str, place))}" if place else "the fit"
            raise ValueError(
                f"{where} has χ² {float(one.chi2):.6g}, and {float(chi2):.6g} with this problem: it was made of another"
            )


def _spoken(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


@_jit.compiled()
def _chi2(problem: Problem, chi2: Float[Array, ""]) -> tuple[Array, Array]:
    """χ² of a problem's data at its start, and how far rounding may take another from it."""
    flat = flat_problem(problem)
    return flat.chi2(flat.residual(flat.start), priors=False), rounding_of_chi2(flat.size * flat.unit, chi2)


def rounding_of_chi2(size: Float[Array, ""], chi2: Float[Array, ""]) -> Float[Array, ""]:
    """How far two programs may differ in χ², with ‖y/sigma‖ for size."""
    eps = jnp.finfo(chi2.dtype).eps
    return 1e3 * eps * chi2 + 4 * eps * size * (jnp.sqrt(chi2) + eps * size)
