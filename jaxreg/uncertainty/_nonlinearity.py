"""Bates and Watts's measures of nonlinearity: whether an error bar from the covariance is to be believed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _jit
from jaxreg._linear_algebra import unit_columns
from jaxreg._shapes import Float
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.losses._kinds import Kind
from jaxreg.problems import Problem
from jaxreg.status import Status
from jaxreg.uncertainty._followed import arrays_of, follows, found, variance_of
from jaxreg.uncertainty._quantiles import chi2_quantile, f_quantile


class Nonlinearity(NamedTuple):
    """How far a model bends within its confidence region, relative to the region's size.

    Attributes:
        parameter_effects: scalar; well above 0.3, intervals and covariance are not to be trusted in these parameters.
        intrinsic: scalar; well above 0.3, they are not in any.
    """

    parameter_effects: Array
    intrinsic: Array


@follows
def nonlinearity(fit: Fit | GlobalFit, *, level: ArrayLike = 0.95) -> Nonlinearity:
    """Root-mean-square relative curvatures times √F (√(χ²_p/p) if sigma is absolute): the warning number of error bars.

    Second derivatives of the model are split into the part along its tangent plane, which another choice of parameters
    could remove, and the part normal to it. A linear model has zero for both. At 0.3 the surface leaves its tangent
    plane by 15 % of the region's radius at the region's edge.

    Args:
        fit: one fit.
        level: of the confidence region.

    Returns:
        Nonlinearity of the parameters that were not fixed; NaN if the fit failed or one of them is at a bound.

    Source: D. M. Bates and D. G. Watts, Journal of the Royal Statistical Society B 42 (1980) 1, section 2.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> print(nonlinearity(fit).intrinsic)
    0.0
    """
    if isinstance(fit, GlobalFit):
        raise ValueError("nonlinearity is not for a global fit: ask profile_intervals(fit).discrepancy")
    if any(form.kind is not Kind.SQUARED for form in found(fit).form.terms):
        raise ValueError("nonlinearity is of the squared loss: of others ask profile_intervals(fit).discrepancy")
    problem, level = found(fit), jnp.asarray(_checks.level(level), fit.chi2.dtype)
    return _nonlinearity(problem, arrays_of(fit), variance_of(fit), level)


@_jit.compiled()
def _nonlinearity(problem: Problem, fit: Fit, variance: Float[Array, ""], level: Float[Array, ""]) -> Nonlinearity:
    flat = flat_problem(problem)
    center, num_params = flat.start, flat.start.size
    jacobian = flat.linearise(center)[1]
    columns = unit_columns(jacobian)
    basis = columns.inverse.T @ (jacobian / columns.scale[:, None])
    # In coordinates in which the tangent plane has the metric of the data.
    directions = columns.inverse / columns.scale[:, None]

    def bend(one: Array, other: Array) -> Array:
        return jax.jvp(lambda point: jax.jvp(flat.residual, (point,), (one,))[1], (center,), (other,))[1]

    acceleration = jax.vmap(jax.vmap(bend, (None, 1), 1), (1, None), 1)(directions, directions)
    along = jnp.einsum("an,nij->aij", basis, acceleration)
    normal = acceleration - jnp.einsum("an,aij->nij", basis, along)

    known = problem.absolute_sigma
    square = chi2_quantile(level, num_params) if known else num_params * f_quantile(level, num_params, fit.dof)
    radius = jnp.sqrt(variance * square) / flat.unit  # in units of the residuals
    regular = jnp.isfinite(fit.covariance).all() & (fit.status == Status.OK)
    return Nonlinearity(*(jnp.where(regular, radius * _root_mean_square(part), jnp.nan) for part in (along, normal)))


def _root_mean_square(acceleration: Float[Array, "k p p"]) -> Float[Array, ""]:
    """Of the curvature over all directions: √(Σ (2 Σᵢⱼ aᵢⱼ² + (Σᵢ aᵢᵢ)²) / (p(p + 2)))."""
    num_params = acceleration.shape[-1]
    trace = jnp.trace(acceleration, axis1=1, axis2=2)
    return jnp.sqrt((2 * jnp.sum(acceleration**2) + jnp.sum(trace**2)) / (num_params * (num_params + 2)))
