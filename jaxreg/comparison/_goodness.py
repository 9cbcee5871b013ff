"""``goodness``: how well a fit describes its data."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaincc

from jaxreg import _jit
from jaxreg._shapes import Float
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._flat_term import FlatTerm
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._solver import check_rows
from jaxreg.likelihoods import Likelihood
from jaxreg.losses._kinds import Kind
from jaxreg.problems import Problem
from jaxreg.results import Sweep
from jaxreg.status import is_optimum
from jaxreg.uncertainty._followed import arrays_of, follows, over_fits


class Goodness(NamedTuple):
    """How well a fit describes its data; of many fits with leading axes.

    n counts the points that are there and the priors' means, p the parameters that are neither fixed nor at a bound.

    Attributes:
        log_likelihood: of the data and the priors with all constants: where the size of the errors is not known, at its
            most likely, χ²/n. NaN under a robust loss, which is no likelihood. Of errors in x without their constants.
        aic: -2·log_likelihood + 2p. ``summary`` leaves out the constants, which cancel in comparisons.
        aicc: aic + 2p(p + 1)/(n - p - 1), for few points; NaN without n > p + 1.
        bic: -2·log_likelihood + p·log(n).
        chi2: Σ (residual/sigma)² of data and priors; the deviance of counts.
        reduced_chi2: chi2/dof; near 1 where sigma is the size of the errors.
        p_value: the probability of a larger chi2 if the model is right. NaN unless sigma is known; of counts right
            where most are above about 5.
        r_squared: 1 - Σ w·residual²/Σ w·(y - mean)², w = 1/sigma²; of counts, robust losses and errors in x NaN.
        durbin_watson: Σ (eᵢ - eᵢ₋₁)²/Σ eᵢ² of residuals in sigmas in the order of the points: near 2 where neighbours
            are independent, near 0 where the curve misses a bend of the data. NaN for y of several axes.
        runs: how many standard deviations the number of runs of residuals of one sign lies from its expectation, of
            normal distribution; -3 says that the signs come in too few, long runs. NaN where all have one sign.
    """

    log_likelihood: Any
    aic: Any
    aicc: Any
    bic: Any
    chi2: Any
    reduced_chi2: Any
    p_value: Any
    r_squared: Any
    durbin_watson: Any
    runs: Any


@follows
def goodness(fit: Fit | GlobalFit) -> Goodness:
    """Measures of how well a fit describes its data, by what its problem knows of the errors.

    Args:
        fit: one fit, or many on leading axes.

    Returns:
        Goodness, NaN where the fit failed.

    Source: K. P. Burnham and D. R. Anderson, Model Selection and Multimodel Inference (2002), sections 2.2 and 2.4; A.
    Wald and J. Wolfowitz, Annals of Mathematical Statistics 11 (1940) 147; J. Durbin and G. S. Watson, Biometrika 37
    (1950) 409.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> found = goodness(jaxreg.curve_fit(jaxreg.models.ohm(), x, y, sigma=0.1, absolute_sigma=True))
    >>> print(f"χ² {found.chi2:.2f}, p {found.p_value:.2f}")
    χ² 3.87, p 0.42
    """
    if isinstance(fit, GlobalFit):
        raise ValueError("goodness is not for a global fit: summary(fit) has its χ², degrees of freedom and p-value")
    if isinstance(fit, Sweep) or fit.problem is None:
        raise ValueError("this fit is without its problem, as sweeps and stores keep it: fit.with_problem(problem)")
    if not np.ndim(fit.status):
        check_rows(fit.problem)
    return _goodness(fit.problem, arrays_of(fit))


@_jit.compiled()
def _goodness(problem: Problem, fit: Fit) -> Goodness:
    found: Goodness = over_fits(_of_one, fit)(problem, fit)
    return found


def _of_one(problem: Problem, fit: Fit) -> Goodness:
    flat = flat_problem(problem.starting_at(fit.params))
    residual = flat.residual(flat.start)
    dtype = residual.dtype
    count = flat.counted.sum().astype(dtype)
    dof = fit.dof.astype(dtype)
    num_params = count - dof
    chi2 = fit.chi2 if fit.chi2_prior is None else fit.chi2 + fit.chi2_prior
    robust = bool(flat.rows.robust.any())
    no_mean = robust or problem.form.has(Kind.LIKELIHOOD) or flat.has_errors_in_x

    each = (_constant(problem, place, term, flat.unit) for place, term in enumerate(flat.terms))
    constants = sum(each, jnp.zeros_like(chi2))
    spread = chi2 / 2 if problem.absolute_sigma else count / 2 * (jnp.log(chi2 / count) + 1)
    likelihood = constants - spread
    likelihood = jnp.where(is_optimum(fit.status) & (not robust), likelihood, jnp.nan)
    room = count - num_params - 1
    aic = 2 * num_params - 2 * likelihood
    known = is_optimum(fit.status) & problem.absolute_sigma & (not robust) & (dof > 0)
    ordered = _in_order(problem, flat)
    return Goodness(
        log_likelihood=likelihood,
        aic=aic,
        aicc=jnp.where(room > 0, aic + 2 * num_params * (num_params + 1) / jnp.where(room > 0, room, 1), jnp.nan),
        bic=num_params * jnp.log(count) - 2 * likelihood,
        chi2=chi2,
        reduced_chi2=jnp.where(dof > 0, chi2 / jnp.where(dof > 0, dof, 1), jnp.nan),
        p_value=jnp.where(known, gammaincc(jnp.maximum(dof, 1) / 2, chi2 / 2), jnp.nan),
        r_squared=jnp.full_like(chi2, jnp.nan) if no_mean else _r_squared(problem, fit, flat.terms, residual),
        durbin_watson=jnp.where(is_optimum(fit.status), _durbin_watson(ordered), jnp.nan),
        runs=jnp.where(is_optimum(fit.status), _runs(ordered), jnp.nan),
    )


def _constant(problem: Problem, place: int, term: FlatTerm, unit: Float[Array, ""]) -> Array:
    """What a term adds to the log-likelihood at χ² = 0: the logarithms of 1/(√(2π)·sigma), or of counts' own.

    Without absolute sigmas these are relative, and the factor common to all is added by the caller.
    """
    numbers, form = problem.terms[place], problem.form.terms[place]
    if isinstance(form.loss, Likelihood):
        y = jnp.asarray(numbers.y)
        counted = jnp.ones(y.shape, bool) if numbers.mask is None else jnp.asarray(numbers.mask)
        target = jnp.where(counted, y, 0)
        # At the prediction that is the target itself the deviance is 0.
        most = form.loss.saturated(target, **numbers.keywords)
        return jnp.sum(jnp.where(counted, form.loss.log_probability(most, target, **numbers.keywords), 0))
    root = term.root / unit
    logs = jnp.log(jnp.diagonal(root)) if root.ndim == 2 else jnp.broadcast_to(jnp.log(root), term.counted.shape)
    return -jnp.sum(jnp.where(term.counted, logs + np.log(2 * np.pi) / 2, 0))


def _r_squared(problem: Problem, fit: Fit, terms: tuple[FlatTerm, ...], residual: Float[Array, "n"]) -> Array:
    """Of the data alone; of each term the mean is the constant that fits it best."""
    left, total = jnp.zeros_like(fit.chi2), jnp.zeros_like(fit.chi2)
    for numbers, term in zip(problem.terms, terms, strict=True):
        if not term.is_prior:
            y = jnp.asarray(numbers.y)
            spread, own = term.whiten(y), residual[term.rows]
            for unit in (1, 1j) if jnp.iscomplexobj(y) else (1,):
                one = term.whiten(jnp.full_like(y, unit))
                spread = spread - jnp.vdot(one, spread) / jnp.vdot(one, one) * one
            left, total = left + jnp.vdot(own, own), total + jnp.vdot(spread, spread)
    return jnp.where(is_optimum(fit.status), 1 - left / total, jnp.nan)


def _in_order(problem: Problem, flat: FlatProblem) -> list[tuple[Array, Array]]:
    """Residuals in sigmas of each term with data in the order of its points, first those that are there; their count.

    Of counts Pearson's, (y - expectation)/√variance. Empty if a term has no such order.
    """
    residual = flat.residual(flat.start)
    noise = flat.noise(residual)
    information = flat.information(residual, noise)
    pearson = -flat.slope(residual, noise) / jnp.sqrt(jnp.where(information > 0, information, 1))
    found = []
    for numbers, term in zip(problem.terms, flat.terms, strict=True):
        if term.is_prior:
            continue
        if jnp.ndim(numbers.y) > 1 or jnp.iscomplexobj(numbers.y):
            return []
        own = -residual[term.rows] if term.information is None else pearson[term.rows]
        found.append((own[jnp.argsort(~term.counted, stable=True)], term.counted.sum()))
    return found


def _durbin_watson(parts: list[tuple[Array, Array]]) -> Any:
    steps: Any = 0.0
    squares: Any = 0.0
    for own, count in parts:
        steps = steps + jnp.sum(jnp.where(jnp.arange(1, own.size) < count, jnp.diff(own) ** 2, 0))
        squares = squares + jnp.sum(jnp.where(jnp.arange(own.size) < count, own**2, 0))
    return steps / squares if parts else jnp.nan


def _runs(parts: list[tuple[Array, Array]]) -> Any:
    excess: Any = 0.0
    variance: Any = 0.0
    for own, count in parts:
        there, above = jnp.arange(own.size) < count, own >= 0
        runs = 1 + jnp.sum((above[1:] != above[:-1]) & there[1:])
        ups, total = (above & there).sum().astype(own.dtype), count.astype(own.dtype)
        pairs = 2 * ups * (total - ups)
        excess = excess + runs.astype(own.dtype) - pairs / jnp.maximum(total, 1) - 1
        variance = variance + pairs * (pairs - total) / jnp.maximum(total**2 * (total - 1), 1)
    known = jnp.asarray(variance) > 0
    return jnp.where(known, excess / jnp.sqrt(jnp.where(known, variance, 1)), jnp.nan) if parts else jnp.nan
