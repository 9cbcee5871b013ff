"""Quantities that follow from the parameters, with their errors: a half-life, an area, a ratio."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _names
from jaxreg._shapes import Float, Int
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._kinks import minimise
from jaxreg.least_squares._result import status_of
from jaxreg.models import Params
from jaxreg.problems import Problem
from jaxreg.problems._priors import prior_term
from jaxreg.results import Sweep
from jaxreg.status import is_optimum
from jaxreg.uncertainty._edge import edge
from jaxreg.uncertainty._followed import arrays_of, covariance_of, distribution_of, follows, over_fits, pool_of
from jaxreg.uncertainty._linear import Fits, quantile
from jaxreg.uncertainty._profile import profiled
from jaxreg.uncertainty._refits import Held, Refits, cost_of, refits_of
from jaxreg.uncertainty._together import spread_of_all

KINDS = ("delta", "profile")
_MOST_STEPS = 5000  # of a refit


class Derived(NamedTuple):
    """What a function of the parameters came to; of many fits with leading axes.

    Attributes:
        value: what the function gives.
        stderr: shaped like it.
        covariance: (k, k) of its numbers, in ravel_pytree order.
        lower: shaped like value, the end of its interval.
        upper: likewise.
    """

    value: Any
    stderr: Any
    covariance: Array
    lower: Any
    upper: Any


@follows
def derived(
    fit: Fits | GlobalFit,
    fn: Callable[[Params], Any],
    *,
    kind: str = "delta",
    level: ArrayLike = 0.95,
    distribution: str | None = None,
) -> Derived:
    """A function of the parameters with its standard error and interval: G C Gᵀ with G = ∂fn/∂params exactly.

    Parameters that are fixed, or that ended at a bound, count as known.

    Args:
        fit: one fit, or many on leading axes; or a global fit, with all its parameters.
        fn: ``fn(params) -> array``, or any pytree of arrays, pure. Of a global fit it sees the own parameters of all
            data sets on an axis m; what it makes of one that took no part is NaN.
        kind: "delta", value ± quantile · standard error, by first derivatives; "profile", of one fit that is not
            global: where the other combinations of parameters refitted no longer reach the data, as
            ``profile_intervals`` has it for a parameter. Its ends do not depend on how the quantity is written:
            those of 1/k are the inverses of those of k.
        level: of the interval.
        distribution: as for ``intervals``.

    Returns:
        Derived, NaN where the fit failed; ends that are not finite where the data set no limit, and of a profile NaN
        where the quantity has slope 0 at the estimate.

    Source: G. A. F. Seber and C. J. Wild, Nonlinear Regression (1989), section 5.1; for the profile, D. M. Bates and
    D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988), section 6.1.

    >>> import jaxreg
    >>> x = jnp.linspace(0.0, 2.0, 30)
    >>> y = 2.0 * jnp.exp(-x) + 0.01 * jax.random.normal(jax.random.key(0), (30,))
    >>> fit = jaxreg.curve_fit(lambda p, x: p["a"] * jnp.exp(-p["k"] * x), x, y, {"a": 1.0, "k": 0.5})
    >>> half_life = derived(fit, lambda p: jnp.log(2) / p["k"])
    >>> print(f"{half_life.value:.3f} ± {half_life.stderr:.3f}")
    0.692 ± 0.003
    """
    _checks.one_of("kind", kind, KINDS)
    if not callable(fn):
        raise ValueError(f"fn must be a function of the parameters, got {type(fn).__name__}")
    fit = fit.values if isinstance(fit, Sweep) else fit
    factor, arrays = quantile(pool_of(fit).dof, level, distribution_of(fit, distribution)), arrays_of(fit)
    if kind == "delta":
        return _many(arrays, factor, fn=fn)
    if isinstance(fit, GlobalFit):
        raise ValueError("kind must be 'delta' of a global fit: profile_intervals(fit) are of its shared parameters")
    problem, found = profiled(fit), _delta(arrays, factor, fn)
    lower, upper = _ends(problem, arrays, jnp.sqrt(jnp.diagonal(found.covariance)), factor, fn=fn)
    return found._replace(lower=lower, upper=upper)


@_jit.compiled("fn")
def _many(fit: Fit | GlobalFit, factor: Array, *, fn: Callable[[Params], Any]) -> Derived:
    found: Derived = over_fits(functools.partial(_delta, fn=fn), fit)(fit, factor)
    return found


def _real(value: Any) -> Array:
    return jnp.asarray(_checks.array("what fn gives", value, is_complex=True))


def _delta(fit: Fit | GlobalFit, factor: Float[Array, ""], fn: Callable[[Params], Any]) -> Derived:
    try:
        value = jax.tree.map(_real, _checks.traceable("fn")(fn)(fit.params))
    except KeyError as error:
        raise ValueError(
            f"fn reads {error}, and the fit's parameters are {', '.join(_names.of(fit.params))}"
        ) from error
    numbers, restore = ravel_pytree(value)
    if jnp.iscomplexobj(numbers):
        raise ValueError("fn must give real numbers, got complex ones: give real and imaginary parts apart")
    spread = spread_of_all(fit, fn) if isinstance(fit, GlobalFit) else _spread(fit, fn)
    stderr = jnp.where(is_optimum(fit.status), jnp.sqrt(jnp.maximum(jnp.diagonal(spread), 0)), jnp.nan)
    numbers = jnp.asarray(numbers, spread.dtype)
    ends = (restore(numbers - factor * stderr), restore(numbers + factor * stderr))
    return Derived(value, restore(stderr), spread, *ends)


def _spread(fit: Fit, fn: Callable[[Params], Any]) -> Float[Array, "k k"]:
    """G C Gᵀ."""
    flat, unravel = ravel_pytree(fit.params)
    slope = jax.jacfwd(lambda params: ravel_pytree(fn(unravel(params)))[0])(flat)
    covariance = covariance_of(fit)
    # In parameters of one size, so that no square of an error leaves the range of floats before it is weighed.
    unit, _ = ravel_pytree(fit.stderr)
    unit = jnp.where(jnp.isfinite(unit) & (unit > 0), unit, 1)
    scaled = slope * unit[None]
    return scaled @ (covariance / unit[:, None] / unit[None]) @ scaled.T


class _Constrained(NamedTuple):
    """Refits of one fit with a quantity held, as ``edge`` asks for them: it is the only held parameter."""

    refits: Refits
    problem: Problem  # with the quantity as one more row
    center: Float[Array, "1"]

    @property
    def bounds(self) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        limit = jnp.full_like(self.center, jnp.inf)
        return -limit, limit

    @property
    def variance(self) -> Float[Array, ""]:
        return self.refits.variance

    @property
    def fit(self) -> Fit:
        return self.refits.fit

    @property
    def start(self) -> Float[Array, "p"]:
        return self.refits.center

    def tau(self, cost: Float[Array, ""]) -> Float[Array, ""]:
        return self.refits.tau(cost)

    def hold(self, held: Int[Array, "1"], values: Float[Array, "1"], start: Float[Array, "p"]) -> Held:
        """Fit all parameters with the quantity at a value, by a row so heavy that it is there to many digits.

        The end is the least cost at the value that the quantity has, whatever the weight.
        """
        del held
        terms = (*self.problem.terms[:-1], self.problem.terms[-1]._replace(y=values))
        flat, base = flat_problem(dataclasses.replace(self.problem, terms=terms)), self.refits.problem
        noise = jnp.broadcast_to(base.noise(base.residual(base.start)), (base.num_rows,)) * base.unit / flat.unit
        noise = jnp.concatenate([noise, jnp.ones(1, noise.dtype) / flat.unit])
        end = minimise(flat._replace(start=start, scaled=False, held=noise), self.refits.max_steps)
        cost = cost_of(base, base.residual(end.params))
        return Held(jnp.where(jnp.isfinite(cost), cost, jnp.inf), end.params, status_of(flat, end))


@_jit.compiled("fn")
def _ends(
    problem: Problem, fit: Fit, stderr: Float[Array, "k"], factor: Float[Array, ""], *, fn: Callable[[Params], Any]
) -> tuple[Any, Any]:
    refits = refits_of(problem, fit, _MOST_STEPS)
    numbers, restore = ravel_pytree(fn(fit.params))

    def of_number(place: Int[Array, ""]) -> Float[Array, "2"]:
        return _ends_of(problem, refits, numbers, stderr, factor, place, fn)

    lower, upper = jax.vmap(of_number, out_axes=1)(jnp.arange(numbers.size))
    return restore(lower), restore(upper)


def _ends_of(
    problem: Problem,
    refits: Refits,
    numbers: Float[Array, "k"],
    stderr: Float[Array, "k"],
    factor: Float[Array, ""],
    place: Int[Array, ""],
    fn: Callable[[Params], Any],
) -> Float[Array, "2"]:
    """The ends of one number's interval."""

    def quantity(params: Params) -> Float[Array, "1"]:
        return ravel_pytree(fn(params))[0][place, None]

    # Held to a share of its error that is near the root of the rounding's; the cost grows by s² at a whole one.
    size = jnp.where(jnp.isfinite(stderr[place]) & (stderr[place] > 0), stderr[place], 1)
    share = jnp.finfo(size.dtype).eps ** 0.25 / jnp.sqrt(refits.variance)
    term, form = prior_term(quantity, numbers[place, None], size * share)
    forms = problem.form._replace(terms=problem.form.terms + form.terms)
    held = dataclasses.replace(problem, terms=(*problem.terms, term), form=forms)
    constrained = _Constrained(refits, held, numbers[place, None])

    def end(sign: Float[Array, ""]) -> Float[Array, ""]:
        found = edge(constrained, jnp.zeros(1, jnp.int32), sign * stderr[place, None], factor).values[0]
        return jnp.where(stderr[place] > 0, found, jnp.nan)  # the quantity's slope is 0 there

    return jax.vmap(end)(jnp.array([-1.0, 1.0], size.dtype))
