"""The bootstrap: the spread of the parameters over refits of resampled data."""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _trace
from jaxreg._linear_algebra import unit_columns
from jaxreg._shapes import Float
from jaxreg.global_fits import GlobalFit, GlobalProblem
from jaxreg.global_fits._solver import Traced, solved
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flat_problem import FlatProblem, Options
from jaxreg.least_squares._flat_term import FlatTerm, coloured, joined
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._solver import solve, with_care
from jaxreg.likelihoods import Likelihood
from jaxreg.losses._kinds import Kind
from jaxreg.models import Params
from jaxreg.problems import Problem
from jaxreg.problems._form import Term, TermForm
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._followed import arrays_of, follows, found, variance_of
from jaxreg.uncertainty._together import check_drawable, that_took_part

KINDS = ("pairs", "residual", "parametric")
_SETS = "sets"  # of a global fit


class Bootstrap(NamedTuple):
    """Refits of resampled data.

    Attributes:
        params: like the fit's, with a leading axis (num,); NaN where a refit failed.
        stderr: shaped like params: the standard deviation over the refits that did not.
        lower: shaped like params, their quantile at (1 - level)/2.
        upper: shaped like params, their quantile at (1 + level)/2.
        status: (num,), of each refit.
        num_failed: how many of them did not end at an optimum: errors and quantiles are of the others, and the less to
            be trusted the more these are.
    """

    params: Params
    stderr: Params
    lower: Params
    upper: Params
    status: Array
    num_failed: Array


@follows
def bootstrap(
    key: Array,
    fit: Fit | GlobalFit,
    *,
    kind: str = "pairs",
    num: int = 1000,
    level: ArrayLike = 0.95,
    batch_size: int = 250,
    max_steps: int = 5000,
) -> Bootstrap:
    """Refit resampled data: standard errors and percentile intervals that do not rest on the covariance.

    Args:
        key: PRNG key.
        fit: one fit, or a global one; each refit starts at it.
        kind: "pairs" draws the points (x, y, sigma), along y's first axis, with replacement, right also where the
            errors' variance varies in an unknown way, but for many points: at n = 40 nominal 95 % intervals hold the
            truth in 88 to 92 %; "residual" keeps x and sigma and draws the residuals in units of sigma, raised by
            1/√(1 - leverage) and centred, of correlated errors after these are whitened; "parametric" adds normal noise
            to the fitted curve, of the standard deviation sigma, if absolute, or else of the size that the residuals
            say, as for a ``band``; of errors in x to both coordinates, around the adjusted x. Of a global fit these are
            for each data set, within it, and "sets" draws whole data sets with replacement: the spread, of the shared
            parameters alone, is then right also where data sets differ by more than their errors say.
        num: refits, static.
        level: of the percentile intervals.
        batch_size: refits at once, static: bounds memory; of a global fit one.
        max_steps: budget of each refit, static.

    Returns:
        Bootstrap. At the top level it warns if more than one refit in a hundred failed.

    Source: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), sections 6.2 and 7.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> y = jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> found = bootstrap(jax.random.key(0), fit, kind="residual", num=200)
    >>> print(f"{found.stderr['resistance']:.2f}, {fit.stderr['resistance']:.2f} by the covariance")
    0.02, 0.02 by the covariance
    """
    _checks.key(key)
    is_global = isinstance(fit, GlobalFit)
    _checks.one_of("kind", kind, (*KINDS, _SETS) if is_global else KINDS)
    num = _checks.count("num", num, least=2)
    batch_size = _checks.count("batch_size", batch_size, least=1)
    max_steps = _checks.count("max_steps", max_steps, least=0)
    problem = found(fit)
    if isinstance(fit, GlobalFit) and kind == _SETS:
        check_drawable(fit)
    data = [term for term, form in zip(problem.terms, problem.form.terms, strict=True) if not form.is_prior]
    if kind == "pairs" and any(map(_is_covariance, data)):
        raise ValueError("kind must be 'residual' or 'parametric' where sigma is a covariance: pairs tear it apart")
    if kind == "residual" and any(term.sigma_x is not None for term in data):
        raise ValueError("kind must be 'pairs' or 'parametric' with errors in x, whose residuals are distances")
    if kind == "residual" and problem.form.has(Kind.LIKELIHOOD):
        raise ValueError("kind must be 'pairs' or 'parametric' for counts, whose residuals have not one distribution")
    level, index = jnp.asarray(_checks.level(level)), jnp.int32((*KINDS, _SETS).index(kind))
    places = range(len(problem.terms))
    variance = [] if isinstance(fit, GlobalFit) else [variance_of(fit, place) for place in places]

    def run(options: Options) -> Bootstrap:
        if is_global:
            return _run_together(key, arrays_of(fit), problem, level, index, options=options, num=num)
        return _run(key, problem, variance, level, index, options=options, num=num, batch_size=batch_size)

    spread = with_care(run, Options(max_steps=max_steps))
    if is_global and kind == _SETS:
        own = {name: {each: getattr(spread, name)[each] for each in fit.shared} for name in Bootstrap._fields[:4]}
        spread = spread._replace(**own)
    if _trace.concrete(spread) and int(spread.num_failed) > num / 100:
        status = np.asarray(spread.status)
        names = ", ".join(
            f"{np.count_nonzero(status == code)} {Status(code).name}" for code in np.unique(status) if code
        )
        warnings.warn(f"of {num} refits not all converged, {names}: the errors are of the others alone", stacklevel=3)
    return spread


