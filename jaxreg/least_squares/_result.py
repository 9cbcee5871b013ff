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
from jaxreg.status import Status

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
        chi2: scalar, Σ (residual/sigma)².
        dof: degrees of freedom, the points that are there minus the parameters that are neither fixed nor at a bound.
        status: int32 scalar, a ``Status``: OK, MAX_STEPS, NONFINITE (also where χ² leaves the range of the dtype: give
            sigma, or y in larger or smaller units), SINGULAR or INVALID_INPUT.
        num_steps: int32 scalar, the steps tried.
        at_bound: booleans shaped like p0: ended at a bound, so that the rest is estimated as if it were fixed there;
            None without bounds.
        undetermined: (p,) in ravel_pytree order: if SINGULAR, the combination of parameters, of length 1, that can be
            added without a change of the model at the data; otherwise 0.
        scale: scalar, the unit of the loss's threshold in sigmas, where it is estimated; otherwise None.
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

    def to_dataframe(self) -> "pandas.DataFrame":
        """The parameters as a pandas DataFrame.

        Returns:
            For one fit a row for each parameter: value, stderr, status. For many a row for each fit: every parameter
            and its ``…_stderr``, chi2, dof, num_steps, status.

        Raises:
            ImportError: without pandas (``pip install 'jaxreg[tables]'``).
        """
        return table_of(self)


def status_of(problem: Problem, state: State) -> Int[Array, ""]:
    """How the solver ended, before the covariance is known."""
    status = jnp.where(state.converged, Status.OK, Status.MAX_STEPS)
    status = jnp.where(problem.valid & ~state.startable, Status.NONFINITE, status)
    return jnp.where(problem.valid, status, Status.INVALID_INPUT).astype(jnp.int32)


def finish(
    problem: Problem, options: Options, params: Float[Array, "p"], status: Int[Array, ""], num_steps: Int[Array, ""]
) -> CurveFit:
    """The result of a fit that ended with these free parameters and this ``status_of`` its state."""
    residual, jacobian = problem.linearise(params)
    noise = problem.noise(residual)
    slope = problem.slope(residual, noise)
    free = problem.free(params, jacobian @ slope)
    estimate = covariance.estimate(
        options.covariance,
        jacobian,
        slope,
        None if options.loss is None else problem.curvature(residual, noise),
        hessian=jax.jacfwd(problem.gradient)(params) if options.covariance == "hessian" else None,
        counted=problem.counted,
        free=free,
        absolute_sigma=options.absolute_sigma,
    )
    return assemble(problem, params, status, num_steps, estimate, free, noise)


def assemble(
    problem: Problem,
    params: Float[Array, "p"],
    status: Int[Array, ""],
    num_steps: Int[Array, ""],
    estimate: covariance.Covariance,
    free: Bool[Array, "p"],
    noise: Float[Array, ""],
) -> CurveFit:
    """A result from its parts, those of the free parameters spread over all."""
    residual = problem.residual(params)
    chi2 = jnp.vdot(residual, residual)
    # Squares that leave the range of floats: then no test meant anything.
    lost = ~jnp.isfinite(chi2) | ((chi2 < jnp.finfo(chi2.dtype).tiny) & (residual != 0).any())
    lost |= jnp.isinf(estimate.stderr).any()
    status = jnp.where((status == Status.OK) & ~estimate.regular, jnp.int32(Status.SINGULAR), status)
    status = jnp.where((status == Status.OK) & lost, jnp.int32(Status.NONFINITE), status)
    matrix = problem.spread(problem.spread(jnp.where(free[:, None] & free[None], estimate.matrix, jnp.nan)).T)
    matrix = jnp.where(status == Status.OK, matrix, jnp.nan)
    stderr = jnp.where(status == Status.OK, problem.spread(jnp.where(free, estimate.stderr, jnp.nan)), jnp.nan)
    num_rows = problem.counted.sum()

    held = problem.spread((~free).astype(params.dtype))
    singular = status == Status.SINGULAR
    return CurveFit(
        params=problem.restore(params),
        stderr=problem.unravel(stderr),
        covariance=matrix,
        residuals=jnp.where(problem.counted, problem.raw(params), jnp.nan),
        chi2=chi2,
        dof=(num_rows - free.sum()).astype(jnp.int32),
        status=status,
        num_steps=jnp.maximum(num_steps, 0),
        at_bound=None if problem.bounds is None else jax.tree.map(lambda leaf: leaf > 0, problem.unravel(held)),
        undetermined=problem.spread(jnp.where(singular, estimate.undetermined, 0)),
        scale=None if problem.scale is None else noise,
    )
