"""Bates and Watts's measures of nonlinearity: whether an error bar from the covariance is to be believed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxreg._quantiles import f_quantile
from jaxreg.least_squares import CurveFit
from jaxreg.models import Apply, Model, apply_of


class Curvature(NamedTuple):
    """How far a model bends within its confidence region, relative to the region's size.

    Attributes:
        parameter_effects: scalar; well above 0.3, intervals and covariance are not to be trusted in these parameters.
        intrinsic: scalar; well above 0.3, they are not in any.
    """

    parameter_effects: Array
    intrinsic: Array


def curvature(
    model: Model | Apply,
    fit: CurveFit,
    x: ArrayLike,
    *,
    sigma: ArrayLike = 1.0,
    absolute_sigma: bool = False,
    mask: ArrayLike | None = None,
    level: ArrayLike = 0.95,
) -> Curvature:
    """Root-mean-square relative curvatures times √F: the warning number of a fit's error bars.

    Second derivatives of the model are split into the part along its tangent plane, which another choice of parameters
    could remove, and the part normal to it. A linear model has zero for both. At 0.3 the surface leaves its tangent
    plane by 15 % of the region's radius at the region's edge.

    Args:
        model: the fitted model.
        fit: its ``curve_fit``.
        x: (n,) or (n, d), as fitted.
        sigma: scalar or (n,), as fitted.
        absolute_sigma: as fitted: whether sigma itself, or sigma·√(chi2/dof), is the standard deviation of the noise.
        mask: (n,), points that are there.
        level: of the confidence region.

    Returns:
        Curvature, NaN if the fit failed; for all parameters, so fixed ones must be closed over by the model instead.

    Source: D. M. Bates and D. G. Watts, Journal of the Royal Statistical Society B 42 (1980) 1, section 2.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> print(curvature(jaxreg.models.ohm(), fit, x).intrinsic)
    0.0
    """
    flat, unravel = ravel_pytree(fit.params)
    x = jnp.asarray(x)
    num_params = flat.size

    def weighted(parameters: Array) -> Array:
        values = apply_of(model)(unravel(parameters), x) / jnp.asarray(sigma, parameters.dtype)
        return values if mask is None else jnp.where(jnp.asarray(mask), values, 0)

    scale = _unit(jnp.linalg.norm(jax.jacfwd(weighted)(flat), axis=0))

    def scaled(parameters: Array) -> Array:
        return weighted(parameters / scale)

    velocity = jax.jacfwd(scaled)(flat * scale)
    acceleration = jax.jacfwd(jax.jacfwd(scaled))(flat * scale)
    q, r = jnp.linalg.qr(velocity)
    inverse = solve_triangular(r, jnp.eye(num_params, dtype=r.dtype))
    # In coordinates in which the tangent plane has the metric of the data.
    acceleration = jnp.einsum("nij,ia,jb->nab", acceleration, inverse, inverse)
    along = jnp.einsum("na,nij->aij", q, acceleration)
    normal = acceleration - jnp.einsum("na,aij->nij", q, along)

    variance = 1 if absolute_sigma else fit.chi2 / fit.dof
    radius = jnp.sqrt(variance * num_params * f_quantile(jnp.asarray(level, flat.dtype), num_params, fit.dof))
    regular = jnp.isfinite(fit.covariance).all()
    return Curvature(*(jnp.where(regular, radius * _root_mean_square(part), jnp.nan) for part in (along, normal)))


def _root_mean_square(acceleration: Array) -> Array:
    """Of the curvature over all directions: √(Σ (2 Σᵢⱼ aᵢⱼ² + (Σᵢ aᵢᵢ)²) / (p(p + 2)))."""
    num_params = acceleration.shape[-1]
    trace = jnp.trace(acceleration, axis1=1, axis2=2)
    return jnp.sqrt((2 * jnp.sum(acceleration**2) + jnp.sum(trace**2)) / (num_params * (num_params + 2)))


def _unit(norms: Array) -> Array:
    return jnp.where(norms > 0, norms, 1)