def _is_covariance(term: Term) -> bool:
    return jnp.ndim(term.sigma) > 0 and jnp.shape(term.sigma) != jnp.shape(term.y)


@_jit.compiled("options", "num", "batch_size")
def _run(
    key: Array,
    problem: Problem,
    variance: list[Array],
    level: Array,
    kind: Array,
    *,
    options: Options,
    num: int,
    batch_size: int,
) -> Bootstrap:
    flat = flat_problem(problem)
    residual = _standardised(flat)
    everything = flat.restore(flat.start)

    def one(key: Array) -> tuple[Params, Array]:
        drawn = []
        keys = [key] if len(problem.terms) == 1 else jax.random.split(key, len(problem.terms))
        parts = zip(problem.terms, problem.form.terms, flat.terms, keys, variance, strict=True)
        for term, form, of, key_of, size in parts:
            drawn.append(_drawn(key_of, term, form, of, flat, everything, residual[of.rows], size, kind))
        refit = solve(dataclasses.replace(problem, terms=tuple(drawn)), options)
        good = is_optimum(refit.status)
        return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), refit.params), refit.status

    params, status = jax.lax.map(one, jax.random.split(key, num), batch_size=min(batch_size, num))
    return _summarised(params, status, level)


def _summarised(params: Params, status: Array, level: Array) -> Bootstrap:
    """The spread of refits, of which those that failed are NaN."""
    ends = jnp.stack([(1 - level) / 2, (1 + level) / 2])
    quantiles = jax.tree.map(lambda leaf: jnp.nanquantile(leaf, ends.astype(leaf.dtype), axis=0), params)
    return Bootstrap(
        params=params,
        stderr=jax.tree.map(lambda leaf: jnp.nanstd(leaf, axis=0, ddof=1), params),
        lower=jax.tree.map(lambda leaf: leaf[0], quantiles),
        upper=jax.tree.map(lambda leaf: leaf[1], quantiles),
        status=status,
        num_failed=(~is_optimum(status)).sum(),
    )


@_jit.compiled("options", "num")
def _run_together(
    key: Array, fit: GlobalFit, problem: GlobalProblem, level: Array, kind: Array, *, options: Options, num: int
) -> Bootstrap:
    """Refits of all data sets of a global fit, which are drawn, or whose data are."""
    kept, num_sets, batch = that_took_part(fit), problem.form.num_sets, problem.batch()
    each = fit.each.replace(problem=batch)
    form = problem.form._replace(own=(True,) * len(problem.form.own))  # all stand on the axis
    of_sets = kind == (*KINDS, _SETS).index(_SETS)

    def within(key: Array, one: Fit, kept: Array) -> tuple[Term, ...]:
        flat = flat_problem(one.problem)
        variance = [variance_of(one, place) for place in range(len(flat.terms))]
        residual, keys = _standardised(flat, one.covariance / variance[0]), jax.random.split(key, len(flat.terms))
        parts = zip(one.problem.terms, one.problem.form.terms, flat.terms, keys, variance, strict=True)
        drawn = tuple(
            _drawn(key_of, term, form, of, flat, one.params, residual[of.rows], size, kind)
            for term, form, of, key_of, size in parts
        )
        return jax.tree.map(lambda new, old: jnp.where(kept & ~of_sets, new, old), drawn, one.problem.terms)

    def one(key: Array) -> tuple[Params, Array]:
        terms = jax.vmap(within)(jax.random.split(key, num_sets), each, kept)
        first, count, places = jnp.argsort(~kept, stable=True), kept.sum(), jnp.arange(num_sets)
        drawn = first[jnp.where(places < count, jax.random.randint(key, (num_sets,), 0, count), places)]
        places = jnp.where(of_sets, drawn, places)  # those that took no part stay beside
        numbers = jax.tree.map(lambda leaf: jnp.asarray(leaf)[places], (batch.p0, batch.bounds, terms))
        p0, bounds, drawn_terms = numbers
        refit = solved(GlobalProblem(p0, bounds, drawn_terms, form), options.max_steps, Traced(), kept=kept[places])
        good, known = is_optimum(refit.status), is_optimum(refit.each.status) & ~of_sets

        def if_good(name: str, leaf: Array) -> Array:
            own = good if name in fit.shared else known.reshape(known.shape + (1,) * (leaf.ndim - 1))
            return jnp.where(good & own, leaf, jnp.nan)

        params = refit.params
        return {name: jax.tree.map(functools.partial(if_good, name), params[name]) for name in params}, refit.status

    params, status = jax.lax.map(one, jax.random.split(key, num))
    return _summarised(params, status, level)


