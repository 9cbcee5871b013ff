"""Least absolute deviations and quantile regression, for models linear in their parameters: a linear program.

An interior point method brings the duality gap to rounding; its dual says through which points the optimum goes, and
those are solved for, so that a vertex is exact and differentiable.

Source: S. Portnoy and R. Koenker, Statistical Science 12 (1997) 279, algorithm of section 4.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import ndtri
from jax.scipy.stats import norm

from jaxreg import covariance
from jaxreg._linear_algebra import lengths, qr_root
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import FlatProblem, Options
from jaxreg.least_squares._result import assemble
from jaxreg.status import Status

_MOST_STEPS = 100
_SHORTEN = 0.9995
_GAP = 1e-10  # relative to the objective


def solve(problem: FlatProblem, q: Array, options: Options) -> Fit:
    """The fit that minimises Σ q·max(e, 0) + (1 - q)·max(-e, 0) of the weighted residuals e = (y - model)/sigma."""
    q = q.astype(problem.start.dtype)
    valid = problem.valid & (q > 0) & (q < 1)
    residual, jacobian = problem.linearise(problem.start)
    finite = jnp.isfinite(residual).all() & jnp.isfinite(jacobian).all()
    usable = finite & valid
    target, design = jnp.where(usable, -residual, 0), jnp.where(usable, jacobian, 1)

    basis, rows = jax.tree.map(lax.stop_gradient, _basis(design))
    rotated, aims = jnp.hstack([basis @ design, rows]), jnp.concatenate([target, jnp.zeros_like(problem.start)])
    point = lax.stop_gradient(_interior_point(lax.stop_gradient(rotated), lax.stop_gradient(aims), q, options))
    step = _vertex(rotated, aims, q, point) @ basis
    params = problem.start + step
    error = target - step @ design
    estimate = _covariance(problem, options.covariance, design, error, q)

    status = jnp.where(point.converged, Status.OK, Status.MAX_STEPS)
    status = jnp.where(estimate.regular, status, Status.SINGULAR)
    status = jnp.where(finite, status, Status.NONFINITE)
    status = jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32)
    params = jnp.where(usable, params, problem.start)
    return assemble(problem, params, status, point.num_steps, estimate, jnp.ones(params.shape, bool))


def _basis(design: Float[Array, "p n"]) -> tuple[Float[Array, "p p"], Float[Array, "p p"]]:
    """Combinations of the parameters, in rows, of which the data determine each wholly or not at all.

    And as columns more points for the program, which hold the latter at the start. Where the data determine all they
    are the parameters themselves, and the points are none, like those that a mask takes out.
    """
    norms = lengths(design)
    norms = jnp.where(norms > 0, norms, 1)
    _, values, directions = jnp.linalg.svd(qr_root(design / norms[:, None]))
    spare = values <= max(design.shape) * jnp.finfo(values.dtype).eps * design.shape[0] ** 0.5
    whole = jnp.eye(design.shape[0], dtype=design.dtype)
    return jnp.where(spare.any(), directions / norms[None], whole), whole * spare[None].astype(whole.dtype)


class _Point(NamedTuple):
    step: Float[Array, "p"]  # minus the program's dual variables
    x: Float[Array, "n"]  # its variables, between 0 and 1
    s: Float[Array, "n"]  # 1 - x, which near x = 1 has more digits
    z: Float[Array, "n"]  # multipliers of x > 0
    w: Float[Array, "n"]  # and of x < 1
    converged: Bool[Array, ""]
    num_steps: Int[Array, ""]


def _interior_point(
    design: Float[Array, "p n"], target: Float[Array, "n"], q: Float[Array, ""], options: Options
) -> _Point:
    """Mehrotra's predictor and corrector on: minimise -targetᵀx where design x = (1 - q) design 1 and 0 < x < 1."""
    scale = lengths(design)
    scale = jnp.where(scale > 0, scale, 1)
    design = design / scale[:, None]
    first = _least_squares(design, jnp.ones_like(target))(target)
    rest = target - first @ design
    unit = jnp.mean(jnp.abs(rest))
    unit = jnp.where(unit > 0, unit, 1)
    rest = rest / unit
    slack = jnp.where(rest == 0, 1e-3, -rest)
    start = _Point(
        step=jnp.zeros_like(first),
        x=jnp.ones_like(target) * (1 - q),
        s=jnp.ones_like(target) * q,
        z=jnp.maximum(slack, 0),
        w=jnp.maximum(-slack, 0),
        converged=jnp.asarray(False),
        num_steps=jnp.zeros((), jnp.int32),
    )
    budget = min(options.max_steps, _MOST_STEPS)

    def body(point: _Point) -> _Point:
        new = _advance(design, point)
        kept = jnp.isfinite(new.step).all() & jnp.isfinite(new.x).all()
        new = jax.tree.map(lambda after, before: jnp.where(kept, after, before), new, point)
        objective = jnp.sum(_pinball(rest - new.step @ design, q))
        gap = jnp.vdot(new.x, new.z) + jnp.vdot(new.s, new.w)
        small = gap <= _tolerance(gap) * objective
        return new._replace(converged=small, num_steps=jnp.where(kept, point.num_steps + 1, budget))

    end = lax.while_loop(lambda point: ~point.converged & (point.num_steps < budget), body, start)
    return end._replace(step=(first + unit * end.step) / scale)


