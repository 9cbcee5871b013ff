"""Intervals and bands from a fit's covariance, by first derivatives."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _trace
from jaxreg._shapes import Float
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flat_term import model_of
from jaxreg.losses._kinds import Kind
from jaxreg.models import Params
from jaxreg.problems import Problem
from jaxreg.problems import _arguments as arguments
from jaxreg.problems._form import without_rows
from jaxreg.results import Sweep
from jaxreg.uncertainty._followed import (
    arrays_of,
    covariance_of,
    distribution_of,
    follows,
    over_fits,
    pool_of,
    problem_of,
    variance_of,
)
from jaxreg.uncertainty._quantiles import one_quantile, t_quantile

DISTRIBUTIONS = ("t", "normal")
Fits = Fit | Sweep  # a sweep of fits is what ``store.load`` gives


class Intervals(NamedTuple):
    """An interval for each parameter.

    Attributes:
        lower: shaped like params.
        upper: shaped like params.
    """

    lower: Params
    upper: Params


@follows
@_trace.undisturbed
def intervals(fit: Fits | GlobalFit, *, level: ArrayLike = 0.95, distribution: str | None = None) -> Intervals:
    """Confidence intervals of the parameters: estimate ± quantile · standard error.

    Args:
        fit: one ``curve_fit``, or many on leading axes, in memory or in a store, also as ``store.load`` gives them; or
            a global fit.
        level: the probability that the interval is to hold the true value with.
        distribution: "t" with the fit's degrees of freedom, where the scale of the errors came from the residuals;
            "normal", where sigma was absolute. None takes the right one, which fits without their problem do not know.

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
    numbers = (fits.params, fits.stderr, pool_of(fits).dof)
    params, stderr, dof = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), numbers)
    factor = quantile(dof, level, distribution_of(fits, distribution))

    def half_width(error: Any) -> Array:  # of one fit, or NumPy's of many
        return factor.reshape(factor.shape + (1,) * (error.ndim - factor.ndim)) * error

    lower = jax.tree.map(lambda value, error: value - half_width(error), params, stderr)
    upper = jax.tree.map(lambda value, error: value + half_width(error), params, stderr)
    return Intervals(lower, upper)


class Band(NamedTuple):
    """A curve and the band around it.

    Attributes:
        prediction: (k,), or whatever shape the model gives, the fitted curve.
        stderr: (k,), its standard error, or that of a new observation; of a complex curve that of its real part, and
            times i that of its imaginary part, and so are lower and upper.
        lower: (k,).
        upper: (k,).
    """

    prediction: Array
    stderr: Array
    lower: Array
    upper: Array


@follows
def band(
    fit: Fit | GlobalFit,
    x: Any,
    *,
    kind: str = "confidence",
    sigma: ArrayLike | None = None,
    term: int = 0,
    level: ArrayLike = 0.95,
    distribution: str | None = None,
) -> Band:
    """The band around a fitted curve at x, by the delta method: se² = gᵀ C g with g = ∂model/∂params exactly.

    Parameters that are fixed, or that ended at a bound, count as known.

    Args:
        fit: one fit; or a global fit, whose result then has a leading axis m: the bands of all data sets at the same x.
        x: where the band is wanted, as the model takes it, also beyond the data.
        kind: "confidence", for the curve itself; "prediction", for a new observation: se² + the variance of one. That
            is sigma² if the fit's sigma was absolute, or sigma²·chi2/dof, or, of a robust fit with an estimated scale,
            (sigma·scale)²·n/(n - p): then the band is for points that are no outliers. Its x is taken as exact, also
            where those of the fit have errors.
        sigma: of a new observation, a scalar or like the prediction, for "prediction" only. None takes the fit's, if it
            is one for all points.
        term: of a sum, the number of the term whose model is meant.
        level: of each point alone, not of all together.
        distribution: as for ``intervals``.

    Returns:
        Band.

    Source: G. A. F. Seber and C. J. Wild, Nonlinear Regression (1989), section 5.1.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, jnp.array([0.0, 1.1, 1.9, 3.1, 3.9]))
    >>> print(band(fit, x).lower)
    [0. 0.943 1.887 2.830 3.774]
    """
    _checks.one_of("kind", kind, ("confidence", "prediction"))
    if isinstance(fit, GlobalFit):
        problem_of(fit)
        return _bands(fit.each, x, sigma, level, kind=kind, term=term, distribution=distribution)
    problem = problem_of(fit)
    term = _checks.count("term", term, least=0, most=len(problem.terms) - 1)
    factor = quantile(pool_of(fit).dof, level, distribution_of(fit, distribution))
    added = jnp.zeros_like(fit.chi2)
    if kind == "prediction":
        if problem.form.terms[term].kind is Kind.LIKELIHOOD:
            raise ValueError("kind must be 'confidence' for counts, whose errors are not normal")
        added = jnp.asarray(_new_sigma(problem, term, sigma), fit.chi2.dtype) ** 2 * variance_of(fit, term)
    elif sigma is not None:
        raise ValueError(f"sigma is of a new observation, for kind 'prediction', got {kind!r}: the fit knows its own")
    x = jax.tree.map(jnp.asarray, arguments.features(x))
    problem = dataclasses.replace(problem, terms=without_rows(problem.terms))
    return _band(arrays_of(fit), problem, x, added, factor, term=term)


@_jit.compiled("kind", "term", "distribution")
def _bands(fits: Fit, x: Any, sigma: Any, level: ArrayLike, *, kind: str, term: int, distribution: str | None) -> Band:
    """Of each fit of many, at the same x."""
    given = {"kind": kind, "sigma": sigma, "term": term, "level": level, "distribution": distribution}
    found: Band = over_fits(lambda fit: band(fit, x, **given), fits)(fits)
    return found


def _new_sigma(problem: Problem, term: int, sigma: ArrayLike | None) -> Any:
    if sigma is not None:
        return _checks.array("sigma", sigma)
    own = problem.terms[term].sigma
    if np.ndim(own):
        raise ValueError("sigma of a new observation must be given where the points of the fit have one each")
    return own


@_jit.compiled("term")
def _band(
    fit: Fit, problem: Problem, x: Any, added: Float[Array, "*k"], factor: Float[Array, ""], *, term: int
) -> Band:
    flat, unravel = ravel_pytree(fit.params)
    predict_at = model_of(problem.terms[term], problem.form.terms[term])

    def predict(parameters: Float[Array, "p"]) -> Array:
        return predict_at(unravel(parameters), x)

    prediction = predict(flat)
    slope = jax.jacfwd(predict)(flat)
    covariance = covariance_of(fit)

    def error(slope: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.sqrt(jnp.einsum("...i,ij,...j->...", slope, covariance, slope) + added)

    stderr = lax.complex(error(slope.real), error(slope.imag)) if jnp.iscomplexobj(slope) else error(slope)
    return Band(prediction, stderr, prediction - factor * stderr, prediction + factor * stderr)


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
    level = _checks.level(level)
    if isinstance(level, float) and np.ndim(dof) == 0 and _trace.concrete(dof):
        one = float(np.asarray(dof))
        if one.is_integer():
            return jnp.asarray(one_quantile(level, int(one), distribution), jnp.result_type(float))
    probability = 0.5 + jnp.asarray(level) / 2
    if distribution == "normal":
        return jnp.broadcast_to(ndtri(probability), jnp.shape(dof))
    return t_quantile(probability, jnp.asarray(dof, probability.dtype))
