"""From the parameters that the solver ended with to a result: covariance, errors, status, all differentiable."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg import covariance
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._problem import Options, Problem
from jaxreg.least_squares._table import table_of
from jaxreg.models import Params
from jaxreg.status import Part, Status, is_optimum

if TYPE_CHECKING:
    import pandas


class CurveFit(NamedTuple):
    """The result of ``curve_fit``.

    Attributes:
        params: the estimate, shaped like p0, in the widest dtype of p0, x and y.
        stderr: standard errors, shaped like p0: square roots of the covariance's diagonal, right also where that leaves
            the range of the dtype.
        covariance: (p, p) in ravel_pytree order (a dict is sorted by its keys). 0 for fixed parameters, which are
            given. NaN where there is no estimate: for parameters that ended at a bound, for a fit that failed, and
            where the scale of the errors comes from the residuals and dof is 0; and in entries that leave the range of
            the dtype.
        residuals: (n,), y - model, unweighted, in units of y; NaN where masked.
        chi2: scalar, Σ (residual/sigma)²; 0 or infinite where that leaves the range of the dtype.
        dof: degrees of freedom, the points that are there minus the parameters that are neither fixed nor at a bound.
        status: int32 scalar, a ``Status``: OK, KINK, MAX_STEPS, NONFINITE (also where a parameter or its error leaves
            the range of the dtype), SINGULAR or INVALID_INPUT.
        num_steps: int32 scalar, the steps tried.
        at_bound: booleans shaped like p0: ended at a bound, so that the rest is estimated as if it were fixed there;
            None without bounds.
        undetermined: (p,) in ravel_pytree order: if SINGULAR, the combination of parameters, of length 1, that can be
            added without a change of the model at the data; otherwise 0.
        scale: scalar, the unit of the loss's threshold in sigmas, where it is estimated; otherwise None.
        culprit: (3,) int32, what made a fit NONFINITE or its input invalid: a ``status.Part``, the first such row, and
            the parameter in ravel_pytree order; -1 where there is none.
    """

    params: Params
    stderr: Params
    covariance: Array
    residuals: Array
    chi2: Array
    dof: Array
    status: Array
    num_steps: Array
    at_bound: Params | None
    undetermined: Array
    scale: Array | None
    culprit: Array

    def to_dataframe(self) -> "pandas.DataFrame":
        """The parameters as a pandas DataFrame.

        Returns:
            For one fit a row for each parameter: value, stderr, status. For many a row for each fit: every parameter
            and its ``…_stderr``, chi2, dof, num_steps, status.

        Raises:
            ImportError: without pandas (``pip install 'jaxreg[tables]'``).
        """
        return table_of(self)


UNRESOLVED = -1  # of a fit that wants care and was not given it; no user sees it


def status_of(problem: Problem, state: State) -> Int[Array, ""]:
    """How the solver ended, before the covariance is known."""
    optimum = jnp.where(state.kink, Status.KINK, jnp.where(state.degenerate, Status.SINGULAR, Status.OK))
    status = jnp.where(state.converged, optimum, Status.MAX_STEPS)
    status = jnp.where(problem.valid & ~state.startable, Status.NONFINITE, status)
    if not problem.careful:
        status = jnp.where(state.blocked | state.pole, UNRESOLVED, status)
    return jnp.where(problem.valid, status, Status.INVALID_INPUT).astype(jnp.int32)


def finish(
    problem: Problem,
    options: Options,
    params: Float[Array, "p"],
    side: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
) -> CurveFit:
    """The result of a fit that ended with these free parameters and this ``status_of`` its state.

    ``side`` are other parameters at a kink, where derivatives are taken at them, and at a degenerate optimum, which
    determines nothing towards them.
    """
    # A fit that never began has the start itself, of which XLA's arithmetic would flush what is below the normal range.
    began = (status != Status.NONFINITE) & (status != Status.INVALID_INPUT)
    params = jnp.where(began, params, problem.start)
    at = jnp.where(status == Status.KINK, side, params) if problem.careful else params
    residual, jacobian = problem.linearise(at)
    # Of targets that are all zero the optimum is zero, and steps reach it where squares leave the range of floats.
    nothing = problem.size == 0
    residual = jnp.where(nothing & (jnp.vdot(residual, residual) == 0), 0, residual)
    jacobian = jnp.where(nothing & (jnp.sum(jacobian**2, axis=1) == 0)[:, None], 0, jacobian)
    noise = problem.noise(residual)
    slope = problem.slope(residual, noise)
    free = problem.free(params, jacobian @ slope)
    estimate = covariance.estimate(
        options.covariance,
        jacobian,
        slope,
        None if options.loss is None else problem.curvature(residual, noise),
        bending=_bending(problem, params, slope) if options.covariance == "hessian" else None,
        counted=problem.counted,
        free=free,
        absolute_sigma=options.absolute_sigma,
        unit=problem.unit,
    )
    degenerate = status == Status.SINGULAR
    undetermined = jnp.where(degenerate | ~estimate.regular, estimate.undetermined, 0)
    if problem.careful:  # without care nothing leads away
        away = side - params
        away = away / jnp.max(jnp.abs(away), initial=jnp.finfo(away.dtype).tiny)
        away = away / jnp.maximum(jnp.linalg.norm(away), 1)
        leads = degenerate & estimate.regular & (away != 0).any()
        undetermined = jnp.where(leads, away, undetermined)
    estimate = estimate._replace(undetermined=undetermined)
    return assemble(problem, params, status, num_steps, estimate, free, noise, jacobian)


def _bending(problem: Problem, params: Float[Array, "p"], slope: Float[Array, "n"]) -> Float[Array, "p p"]:
    return jax.jacfwd(lambda point: jax.vjp(problem.residual, point)[1](slope)[0])(params)


def assemble(
    problem: Problem,
    params: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
    estimate: covariance.Covariance,
    free: Bool[Array, "p"],
    noise: Float[Array, ""],
    jacobian: Float[Array, "p n"] | None = None,
) -> CurveFit:
    """A result from its parts, those of the free parameters spread over all."""
    residual = problem.residual(params)
    lost = ~jnp.isfinite(params) | jnp.isinf(estimate.stderr)
    known = estimate.regular if problem.scale is not None else estimate.regular & estimate.definite
    status = jnp.where(is_optimum(status) & ~known, jnp.int32(Status.SINGULAR), status)
    status = jnp.where(is_optimum(status) & lost.any(), jnp.int32(Status.NONFINITE), status)
    known = is_optimum(status)
    matrix = problem.spread(problem.spread(jnp.where(free[:, None] & free[None], estimate.matrix, jnp.nan)).T)
    matrix = jnp.where(known, matrix, jnp.nan)
    stderr = jnp.where(known, problem.spread(jnp.where(free, estimate.stderr, jnp.nan)), jnp.nan)
    num_rows = problem.counted.sum()

    held = problem.spread((~free).astype(params.dtype))
    singular = status == Status.SINGULAR
    return CurveFit(
        params=problem.restore(params),
        stderr=problem.unravel(stderr),
        covariance=matrix,
        residuals=jnp.where(problem.counted, problem.raw(params), jnp.nan),
        chi2=problem.chi2(residual),
        dof=(num_rows - free.sum()).astype(jnp.int32),
        status=status,
        num_steps=jnp.maximum(num_steps, 0),
        at_bound=None if problem.bounds is None else jax.tree.map(lambda leaf: leaf > 0, problem.unravel(held)),
        undetermined=problem.spread(jnp.where(singular, estimate.undetermined, 0)),
        scale=None if problem.scale is None else noise * problem.unit,
        culprit=_culprit(problem, status, params, residual, jacobian, lost),
    )


def _culprit(
    problem: Problem,
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
    row = _first(~jnp.isfinite(residual))
    end = _chosen(row < num_rows, (jnp.int32(Part.PREDICTION), row, none), end)
    start = _first(~jnp.isfinite(params))
    end = _chosen(start < num_params, (jnp.int32(Part.PARAMETER), none, start), end)
    given = _first(problem.unusable)
    end = _chosen(given < problem.unusable.size, (Part.X + given // num_rows, given % num_rows, none), end)
    failed = (status == Status.NONFINITE) | (status == Status.INVALID_INPUT)
    part, row, parameter = _chosen(failed, end, nothing)
    return jnp.stack([part, row, jnp.where(parameter < 0, none, jnp.asarray(problem.places)[parameter])])


def _first(found: Bool[Array, "..."]) -> Int[Array, ""]:
    """The place of the first in row-major order; the number of all where there is none."""
    return jnp.min(jnp.where(found, jnp.arange(found.size, dtype=jnp.int32).reshape(found.shape), found.size))


def _chosen(condition: Bool[Array, ""], one: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(jnp.where(condition, *pair) for pair in zip(one, other, strict=True))