def _advance(design: Float[Array, "p n"], point: _Point) -> _Point:
    _, x, s, z, w, _, _ = point
    weight = 1 / (z / x + w / s)
    solve = _least_squares(design, jnp.sqrt(weight))

    def newton(
        to_x: Array | float, to_s: Array | float
    ) -> tuple[Float[Array, "p"], Float[Array, "n"], Float[Array, "n"], Float[Array, "n"]]:
        """The step after which x·z and s·w are these, to first order."""
        rest = z - w - to_x / x + to_s / s
        dual = solve(rest)
        dx = weight * (dual @ design - rest)
        return dual, dx, (to_x - z * dx) / x - z, (to_s + w * dx) / s - w

    _, dx, dz, dw = newton(0.0, 0.0)
    primal, other = _reach(point, dx, dz, dw)
    gap = jnp.vdot(z, x) + jnp.vdot(w, s)
    after = jnp.vdot(z + other * dz, x + primal * dx) + jnp.vdot(w + other * dw, s - primal * dx)
    mu = gap * (after / gap) ** 3 / (2 * x.size)
    dual, dx, dz, dw = newton(mu - dx * dz, mu + dx * dw)  # the second-order products of the first step taken off
    primal, other = _reach(point, dx, dz, dw)
    x, s = x + primal * dx, s - primal * dx
    return point._replace(step=point.step - other * dual, x=x, s=s, z=z + other * dz, w=w + other * dw)


