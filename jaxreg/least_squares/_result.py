"""From the parameters that the solver ended with to a result: covariance, errors, status, all differentiable."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxreg import covariance
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import FlatProblem, Options
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._look import Steered
from jaxreg.status import Part, Status, is_optimum

UNRESOLVED = -1  # of a fit that wants care and was not given it; no user sees it


def status_of(problem: Steered, state: State) -> Int[Array, ""]:
    """How the solver ended, before the covariance is known."""
    optimum = jnp.where(state.kink, Status.KINK, jnp.where(state.degenerate, Status.SINGULAR, Status.OK))
    status = jnp.where(state.converged, optimum, Status.MAX_STEPS)
    status = jnp.where(problem.valid & ~state.startable, Status.NONFINITE, status)
    if not problem.careful:
        status = jnp.where(state.blocked | state.pole, UNRESOLVED, status)
    return jnp.where(problem.valid, status, Status.INVALID_INPUT).astype(jnp.int32)


def finish(
    problem: FlatProblem,
    options: Options,
    absolute_sigma: bool,
    params: Float[Array, "p"],
    side: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
) -> Fit:
    """The result of a fit that ended with these free parameters and this ``status_of`` its state.

    ``side`` are other parameters at a kink, where derivatives are taken at them, and at a degenerate optimum, which
    determines nothing towards them.
    """
    # A fit that never began has the start itself, of which XLA's arithmetic would flush what is below the normal range.
    began = (status != Status.NONFINITE) & (status != Status.INVALID_INPUT)
    params = jnp.where(began, params, problem.start)
    at = jnp.where(status == Status.KINK, side, params) if problem.careful else params
    if problem.has_domain and problem.bounds is not None:
        params = at = onto_bounds(problem, params, problem.gradient(params))
    residual, jacobian = problem.linearise(at)
    # Of targets that are all zero the optimum is zero, and steps reach it where squares leave the range of floats.
    nothing = problem.size == 0
    residual = jnp.where(nothing & (jnp.vdot(residual, residual) == 0), 0, residual)
    jacobian = jnp.where(nothing & (jnp.sum(jacobian**2, axis=1) == 0)[:, None], 0, jacobian)
    noise = problem.noise(residual)
    slope = problem.slope(residual, noise)
    free = problem.free(params, jacobian @ slope)
    is_hessian = options.covariance == "hessian"
    bent = problem.curvature if is_hessian else problem.information
    estimate = covariance.estimate(
        options.covariance,
        jacobian,
        slope,
        None if problem.loss is None else bent(residual, noise),
        bending=_bending(problem, params, slope) if is_hessian else None,
        counted=problem.counted,
        free=free,
        absolute_sigma=absolute_sigma,
        unit=problem.unit,
        rows=problem.rows,
    )
    degenerate = status == Status.SINGULAR
    undetermined = jnp.where(degenerate | ~estimate.regular, estimate.undetermined, 0)
    if problem.careful:  # without care nothing leads away
        away = side - params
        away = away / jnp.max(jnp.abs(away), initial=jnp.finfo(away.dtype).tiny)
        away = away / jnp.maximum(jnp.linalg.norm(away), 1)
        leads = degenerate & estimate.regular & (away != 0).any()
        undetermined = jnp.where(leads, away, undetermined)
    if problem.has_domain:
        beyond = problem.leads_beyond(residual, jacobian, slope, noise) & free
        status, undetermined = at_edge(status, undetermined, beyond, estimate.regular)
    estimate = estimate._replace(undetermined=undetermined)
    return assemble(problem, params, status, num_steps, estimate, free, jacobian)


def at_edge(
    status: Int[Array, ""], undetermined: Float[Array, "p"], beyond: Bool[Array, "p"], regular: Bool[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, "p"]]:
    """The status and what is undetermined, where only the edge of a likelihood's domain holds some parameters."""
    status = jnp.where(is_optimum(status) & beyond.any(), jnp.int32(Status.SINGULAR), status)
    alone = beyond.astype(undetermined.dtype)
    alone = alone / jnp.sqrt(jnp.maximum(jnp.sum(alone), 1))
    return status, jnp.where(beyond.any() & regular, alone, undetermined)


