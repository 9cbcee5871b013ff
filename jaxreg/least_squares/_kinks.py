"""Optima that the whole step does not tell, as all that it leads to is refused however short it is made.

At a kink the model's derivative jumps, as at the break of a segmented line that lies on a data point: from either side
of it the other one looks downhill. What tells is the step along the kink: where it has nothing to gain either, that is
an optimum. A heavy weight on the jump of each residual's derivative holds the step to where both sides agree.

At a degenerate optimum a column of the Jacobian vanishes, as that of exp(-b²x) does at b = 0, or two coincide, and the
whole step is as long as the column is short. What tells is Newton's step, by the second derivatives of the cost.

Source: F. H. Clarke, Optimization and Nonsmooth Analysis (1983), section 2.3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._linear_algebra import inverse_upper, qr_root
from jaxreg._shapes import Bool, Float
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._optimum import Linear, least_damping, linearised
from jaxreg.least_squares._triangles import Triangles

_TRIALS = 16
_MUCH = 16  # times the square of what a smooth model's derivative may change by


def minimise(problem: FlatProblem, max_steps: int) -> State:
    """Steps until an optimum, smooth or at a kink, or until the budget is spent.

    For a problem that is not ``careful`` until the first kink, which they leave blocked.
    """

    def to_the_next_kink(state: State) -> State:
        return resolve(problem, levenberg_marquardt.advanced(problem, state, max_steps))

    start = levenberg_marquardt.init(problem, problem.start)
    if not problem.careful:
        return levenberg_marquardt.ended(problem, to_the_next_kink(start))
    end = lax.while_loop(lambda state: ~levenberg_marquardt.finished(state, max_steps), to_the_next_kink, start)
    return levenberg_marquardt.ended(problem, end)


@jax.custom_jvp
def without_derivative(value: Float[Array, "p"], kink: Bool[Array, ""]) -> Float[Array, "p"]:
    """The value, with NaN for its derivative at a kink: how that moves with the data its gradient does not tell."""
    del kink
    return value


@without_derivative.defjvp
def _without_derivative_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    value, kink = primals
    return value, tangents[0] * jnp.where(kink, jnp.nan, jnp.ones((), value.dtype))


class _Search(NamedTuple):
    step: Float[Array, "p"]  # of the parameters, along the kinks that have been met
    gain: Float[Array, ""]  # of the cost, predicted for it
    jumps: Float[Array, "p n"]  # of the derivative across them, of length 1; zero for all other residuals
    beyond: Float[Array, "p"]  # parameters across them
    larger: Bool[Array, ""]  # whether errors are larger there
    trial: Float[Array, "p"]  # along the step, of the least cost
    lower: Float[Array, ""]  # by how much it is less
    going: Bool[Array, ""]


def resolve(problem: FlatProblem, state: State) -> State:
    """Say of a blocked state that it is at a kink, or find the step that leads on. Others stay as they are."""
    if not problem.careful:
        return state
    return lax.cond(state.blocked, functools.partial(_resolved, problem), lambda state: state, state)


def _resolved(problem: FlatProblem, state: State) -> State:
    cost, noise = state.here.cost, state.here.noise
    residual, jacobian = problem.linearise(state.params)
    linear = linearised(problem, state.params, state.here, state.size)
    newton, stationary, hessian = _newton(problem, state.params, residual, jacobian, noise, linear.floor)
    # Of what bends the cost along the whole step the Jacobian has next to nothing.
    whole = linear.norms * (state.last - state.params)
    whole = whole / jnp.max(jnp.abs(whole), initial=jnp.finfo(whole.dtype).tiny)
    bent = jnp.abs(jnp.vdot(whole / linear.norms, hessian @ (whole / linear.norms)))
    stationary &= jnp.sum(linear.triangles.times(whole) ** 2) <= float(jnp.finfo(whole.dtype).eps) ** 0.5 * bent
    least = jnp.maximum(linear.floor, 16 * float(jnp.finfo(cost.dtype).eps) * state.here.square)

    def arrived(search: _Search) -> Array:
        return search.jumps.any() & (search.gain <= least)

    def body(search: _Search) -> _Search:
        lengths = _lengths(linear.floor / jnp.maximum(search.gain, linear.floor))
        points = state.params[None] + lengths[:, None] * search.step[None]
        if problem.bounds is not None:
            points = jnp.clip(points, *(bound[None] for bound in problem.bounds))
        costs = jax.vmap(lambda point: problem.cost_at(point, noise))(points)
        lower = cost - jnp.where(jnp.isnan(costs), jnp.inf, costs)
        best = jnp.argmax(lower)
        # A step that does lower the cost is blocked by nothing. Nor is one along which the derivative changes the less
        # the shorter it is, as that of a smooth model does, or no more than the second derivatives say; across a kink
        # it changes as much at once. Rows that have died out turn nothing.
        residuals, jacobians = jax.vmap(problem.linearise)(points[:2])
        there, here = jacobians / linear.norms[None, :, None], jacobian / linear.norms[:, None]
        far, near = jnp.sum((there - here[None]) ** 2, axis=1)
        bends = jax.vmap(functools.partial(problem.second_derivative, state.params, lengths[1] * search.step))
        foreseen = jnp.sum(bends(jnp.diag(1 / linear.norms)) ** 2, axis=0)
        turned = (near > far / 4) & (near > _MUCH * foreseen) & (near > float(jnp.finfo(near.dtype).eps))
        # And across a kink it goes uphill: a model that has died out is flat there.
        blocked = (lower[best] <= linear.floor) & (lower[0] < -linear.floor) & jnp.isfinite(jacobians).all()
        met = blocked & turned & ~(search.jumps != 0).any(axis=0)
        jumps = jnp.where(met[None], (there[1] - here) / jnp.sqrt(jnp.where(met, near, 1))[None], search.jumps)
        step, gain = _along(linear, jumps)
        across = linearised(problem, points[1], problem.look_of(residuals[1], jacobians[1], noise), state.size)
        new = met.any()
        found = _Search(
            step=step,
            gain=gain,
            jumps=jumps,
            beyond=jnp.where(new, points[1], search.beyond),
            larger=jnp.where(new, _larger(across, linear), search.larger),
            trial=points[best],
            lower=lower[best],
            going=new,
        )
        return found._replace(going=new & ~arrived(found))

    step, gain = _along(linear, jnp.zeros_like(jacobian))
    no, zero = jnp.asarray(False), jnp.zeros_like(cost)
    start = _Search(step, gain, jnp.zeros_like(jacobian), state.params, no, state.params, zero, state.blocked)
    end = lax.while_loop(lambda search: search.going, body, start)
    lower = cost - problem.cost_at(newton, noise)
    trial, lower = jnp.where(lower > end.lower, newton, end.trial), jnp.fmax(lower, end.lower)
    leads_on = lower > linear.floor
    degenerate = stationary & ~leads_on
    kink = arrived(end) & ~stationary & ~leads_on
    return levenberg_marquardt.begun_anew(state, leads_on)._replace(
        trial=jnp.where(leads_on, trial, state.trial),
        decrease=jnp.where(leads_on, lower, state.decrease),
        straight=state.straight | leads_on,
        trusted=state.trusted & ~leads_on,
        converged=kink | degenerate,
        kink=kink,
        degenerate=degenerate,
        side=jnp.where(degenerate, state.last, jnp.where(kink & end.larger, end.beyond, state.params)),
        blocked=no,
        visits=state.visits + 1,
    )


def _newton(
    problem: FlatProblem,
    params: Float[Array, "p"],
    residual: Float[Array, "n"],
    jacobian: Float[Array, "p n"],
    noise: Float[Array, "*k"],
    floor: Float[Array, ""],
) -> tuple[Float[Array, "p"], Bool[Array, ""], Float[Array, "p p"]]:
    """Where Newton's step leads, whether it has nothing to gain, and half the second derivatives of the cost."""
    slope = problem.slope(residual, noise)
    gradient, columns = jacobian @ slope, jnp.eye(params.size, dtype=params.dtype)

    def bent(one: Float[Array, "p"]) -> Float[Array, "p"]:
        return jax.vmap(functools.partial(problem.second_derivative, params, one))(columns) @ slope

    hessian = (jacobian * problem.curvature(residual, noise)[None]) @ jacobian.T + lax.map(bent, columns)
    free = problem.free(params, gradient)
    gradient, hessian = jnp.where(free, gradient, 0), jnp.where(free[:, None] & free[None], hessian, 0)
    size = jnp.sqrt(jnp.abs(jnp.diagonal(hessian)))
    size = jnp.where(size > 0, size, 1)
    scaled, slopes = gradient / size, hessian / size[:, None] / size[None]
    velocity = _whole(slopes, scaled)
    rest = slopes @ velocity + scaled  # what no step can take away
    end = params + velocity / size
    if problem.bounds is not None:
        end = jnp.clip(end, *problem.bounds)
    return end, (jnp.vdot(velocity, velocity) <= floor) & (jnp.vdot(rest, rest) <= floor), hessian