def _reach(
    point: _Point, dx: Float[Array, "n"], dz: Float[Array, "n"], dw: Float[Array, "n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The lengths of the steps, at most 1, that keep x inside and the multipliers positive."""

    def longest(value: Float[Array, "n"], change: Float[Array, "n"]) -> Float[Array, ""]:
        falls = change < 0
        return jnp.min(jnp.where(falls, -value / jnp.where(falls, change, -1), jnp.inf))

    primal = jnp.minimum(longest(point.x, dx), longest(point.s, -dx))
    dual = jnp.minimum(longest(point.z, dz), longest(point.w, dw))
    return jnp.minimum(_SHORTEN * primal, 1), jnp.minimum(_SHORTEN * dual, 1)


def _least_squares(design: Float[Array, "p n"], root: Float[Array, "n"]) -> Callable[[Array], Array]:
    """values -> argmin Σ root² (designᵀ b - values)²."""
    q, r = jnp.linalg.qr((design * root[None]).T)
    return lambda values: solve_triangular(r, (root * values) @ q)


def _vertex(
    design: Float[Array, "p n"], target: Float[Array, "n"], q: Float[Array, ""], point: _Point
) -> Float[Array, "p"]:
    """The solution through the points whose dual variables are furthest from 0 and 1, if it is no worse."""
    inside = jnp.where((design != 0).any(axis=0), jnp.minimum(point.x, point.s), -1)  # not one that is not there
    _, rows = lax.top_k(inside, design.shape[0])
    corner = jnp.linalg.solve(design[:, rows].T, target[rows])
    before, after = (jnp.sum(_pinball(target - step @ design, q)) for step in (point.step, corner))
    better = after <= before * (1 + _tolerance(before))  # false for a NaN
    return jnp.where(better, corner, point.step)


def _tolerance(value: Array) -> float:
    return max(_GAP, 50 * float(jnp.finfo(value.dtype).eps))


def _pinball(error: Float[Array, "n"], q: Float[Array, ""]) -> Float[Array, "n"]:
    return jnp.where(error > 0, q, q - 1) * error


def _covariance(
    problem: FlatProblem, kind: str, design: Float[Array, "p n"], error: Float[Array, "n"], q: Float[Array, ""]
) -> covariance.Covariance:
    """With the density of the errors at zero for the loss's curvature.

    "classic" takes them as independent of the features: q(1 - q)/f² (ΣJJᵀ)⁻¹ with f = Σ K(eᵢ/h)/(nh); a sandwich has
    the bread Σ K(eᵢ/h)/h JᵢJᵢᵀ, with the density that each row's own errors have.

    Source: J. L. Powell, in Nonparametric and Semiparametric Methods in Econometrics and Statistics (1991) 357; for the
    bandwidth P. Hall and S. J. Sheather, Journal of the Royal Statistical Society B 50 (1988) 381.
    """
    counted = problem.counted
    total = counted.sum().astype(error.dtype)
    width = _bandwidth(error, counted, total, q)
    unit = jnp.where(width > 0, width, 1)  # it is 0 where all errors are
    kernel = jnp.where(counted & (jnp.abs(error) < unit), 0.75 * (1 - (error / unit) ** 2), 0)
    left = jnp.where(total > len(design), 1, jnp.nan)
    if kind in ("classic", "H1"):
        found = covariance.estimate(kind, design, error, counted=counted, absolute_sigma=True)
        size = left * jnp.sqrt(q * (1 - q)) * width * total / kernel.sum()
    else:
        # The points that the optimum goes through have no sign, but the expected square.
        through = jnp.abs(error) <= 100 * jnp.finfo(error.dtype).eps * problem.size
        slope = jnp.where(through, jnp.sqrt(q * (1 - q)), jnp.where(error > 0, q, q - 1))
        found = covariance.estimate(kind, design, slope, kernel, counted=counted)
        size = left * width
    return found._replace(matrix=found.matrix * size**2, stderr=found.stderr * size)


def _bandwidth(
    error: Float[Array, "n"], counted: Bool[Array, "n"], total: Float[Array, ""], q: Float[Array, ""]
) -> Float[Array, ""]:
    normal = ndtri(q)
    fraction = (
        total ** (-1 / 3) * ndtri(0.975) ** (2 / 3) * (1.5 * norm.pdf(normal) ** 2 / (2 * normal**2 + 1)) ** (1 / 3)
    )
    # Halved until q ± fraction lies inside (0, 1), as in R's quantreg: few points and an outer q reach beyond.
    room = jnp.minimum(q, 1 - q)
    fraction = fraction / 2 ** jnp.maximum(jnp.floor(jnp.log2(fraction / room)) + 1, 0)
    values = jnp.sort(jnp.where(counted, error, jnp.inf))

    def quantile(level: float) -> Float[Array, ""]:
        place = level * (total - 1)
        below = jnp.floor(place)
        low, high = values[below.astype(int)], values[jnp.ceil(place).astype(int)]
        return low + (place - below) * (high - low)

    mean = jnp.where(counted, error, 0).sum() / total
    deviation = jnp.sqrt(jnp.where(counted, (error - mean) ** 2, 0).sum() / total)
    middle = (quantile(0.75) - quantile(0.25)) / 1.34
    spread = jnp.where(middle > 0, jnp.minimum(deviation, middle), deviation)
    return spread * (ndtri(q + fraction) - ndtri(q - fraction))
