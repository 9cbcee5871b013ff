"""Intervals and bands from a fit's covariance, by first derivatives."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg._shapes import Float
from jaxreg.least_squares import CurveFit
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.results import Sweep
from jaxreg.uncertainty._quantiles import t_quantile

DISTRIBUTIONS = ("t", "normal")
Fits = CurveFit | Sweep  # a sweep of fits is what ``store.load`` gives


class Intervals(NamedTuple):
    """An interval for each parameter.

    Attributes:
        lower: shaped like params.
        upper: shaped like params.
    """

    lower: Params
    upper: Params


@_trace.undisturbed
def intervals(fit: Fits, *, level: ArrayLike = 0.95, distribution: str = "t") -> Intervals:
    """Confidence intervals of the parameters: estimate ± quantile · standard error.

    Args:
        fit: one ``curve_fit``, or many on leading axes, in memory or in a store, also as ``store.load`` gives them.
        level: the probability that the interval is to hold the true value with.
        distribution: "t" with the fit's degrees of freedom, where the scale of the errors came from the residuals;
            "normal", where sigma was absolute.

    Returns:
        Intervals, NaN where the standard error is.

    Source: D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988), section 2.3.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, jnp.array([0.0, 1.1, 1.9, 3.1, 3.9]))
    >>> low, high = intervals(fit)
    >>> print(f"{low['resistance']:.3f} to {high['resistance']:.3f}")
    0.943 to 1.043
    """
    fits = fit.values if isinstance(fit, Sweep) else fit
    params, stderr, dof = jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), (fits.params, fits.stderr, fits.dof)
    )
    factor = quantile(dof, level, distribution)

    def half_width(error: Any) -> Array:  # of one fit, or NumPy's of many
        return factor.reshape(factor.shape + (1,) * (error.ndim - factor.ndim)) * error

    lower = jax.tree.map(lambda value, error: value - half_width(error), params, stderr)
    upper = jax.tree.map(lambda value, error: value + half_width(error), params, stderr)
    return Intervals(lower, upper)


class Band(NamedTuple):
    """A curve and the band around it.

    Attributes:
        prediction: (k,), the fitted curve.
        stderr: (k,), its standard error, or that of a new observation.
        lower: (k,).
        upper: (k,).
    """

    prediction: Array
    stderr: Array
    lower: Array
    upper: Array


def band(
    model: Model | Apply,
    fit: CurveFit,
    x: ArrayLike,
    *,
    kind: str = "confidence",
    sigma: ArrayLike = 1.0,
    absolute_sigma: bool = False,
    level: ArrayLike = 0.95,
    distribution: str = "t",
) -> Band:
    """The band around a fitted curve at x, by the delta method: se² = gᵀ C g with g = ∂model/∂params exactly.

    Parameters that are fixed, or that ended at a bound, count as known.

    Args:
        model: the fitted model.
        fit: its ``curve_fit``.
        x: (k,) or (k, d), where the band is wanted.
        kind: "confidence", for the curve itself; "prediction", for a new observation: se² + the variance of one.
        sigma: standard deviation of a new observation, a scalar or (k,), as it was given to ``curve_fit``; for
            "prediction" only.
        absolute_sigma: as it was given to ``curve_fit``: if False that variance is sigma²·chi2/dof, or, of a robust fit
            with an estimated scale, (sigma·scale)²·n/(n - p): then the band is for points that are no outliers.
        level: of each point alone, not of all together.
        distribution: as for ``intervals``.

    Returns:
        Band.

    Source: G. A. F. Seber and C. J. Wild, Nonlinear Regression (1989), section 5.1.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, jnp.array([0.0, 1.1, 1.9, 3.1, 3.9]))
    >>> print(band(jaxreg.models.ohm(), fit, x).lower)
    [0. 0.943 1.887 2.830 3.774]
    """
    _checks.one_of("kind", kind, ("confidence", "prediction"))
    x, factor = jnp.asarray(_checks.array("x", x)), quantile(fit.dof, level, distribution)
    scale = variance_of(fit, absolute_sigma=_checks.flag("absolute_sigma", absolute_sigma))
    added = (
        jnp.asarray(_checks.array("sigma", sigma), fit.chi2.dtype) ** 2 * scale
        if kind == "prediction"
        else jnp.zeros_like(scale)
    )
    return _band(fit, x, added, factor, model=model)


@_trace.compiled("model")
def _band(
    fit: CurveFit, x: Array, added: Float[Array, "*k"], factor: Float[Array, ""], *, model: Model | Apply
) -> Band:
    flat, unravel = ravel_pytree(fit.params)

    def predict(parameters: Float[Array, "p"]) -> Float[Array, "k"]:
        return apply_of(model)(unravel(parameters), x)

    prediction = predict(flat)
    slope = jax.jacfwd(predict)(flat)
    covariance = fit.covariance
    if fit.at_bound is not None:
        stopped, _ = ravel_pytree(fit.at_bound)
        covariance = jnp.where(stopped[:, None] | stopped[None], 0, covariance)
    stderr = jnp.sqrt(jnp.einsum("ki,ij,kj->k", slope, covariance, slope) + added)
    return Band(prediction, stderr, prediction - factor * stderr, prediction + factor * stderr)


def variance_of(fit: CurveFit, *, absolute_sigma: bool) -> Array:
    """The variance of a residual in sigmas: 1, or what the residuals say; with a robust scale, of no outlier.

    The median of residuals that p parameters have taken from is small by √(1 - p/n), as their mean square is.
    """
    if absolute_sigma:
        return jnp.ones_like(fit.chi2)
    dof = jnp.asarray(fit.dof, fit.chi2.dtype)
    if fit.scale is None:
        return jnp.divide(fit.chi2, dof)
    num_points = dof + (jnp.diagonal(fit.covariance) > 0).sum().astype(dof.dtype)
    return jnp.divide(fit.scale**2 * num_points, dof)


def quantile(dof: ArrayLike, level: ArrayLike = 0.95, distribution: str = "t") -> Array:
    """Half the width of an interval in standard errors.

    Args:
        dof: degrees of freedom, any shape.
        level: between 0 and 1.
        distribution: "t" or "normal", which ignores dof.

    Returns:
        Shaped like dof; NaN for t without a degree of freedom.

    >>> print(f"{quantile(4):.4f}, {quantile(4, distribution='normal'):.4f}")
    2.7764, 1.9600
    """
    _checks.one_of("distribution", distribution, DISTRIBUTIONS)
    probability = 0.5 + jnp.asarray(_checks.level(level)) / 2
    if distribution == "normal":
        return jnp.broadcast_to(ndtri(probability), jnp.shape(dof))
    return t_quantile(probability, jnp.asarray(dof, probability.dtype))