def onto_bounds(problem: FlatProblem, params: Float[Array, "p"], gradient: Float[Array, "p"]) -> Float[Array, "p"]:
    """Parameters that are pushed against a bound so near that it changes the deviance by nothing: on it.

    Steps towards the edge of a likelihood's domain get there by a share of what is left each.
    """
    lower, upper = problem.bounds if problem.bounds is not None else (params, params)
    gradient = gradient * problem.unit * problem.unit
    wall = jnp.where(gradient > 0, lower, upper)
    near = jnp.abs((wall - params) * gradient) <= jnp.finfo(params.dtype).eps
    return jnp.where(near & (gradient != 0), wall, params)


def _bending(problem: FlatProblem, params: Float[Array, "p"], slope: Float[Array, "n"]) -> Float[Array, "p p"]:
    return jax.jacfwd(lambda point: jax.vjp(problem.residual, point)[1](slope)[0])(params)


def assemble(
    problem: FlatProblem,
    params: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
    estimate: covariance.Covariance,
    free: Bool[Array, "p"],
    jacobian: Float[Array, "p n"] | None = None,
) -> Fit:
    """A result from its parts, those of the free parameters spread over all."""
    residual = problem.residual(params)
    fit, lost = of_params(problem, params, status, num_steps, estimate, free, problem.counted.sum())
    return fit.replace(
        residuals=of_terms(problem, residuals_of(problem, params)),
        adjusted_x=adjusted_of(problem, fit.params),
        chi2=problem.chi2(residual, priors=False),
        scale=of_terms(problem, scales_of(problem, residual)) if problem.scaled else None,
        culprit=culprit_of(problem, fit.status, params, residual, jacobian, lost),
        chi2_prior=problem.chi2(residual, priors=True) if any(term.is_prior for term in problem.terms) else None,
    )


def of_params(
    problem: FlatProblem,
    params: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
    estimate: covariance.Covariance,
    free: Bool[Array, "p"],
    num_rows: Int[Array, ""],
) -> tuple[Fit, Bool[Array, "p"]]:
    """What a result says of parameters, and which of them have left the range; no row is looked at."""
    lost = ~jnp.isfinite(params) | jnp.isinf(estimate.stderr)
    known = estimate.regular if problem.scaled else estimate.regular & estimate.definite
    status = jnp.where(is_optimum(status) & ~known, jnp.int32(Status.SINGULAR), status)
    status = jnp.where(is_optimum(status) & lost.any(), jnp.int32(Status.NONFINITE), status)
    known = is_optimum(status)
    everything = problem.restore(params)
    _, unravel = ravel_pytree(everything)
    held = problem.spread(params, jnp.diag((~free).astype(params.dtype))).any(axis=1)  # or following from one
    matrix = problem.spread(params, problem.spread(params, jnp.where(free[:, None] & free[None], estimate.matrix, 0)).T)
    if problem.tied:
        lengths = jnp.sqrt(jnp.diagonal(matrix))
    else:  # right also where squares leave the range
        lengths = problem.spread(params, jnp.where(free, estimate.stderr, 0))
    matrix = jnp.where(known & ~held[:, None] & ~held[None], matrix, jnp.nan)
    stderr = jnp.where(known & ~held, lengths, jnp.nan)

    singular = status == Status.SINGULAR
    fit = Fit(
        params=everything,
        stderr=unravel(stderr),
        covariance=matrix,
        residuals=None,
        chi2=None,
        dof=(num_rows - free.sum()).astype(jnp.int32),
        status=status,
        num_steps=jnp.maximum(num_steps, 0),
        at_bound=None if problem.bounds is None else _booleans(everything, held),
        undetermined=problem.spread(params, jnp.where(singular, estimate.undetermined, 0)),
        scale=None,
        culprit=None,
    )
    return fit, lost