def _drawn(
    key: Array,
    term: Term,
    form: TermForm,
    flat: FlatTerm,
    problem: FlatProblem,
    params: Params,
    residual: Float[Array, "k"],
    variance: Float[Array, ""],
    kind: Array,
) -> Term:
    """A term with resampled data."""
    key_rows, key_noise = jax.random.split(key)
    y = jnp.asarray(term.y)
    num_rows = y.shape[0] if y.ndim else 1
    there = jnp.ones(num_rows, bool) if term.mask is None else jnp.asarray(term.mask).reshape(num_rows, -1).any(axis=1)
    first = jnp.argsort(~there, stable=True)  # of the rows; those that are there are drawn from
    rows = first[jax.random.randint(key_rows, (num_rows,), 0, there.sum())]
    # Errors in sigmas, of one variance and independent, made into those of the data: by sigma, or by the factor of a
    # covariance.
    counted = jnp.argsort(~flat.counted, stable=True)
    picks = counted[jax.random.randint(key_rows, flat.counted.shape, 0, flat.counted.sum())]
    normal = jnp.sqrt(variance) * jax.random.normal(key_noise, residual.shape, residual.dtype)
    error = jnp.where((kind == KINDS.index("residual")) & (not flat.is_prior), residual[picks], normal)
    error = coloured(flat.root / problem.unit, error)
    curve = flat.predict(params)
    size = curve.size
    shaped = error[:size] + 1j * error[size:] if jnp.iscomplexobj(curve) else error
    if isinstance(form.loss, Likelihood):
        curve, shaped = form.loss.draw(key_noise, curve, **term.keywords), jnp.zeros_like(shaped)
    noise = shaped.reshape(curve.shape).astype(curve.dtype)
    pairs = kind == KINDS.index("pairs")
    if flat.is_prior:  # its means are measurements too, of the size of error that it says
        return term._replace(y=jnp.where(pairs, y, curve) + noise)

    def taken(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return jnp.where(pairs, leaf[rows], leaf) if y.ndim and leaf.shape[:1] == y.shape[:1] else leaf

    mask = None
    if term.mask is not None:  # where a row is missing none is put
        mask = taken(term.mask) & there.reshape(num_rows, *[1] * (y.ndim - 1))
    x = term.x
    if flat.true_x is not None:
        x, noise = flat.true_x.noisy(key_noise, x, params, jnp.sqrt(variance) / problem.unit, pairs)
    return term._replace(
        x=jax.tree.map(taken, x),
        sigma_x=jax.tree.map(taken, term.sigma_x),
        y=jnp.where(pairs, taken(y), (curve + noise).astype(y.dtype)),
        sigma=term.sigma if _is_covariance(term) else taken(term.sigma),
        mask=mask,
        keywords={name: taken(value) for name, value in term.keywords.items()},
    )


def _standardised(problem: FlatProblem, covariance: Array | None = None) -> Float[Array, "n"]:
    """Residuals in sigmas of the same variance each, r/√(1 - leverage), those of each term centred.

    With errors of variance 1 the leverage of a row is its gᵀ C g, by the joint C of a global fit.
    """
    residual, jacobian = problem.linearise(problem.start)
    if covariance is None:
        columns = unit_columns(jacobian)
        leverage = jnp.sum((columns.inverse.T @ (jacobian / columns.scale[:, None])) ** 2, axis=0)
    else:
        covariance = jnp.nan_to_num(covariance[np.ix_(problem.places, problem.places)])
        leverage = jnp.sum(jacobian * (covariance @ jacobian), axis=0) * problem.unit * problem.unit
    leverage = jnp.clip(leverage, 0, 1 - jnp.sqrt(jnp.finfo(residual.dtype).eps))
    standardised = -problem.unit * residual / jnp.sqrt(1 - leverage)
    sums = [(standardised[term.rows].sum(), term.counted) for term in problem.terms]
    means = [jnp.broadcast_to(total / there.sum().astype(total.dtype), there.shape) for total, there in sums]
    return standardised - joined(means)
