"""One fit as one compiled program: ``solve``."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg import _checks, _jit, _trace
from jaxreg import covariance as covariances
from jaxreg._blocks import memory_of
from jaxreg.least_squares import _quantile_regression as quantile_regression
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import Options
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._kinks import minimise, without_derivative
from jaxreg.least_squares._result import UNRESOLVED, finish, status_of
from jaxreg.least_squares._true_x import rows_are_apart
from jaxreg.losses._kinds import Kind
from jaxreg.problems import Problem
from jaxreg.problems._starts import shapes_of_start
from jaxreg.problems._sums import check_priors
from jaxreg.status import Status

_FEW = 2**26  # numbers, which any memory holds


def checked_options(problem: Problem, covariance: str, max_steps: int) -> Options:
    """What is asked of a fit beside its problem, checked against that."""
    max_steps = _checks.count("max_steps", max_steps, least=0)
    if all(form.is_prior for form in problem.form.terms):
        raise ValueError("a problem needs a term with data, got priors alone: problem(model, x, y, …) + prior(…)")
    check_priors(problem)
    _checks.one_of("covariance", covariance, covariances.KINDS)
    if covariance == "hessian" and problem.form.has(Kind.LINEAR_PROGRAM):
        raise ValueError("covariance must not be 'hessian' for an absolute or quantile loss, which has no curvature")
    if covariance in ("HC2", "HC3") and any(np.ndim(term.y) > 1 or np.iscomplexobj(term.y) for term in problem.terms):
        raise ValueError(f"covariance {covariance!r} is for one number a row: of several outputs 'HC0' or 'HC1' hold")
    check_rows(problem)
    num_params, num_points = num_free(problem), num_counted(problem)
    if num_params > num_points:
        raise ValueError(f"y must have at least as many points as there are parameters, {num_params}, got {num_points}")
    return Options(covariance, max_steps)


def check_rows(problem: Problem) -> None:
    """Refuse a problem whose rows were not kept, or are more than the derivatives of all at once have room for."""
    if not all(np.size(term.y) for term in problem.terms):
        raise ValueError("this fit was made of chunks, whose rows are not kept: fit.with_problem(problem) gives them")
    numbers = 2 * num_rows(problem) * (num_free(problem) + 1)  # the columns, and what a step makes of them
    if numbers < _FEW:
        return
    gigabytes, room = (
        bytes_ / 1e9 for bytes_ in (numbers * (8 if _trace.x64() else 4), memory_of(jax.local_devices()[0]))
    )
    if gigabytes > room:
        raise ValueError(
            f"y must have so few points that their derivatives fit into memory, {room:.3g} GB, got {num_rows(problem)} "
            f"points, which take {gigabytes:.3g} GB: curve_fit(…, chunk_size=2**18) reads them in chunks"
        )


def num_free(problem: Problem) -> int:
    """How many numbers are fitted."""
    if problem.form.free is not None:
        return sum(problem.form.free)
    start = shapes_of_start(problem.p0, problem.bounds, problem.terms, problem.form)
    return sum(leaf.size for leaf in jax.tree.leaves(start))


def num_rows(problem: Problem) -> int:
    """How many residuals there are, masked ones too."""
    return sum(int(np.prod(np.shape(term.y))) * (2 if np.iscomplexobj(term.y) else 1) for term in problem.terms)


def num_counted(problem: Problem) -> int:
    """How many residuals there are: of masks that are traced, all."""
    count = 0
    for term in problem.terms:
        known = term.mask is not None and _trace.concrete(term.mask)
        count += (int(np.count_nonzero(term.mask)) if known else term.y.size) * (2 if np.iscomplexobj(term.y) else 1)
    return count


def with_care(run: Callable[[Options], Any], options: Options) -> Any:
    """What ``run`` finds without care, which few fits need; with it where one does, and where nobody can ask."""
    if _trace.at_top_level():
        found = run(options._replace(careful=False))
        if UNRESOLVED not in np.asarray(found.status).ravel().tolist():
            return found
    return run(options)


def refuse_coupled(problem: Problem, status: Any) -> None:
    """Raise where a fit with errors in x was not begun because its model couples rows, as nobody can under a trace."""
    if all(term.sigma_x is None for term in problem.terms) or not _trace.at_top_level():
        return
    if int(status) == Status.INVALID_INPUT and not bool(_rows_are_apart(problem)):
        raise ValueError(
            "model must take each row of x for itself where sigma_x is given, got one in which moving other rows' x "
            "changes a row's prediction"
        )


@_jit.compiled()
def _rows_are_apart(problem: Problem) -> Array:
    exact = [term._replace(sigma_x=None) for term in problem.terms]
    flat = flat_problem(dataclasses.replace(problem, terms=tuple(exact)))
    parts = zip(flat.terms, problem.terms, problem.form.terms, strict=True)
    apart = [rows_are_apart(*part, flat.restore(flat.start)) for part in parts if part[1].sigma_x is not None]
    return jnp.stack(apart).all()


@_jit.compiled("options")
def solve(problem: Problem, options: Options) -> Fit:
    """One fit, pure and differentiable, without its problem."""
    flat = flat_problem(problem, careful=options.careful)
    if problem.form.has(Kind.LINEAR_PROGRAM):
        return quantile_regression.solve(flat, jnp.asarray(problem.terms[0].keywords.get("q", 0.5)), options)

    def iterate(_: Any, start: Array) -> tuple[Array, tuple[Array, ...]]:
        end = minimise(flat, options.max_steps)
        counts = status_of(flat, end), end.num_steps  # custom_root takes only floats
        return end.params, (end.side, *(count.astype(start.dtype) for count in counts))

    def newton(slope: Any, rhs: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(slope, out_axes=1)(jnp.eye(rhs.size, dtype=rhs.dtype)), rhs)

    # At the optimum this is zero; custom_root differentiates through that equation, not the iterations.
    params, (side, *counts) = lax.custom_root(flat.stationarity, flat.start, iterate, newton, has_aux=True)
    status, num_steps = (count.astype(jnp.int32) for count in counts)
    params = without_derivative(params, status == Status.KINK)
    return finish(flat, options, problem.absolute_sigma, params, side, status, num_steps)
