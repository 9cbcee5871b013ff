"""Bates and Watts's measures of nonlinearity: whether an error bar from the covariance is to be believed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg._shapes import Float
from jaxreg.least_squares import CurveFit
from jaxreg.least_squares._arguments import prepare
from jaxreg.least_squares._problem import Options, Task, problem_of
from jaxreg.models import Apply, Model, Params
from jaxreg.status import Status
from jaxreg.uncertainty._linear import variance_of
from jaxreg.uncertainty._quantiles import chi2_quantile, f_quantile


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
    fixed: Params | None = None,
    level: ArrayLike = 0.95,
) -> Curvature:
    """Root-mean-square relative curvatures times √F (√(χ²_p/p) if sigma is absolute): the warning number of error bars.

    Second derivatives of the model are split into the part along its tangent plane, which another choice of parameters
    could remove, and the part normal to it. A linear model has zero for both. At 0.3 the surface leaves its tangent
    plane by 15 % of the region's radius at the region's edge.

    Args:
        model: the fitted model.
        fit: its ``curve_fit``.
        x: (n,) or (n, d), as fitted.
        sigma: scalar, (n,) or (n, n), as fitted.
        absolute_sigma: as fitted: whether sigma itself, or sigma·√(chi2/dof), is the standard deviation of the noise.
        mask: as fitted.
        fixed: as fitted.
        level: of the confidence region.

    Returns:
        Curvature of the parameters that were not fixed; NaN if the fit failed or one of them is at a bound.

    Source: D. M. Bates and D. G. Watts, Journal of the Royal Statistical Society B 42 (1980) 1, section 2.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> print(curvature(jaxreg.models.ohm(), fit, x).intrinsic)
    0.0
    """
    zeros = np.zeros(np.shape(x)[0], fit.chi2.dtype)
    task, options = prepare(
        model, x, zeros, fit.params, sigma=sigma, absolute_sigma=absolute_sigma, mask=mask, bounds=None, fixed=fixed,
        max_steps=0,
    )  # fmt: skip
    return _curvature(task, fit, jnp.asarray(_checks.level(level), fit.chi2.dtype), options=options)


@_trace.compiled("options")
def _curvature(task: Task, fit: CurveFit, level: Array, *, options: Options) -> Curvature:
    problem = problem_of(task, options)
    center, num_params = problem.start, problem.start.size
    norms = jnp.linalg.norm(problem.linearise(center)[1], axis=1)
    scale = jnp.where(norms > 0, norms, 1)

    def scaled(free: Float[Array, "p"]) -> Float[Array, "n"]:
        return problem.residual(free / scale)  # of targets that are zero: the model in sigmas

    velocity = jax.jacfwd(scaled)(center * scale)
    acceleration = jax.jacfwd(jax.jacfwd(scaled))(center * scale)
    q, r = jnp.linalg.qr(velocity)
    inverse = solve_triangular(r, jnp.eye(num_params, dtype=r.dtype))
    # In coordinates in which the tangent plane has the metric of the data.
    acceleration = jnp.einsum("nij,ia,jb->nab", acceleration, inverse, inverse)
    along = jnp.einsum("na,nij->aij", q, acceleration)
    normal = acceleration - jnp.einsum("na,aij->nij", q, along)

    variance = variance_of(fit, absolute_sigma=options.absolute_sigma)
    known = options.absolute_sigma
    square = chi2_quantile(level, num_params) if known else num_params * f_quantile(level, num_params, fit.dof)
    radius = jnp.sqrt(variance * square)
    regular = jnp.isfinite(fit.covariance).all() & (fit.status == Status.OK)
    return Curvature(*(jnp.where(regular, radius * _root_mean_square(part), jnp.nan) for part in (along, normal)))


def _root_mean_square(acceleration: Float[Array, "k p p"]) -> Float[Array, ""]:
    """Of the curvature over all directions: √(Σ (2 Σᵢⱼ aᵢⱼ² + (Σᵢ aᵢᵢ)²) / (p(p + 2)))."""
    num_params = acceleration.shape[-1]
    trace = jnp.trace(acceleration, axis1=1, axis2=2)
    return jnp.sqrt((2 * jnp.sum(acceleration**2) + jnp.sum(trace**2)) / (num_params * (num_params + 2)))
