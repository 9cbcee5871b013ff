"""Profile likelihood: how χ² grows when a parameter, or two, is held off its estimate and the others are refitted."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _names
from jaxreg._shapes import Float, Int
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.losses._kinds import Kind
from jaxreg.models import Params
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._edge import edge
from jaxreg.uncertainty._followed import arrays_of, distribution_of, follows, found
from jaxreg.uncertainty._linear import DISTRIBUTIONS, Intervals, quantile
from jaxreg.uncertainty._refits import Refits, refits_of
from jaxreg.uncertainty._together import Together, together


class Profile(NamedTuple):
    """The profile of each parameter over a grid.

    Attributes:
        values: shaped like params, with one more axis (num,): where the parameter was held.
        tau: likewise, sign(θ - estimate)·√(Δχ²/s²): a straight line of slope 1/stderr for a linear model; infinite
            out of the bounds.
        params: likewise with two more axes (num, p): all parameters of each refit, of a global one the shared ones,
            flat, the profile's trace.
        status: likewise, of the refits; NOT_OPTIMUM, with tau NaN, where the fit is not the optimum of these data.
    """

    values: Params
    tau: Params
    params: Params
    status: Params


class ProfileIntervals(NamedTuple):
    """An interval for each parameter from its profile.

    Attributes:
        lower: shaped like params; the bound itself where the box ends first, and -inf where the data set no limit.
        upper: likewise.
        discrepancy: likewise: the larger of \\|half-width/(quantile·stderr) - 1\\| at the two ends. It is the warning
            number of one error bar: at 0.1 one of its ends is off by 10 %. NaN without a standard error.
        status: likewise, int32: OK; MAX_STEPS if an end was not found; NONFINITE if an end is where the model ceases to
            be finite; with the ends NaN NOT_OPTIMUM if the fit is not the optimum of these data under the squared loss,
            INVALID_INPUT without a quantile (of t, without a degree of freedom), and the fit's own status if it failed.
        at_bound: lower and upper, each booleans shaped like params: the end is the bound, not where the data put it.
    """

    lower: Params
    upper: Params
    discrepancy: Params
    status: Params
    at_bound: Intervals


class Contour(NamedTuple):
    """The edge of the joint confidence region of two parameters.

    Attributes:
        points: (num, 2), closed in order; not finite where the data set no limit.
        status: (num,), of each point, as for ``ProfileIntervals``.
        at_bound: (num,), whether the box ends there before the region does.
    """

    points: Array
    status: Array
    at_bound: Array


@follows
def profile(fit: Fit | GlobalFit, *, reach: ArrayLike = 3.0, num: int = 25, max_steps: int = 5000) -> Profile:
    """Profile each parameter over a grid of ± reach standard errors, refitting the others: all at once.

    Of one at its bound, which has none, they are of a fit of that parameter alone.

    Args:
        fit: one fit. Under a robust loss its own cost takes the place of χ², at the scale that was estimated. Of a
            global fit the shared parameters are profiled, the squared loss and counts only: all data sets are refitted.
        reach: half the grid's width, in standard errors.
        num: points of the grid, static.
        max_steps: budget of each refit, static.

    Returns:
        Profile; NaN for fixed parameters and where there is no standard error for another reason than a bound.

    Source: D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications (1988), section 6.1.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> print(profile(fit, reach=2.0, num=5).tau["resistance"])
    [-2. -1. 0. 1. 2.]
    """
    num = _checks.count("num", num, least=2)
    problem = profiled(fit)
    return _profile(problem, arrays_of(fit), jnp.asarray(reach, fit.chi2.dtype), num=num, max_steps=max_steps)


def profiled(fit: Fit | GlobalFit) -> Any:
    """The problem of a fit that a profile can be drawn of."""
    problem = found(fit)
    if isinstance(fit, GlobalFit) and problem.form.has(Kind.ROBUST):
        raise ValueError("a profile of a global fit is not for a robust loss: take bootstrap(key, fit)")
    if problem.form.has(Kind.LINEAR_PROGRAM):
        raise ValueError("a profile needs a loss that bends, not an absolute or quantile one: take bootstrap(key, fit)")
    robust = [form.kind is Kind.ROBUST for form in problem.form.terms]
    scaled = [form.scale is not None for form in problem.form.terms]
    if (problem.absolute_sigma and any(robust) and not all(robust)) or (len(scaled) > 1 and any(scaled)):
        raise ValueError(
            "a profile needs one kind of errors, not a robust loss beside others: take bootstrap(key, fit)"
        )
    return problem


@_jit.compiled("num", "max_steps")
def _profile(problem: Any, fit: Fit | GlobalFit, reach: Array, *, num: int, max_steps: int) -> Profile:
    refits = _refits(problem, fit, max_steps)
    # The first refit, at the estimate, is not returned: it says whether the fit is the optimum.
    offsets = jnp.concatenate([jnp.zeros(1, reach.dtype), jnp.linspace(-reach, reach, num)])
    size = jnp.sqrt(jnp.diagonal(_covariance(problem, refits)))

    def at(parameter: Int[Array, ""], offset: Float[Array, ""]) -> tuple[Array, Array, Array, Array]:
        value = refits.center[parameter] + offset * size[parameter]
        held = refits.hold(parameter[None], value[None], refits.start)
        return value, jnp.sign(offset) * refits.tau(held.cost), refits.flat(held.params), held.status

    found = refits.over(
        lambda parameter: refits.over(functools.partial(at, parameter), offsets), jnp.arange(refits.center.size)
    )
    wrong = (found[-1] == Status.NOT_OPTIMUM).any()
    values, tau, params, status = (part[:, 1:] for part in found)
    tau, status = jnp.where(wrong, jnp.nan, tau), jnp.where(wrong, Status.NOT_OPTIMUM, status)
    return Profile(*(_spread(refits, part) for part in (values, tau, params, status)))


def _refits(problem: Any, fit: Any, max_steps: int) -> Refits | Together:
    return (together if isinstance(fit, GlobalFit) else refits_of)(problem, fit, max_steps)


def _covariance(problem: Any, refits: Refits | Together) -> Float[Array, "p p"]:
    """Of how far to look: a parameter at its bound has no error, but a distance at which alone it costs as much."""
    if problem.bounds is None:
        return refits.covariance
    (lower, upper), lengths = refits.bounds, refits.lengths
    stopped = is_optimum(refits.fit.status) & ((refits.center <= lower) | (refits.center >= upper)) & (lengths > 0)
    stopped &= jnp.isnan(jnp.diagonal(refits.covariance))
    return jnp.where(stopped[:, None] | stopped[None], jnp.diag(refits.variance / lengths**2), refits.covariance)


@follows
def profile_intervals(
    fit: Fit | GlobalFit, *, level: ArrayLike = 0.95, distribution: str | None = None, max_steps: int = 5000
) -> ProfileIntervals:
    """Confidence intervals by profile likelihood: where \\|tau\\| reaches the quantile, Δχ² = quantile²·s².

    They do not depend on how the model is parametrised, need not be symmetric, and equal ``intervals`` if it is linear.
    One of a parameter at its bound, which has no standard error, begins there.

    Args:
        fit: as for ``profile``.
        level: as for ``intervals``.
        distribution: as for ``intervals``; "normal" is the rule Δχ² = 1 at level 0.683.
        max_steps: budget of each refit, static.

    Returns:
        ProfileIntervals; NaN for fixed parameters.

    Source: as for ``profile``.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> found = profile_intervals(fit)
    >>> print(f"{found.lower['resistance']:.3f} to {found.upper['resistance']:.3f}")
    0.943 to 1.043
    """
    problem = profiled(fit)
    target = jnp.asarray(quantile(fit.dof, level, distribution_of(fit, distribution)), fit.chi2.dtype)
    return _intervals(problem, arrays_of(fit), target, max_steps=_checks.count("max_steps", max_steps, least=0))


@_jit.compiled("max_steps")
def _intervals(problem: Any, fit: Fit | GlobalFit, target: Array, *, max_steps: int) -> ProfileIntervals:
    refits = _refits(problem, fit, max_steps)
    stderr, size = (jnp.sqrt(jnp.diagonal(of)) for of in (refits.covariance, _covariance(problem, refits)))

    def end(parameter: Int[Array, ""], sign: Float[Array, ""]) -> tuple[Array, ...]:
        found = edge(refits, parameter[None], sign * size[parameter, None], target)
        discrepancy = jnp.abs(found.distance * size[parameter] / (target * stderr[parameter]) - 1)
        return found.values[0], discrepancy, found.status, found.at_bound

    signs = jnp.array([-1.0, 1.0], refits.center.dtype)
    ends, discrepancy, status, stopped = refits.over(
        lambda parameter: refits.over(functools.partial(end, parameter), signs), jnp.arange(refits.center.size)
    )
    parts = (ends[:, 0], ends[:, 1], discrepancy.max(axis=1), status.max(axis=1), stopped[:, 0], stopped[:, 1])
    lower, upper, discrepancies, statuses, *stops = (_spread(refits, part) for part in parts)
    return ProfileIntervals(lower, upper, discrepancies, statuses, Intervals(*stops))


@follows
def profile_contour(
    fit: Fit | GlobalFit,
    parameters: Sequence[str],
    *,
    level: ArrayLike = 0.95,
    distribution: str | None = None,
    num: int = 48,
    max_steps: int = 5000,
) -> Contour:
    """The edge of the joint confidence region of two parameters, the others refitted: Δχ² = 2·F·s².

    Found exactly along ``num`` directions from the estimate, equally spaced where the covariance's ellipse is a circle;
    for a linear model it is that ellipse. A region that such a ray leaves more than once is cut at an edge. Of a
    parameter at its bound it is the part inside: rays that leave the box at once end where they begin.

    Args:
        fit: as for ``profile``.
        parameters: two names, as in ``report.summary``: "a", or "w[0]" for a number in an array.
        level: of the two together.
        distribution: "t" takes F with 2 and dof degrees of freedom, "normal" χ² with 2.
        num: directions, static.
        max_steps: budget of each refit, static.

    Returns:
        Contour.

    Source: as for ``profile``.

    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> line = jaxreg.models.expression("a + b*x")
    >>> edge = profile_contour(jaxreg.curve_fit(line, x, y), ("a", "b"), num=4)
    >>> print(f"{edge.points[0, 0]:.2f}, {edge.points[0, 1]:.2f}")
    0.41, 0.86
    """
    num = _checks.count("num", num, least=3)
    problem, distribution = profiled(fit), distribution_of(fit, distribution)
    _checks.one_of("distribution", distribution, DISTRIBUTIONS)
    is_global = isinstance(fit, GlobalFit)
    names = _names.of(fit.of_shared.params if is_global else fit.params)
    free = names if is_global else [names[place] for place in flat_problem(problem).places]
    if len(parameters) != 2 or len(set(parameters)) != 2 or not set(parameters) <= set(free):
        raise ValueError(f"parameters must be two of {', '.join(free)}, got {parameters!r}")
    pair = jnp.array([free.index(name) for name in parameters])
    beyond = 1 - jnp.asarray(_checks.level(level), fit.chi2.dtype)
    # Twice the quantile of F(2, dof), and the quantile of χ² with 2 degrees of freedom.
    dof = fit.dof.astype(beyond.dtype)
    square = dof * (beyond ** (-2 / dof) - 1) if distribution == "t" else -2 * jnp.log(beyond)
    max_steps = _checks.count("max_steps", max_steps, least=0)
    return _contour(problem, arrays_of(fit), pair, jnp.sqrt(square), num=num, max_steps=max_steps)


@_jit.compiled("num", "max_steps")
def _contour(
    problem: Any, fit: Fit | GlobalFit, pair: Int[Array, "2"], target: Float[Array, ""], *, num: int, max_steps: int
) -> Contour:
    refits = _refits(problem, fit, max_steps)
    root = jnp.linalg.cholesky(_covariance(problem, refits)[pair[:, None], pair[None]])
    angle = jnp.linspace(0, 2 * jnp.pi, num, endpoint=False, dtype=root.dtype)
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    # One along a bound, up to rounding, is not to leave the box there.
    directions = jnp.where(jnp.abs(circle) > 8 * jnp.finfo(root.dtype).eps, circle, 0) @ root.T
    found = refits.over(lambda direction: edge(refits, pair, direction, target), directions)
    return Contour(found.values, found.status, found.at_bound)


def _spread(refits: Refits | Together, values: Array) -> Params:
    """(p, …) of the free parameters as a pytree of (…), with NaN (OK, or False) for the fixed ones."""
    leaves, structure = jax.tree.flatten(refits.fit.params)
    ends = np.cumsum([0] + [leaf.size for leaf in leaves])
    filler = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else 0  # OK, or not at a bound
    whole = jnp.full((ends[-1], *values.shape[1:]), filler, values.dtype).at[refits.places].set(values)
    parts = [
        whole[low:high].reshape(leaf.shape + values.shape[1:])
        for low, high, leaf in zip(ends[:-1], ends[1:], leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)