def _lengths(share: Float[Array, ""]) -> Float[Array, "k"]:
    """Of trials in whole steps, from the floor's share of what the whole one gains.

    The first is longer than the last steps that were refused, but so short that a smooth model's derivative is nearly
    the same there, and the second shorter still. The others reach from where rounding hides the gain to the whole step.
    """
    probe = jnp.clip(jnp.maximum(jnp.sqrt(share), 1e3 * share), max=0.1)
    return jnp.concatenate([jnp.stack([probe, probe / 64]), jnp.geomspace(jnp.minimum(4 * share, 0.1), 1, _TRIALS)])


def _along(linear: Linear, jumps: Float[Array, "p n"]) -> tuple[Float[Array, "p"], Float[Array, ""]]:
    """The whole step that crosses none of these kinks, and the decrease of the cost that it promises."""
    slopes, rest = linear.triangles.shared[0], linear.triangles.rest[0]
    count, heavy = rest.size, 1 / float(jnp.finfo(jumps.dtype).eps) ** 0.5
    # The jumps of all residuals in as many rows as parameters, and the linear model below them.
    weights = heavy * qr_root(jumps)
    root = qr_root(jnp.hstack([jnp.pad(weights.T, ((0, 1), (0, 0))), jnp.concatenate([slopes.T, rest[None]])]))
    velocity = _whole(root[:count, :count], root[:count, count])
    along = slopes @ velocity
    return velocity / linear.norms, -jnp.vdot(along, 2 * rest + along)


def _larger(first: Linear, second: Linear) -> Bool[Array, ""]:
    """Whether the parameters' variances are larger, in their mean ratio, by the first."""
    inverses = (inverse_upper(linear.triangles.shared[0])[0] / linear.norms[:, None] for linear in (first, second))
    one, other = (jnp.sum(inverse**2, axis=1) for inverse in inverses)
    return jnp.sum(one / (one + other)) > one.size / 2


def _whole(slopes: Float[Array, "p p"], rest: Float[Array, "p"]) -> Float[Array, "p"]:
    """The whole step of a linear model."""
    triangles = Triangles(jnp.zeros((1, *rest.shape, 0), rest.dtype), slopes[None], rest[None])
    return triangles.damped(jnp.full_like(rest, least_damping(rest.dtype))).solved()