def _booleans(like: Any, values: Bool[Array, "all"]) -> Any:
    """Flat booleans as a pytree."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([0, *(leaf.size for leaf in leaves)])
    parts = [values[low:high].reshape(leaf.shape) for low, high, leaf in zip(ends[:-1], ends[1:], leaves, strict=True)]
    return jax.tree.unflatten(structure, parts)


def residuals_of(problem: FlatProblem, params: Float[Array, "p"]) -> list[Array]:
    """Of each term, in its shape."""
    everything = problem.restore(params)
    found = []
    for term in problem.terms:
        raw = term.raw(everything)
        there = term.counted[: raw.size].reshape(raw.shape)  # both parts of a complex number, or neither
        found.append(jnp.where(there, raw, jnp.nan))
    return found


def adjusted_of(problem: FlatProblem, everything: Any) -> Any:
    """The true x of each term's points; None where no x has errors."""
    found = [None if term.true_x is None else term.true_x.adjusted(everything) for term in problem.terms]
    return None if all(part is None for part in found) else of_terms(problem, found)


def scales_of(problem: FlatProblem, residual: Float[Array, "n"]) -> list[Array]:
    """The unit of each term's loss, in sigmas."""
    noises = (term.noise(residual[term.rows], problem.unit, problem.size) for term in problem.terms)
    return [noise * problem.unit for noise in noises]


def of_terms(problem: FlatProblem, values: list[Any]) -> Any:
    """One value for each term with data: alone where there is only one."""
    kept = tuple(value for value, term in zip(values, problem.terms, strict=True) if not term.is_prior)
    return kept[0] if len(kept) == 1 else kept


def culprit_of(
    problem: FlatProblem,
    status: Int[Array, ""],
    params: Float[Array, "p"],
    residual: Float[Array, "n"],
    jacobian: Float[Array, "p n"] | None,
    lost: Bool[Array, "p"],
) -> Int[Array, "3"]:
    """The first of what may be wrong: the data, the start, and then what follows from them."""
    num_params, num_rows = params.size, residual.size
    none = jnp.int32(-1)
    nothing = (jnp.int32(Part.NOTHING), none, none)
    end = _chosen(lost.any(), (jnp.int32(Part.ERROR), none, _first(lost)), nothing)
    overflow = ~jnp.isfinite(jnp.vdot(residual, residual))
    end = _chosen(overflow, (jnp.int32(Part.SQUARES), none, none), end)
    if jacobian is not None:
        pole = _first(~jnp.isfinite(jacobian).T)
        derivative = jnp.int32(Part.DERIVATIVE), pole // num_params, pole % num_params
        end = _chosen(pole < jacobian.size, derivative, end)
    if problem.loss is not None:
        outside = _first(~jnp.isfinite(problem.loss(residual / problem.noise(residual))) & problem.counted)
        end = _chosen(outside < num_rows, (jnp.int32(Part.LOSS), outside, none), end)
    row = _first(~jnp.isfinite(residual))
    end = _chosen(row < num_rows, (jnp.int32(Part.PREDICTION), row, none), end)
    start = _first(~jnp.isfinite(params))
    end = _chosen(start < num_params, (jnp.int32(Part.PARAMETER), none, start), end)
    given = _first(problem.unusable)
    kinds = jnp.array([Part.X, Part.Y, Part.SIGMA, Part.SIGMA_X], jnp.int32)
    end = _chosen(given < problem.unusable.size, (kinds[given // num_rows], given % num_rows, none), end)
    failed = (status == Status.NONFINITE) | (status == Status.INVALID_INPUT)
    part, row, parameter = _chosen(failed, end, nothing)
    return jnp.stack([part, row, jnp.where(parameter < 0, none, jnp.asarray(problem.places)[parameter])])


def _first(found: Bool[Array, "..."]) -> Int[Array, ""]:
    """The place of the first in row-major order; the number of all where there is none."""
    return jnp.min(jnp.where(found, jnp.arange(found.size, dtype=jnp.int32).reshape(found.shape), found.size))


def _chosen(condition: Bool[Array, ""], one: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(jnp.where(condition, *pair) for pair in zip(one, other, strict=True))
