"""Levenberg-Marquardt as functions of one fit's state: ``init``, and ``step`` while not ``finished``.

Steps are damped Gauss-Newton steps by QR, scaled by the running maximum of the Jacobian's column norms, with geodesic
acceleration. A robust loss enters as weights on the rows, bounds as an active set and a projection onto the box. It
ends when the next step is predicted to decrease the cost by less than 1e-20 of it, or than rounding can show.

Source: K. Levenberg, Quarterly of Applied Mathematics 2 (1944) 164; J. J. Moré, Lecture Notes in Mathematics 630 (1978)
105, for the scaling; H. B. Nielsen, report IMM-REP-1999-05, for the damping; M. K. Transtrum and J. P. Sethna,
arXiv:1201.5885 (2012), for the acceleration; D. M. Bates and D. G. Watts, Technometrics 23 (1981) 179, for the stop.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import qr_root, solve_upper
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._problem import Problem

FIRST_DAMPING = 1e-3  # relative to the scaled system
RELATIVE_OFFSET = 1e-10  # of the residuals' length
_LEAST_GAIN = 1e-4
_MOST_ACCELERATION = 0.3
MOST_STALLED = 3


class State(NamedTuple):
    """Where a fit stands, and the trial that it judges next."""

    params: Float[Array, "p"]  # of the free parameters
    residual: Float[Array, "n"]  # weighted by sigma
    jacobian: Float[Array, "p n"]  # of it
    noise: Float[Array, ""]  # the loss's unit at these residuals
    scale: Float[Array, "p"]  # running maximum of the Jacobian's column norms
    damping: Float[Array, ""]
    growth: Float[Array, ""]  # the factor of the damping at the next rejection
    moved: Float[Array, "p"]  # the step before
    trial: Float[Array, "p"]
    decrease: Float[Array, ""]  # of the cost, predicted for the trial
    trusted: Bool[Array, ""]  # such a decrease drowns in rounding: costs cannot be compared, and the model decides
    swings: Bool[Array, ""]  # it goes back on the step before, so less damping would overshoot more
    straight: Bool[Array, ""]  # the acceleration is small enough for the trial to be judged at all
    last_decrease: Float[Array, ""]  # the predicted decrease of the last trusted step
    stalled: Int[Array, ""]  # trusted steps that did not halve it
    startable: Bool[Array, ""]
    converged: Bool[Array, ""]
    num_steps: Int[Array, ""]  # trials judged; -1 before the start itself is


def init(problem: Problem, start: Float[Array, "p"]) -> State:
    """The state whose first trial is the start: no model is called yet, so that a program holds it only once."""
    one = jnp.ones((), start.dtype)
    yes, no = jnp.asarray(True), jnp.asarray(False)
    return State(
        params=start,
        residual=jnp.zeros(problem.num_rows, start.dtype),
        jacobian=jnp.zeros((start.size, problem.num_rows), start.dtype),
        noise=one,
        scale=jnp.zeros_like(start),
        damping=FIRST_DAMPING * one,
        growth=2 * one,
        moved=jnp.zeros_like(start),
        trial=start,
        decrease=one,
        trusted=no,
        swings=no,
        straight=yes,
        last_decrease=jnp.inf * one,
        stalled=jnp.zeros((), jnp.int32),
        startable=problem.valid,
        converged=no,
        num_steps=jnp.full((), -1, jnp.int32),
    )


def finished(state: State, max_steps: int) -> Bool[Array, ""]:
    """Whether nothing is left to do: converged, out of steps, or never to start."""
    return ~state.startable | state.converged | (state.num_steps >= max_steps)


def step(problem: Problem, state: State, *, accelerate: bool = True) -> State:
    """Judge the state's trial and propose the next one."""
    return propose(problem, judge(problem, state), accelerate=accelerate)


def judge(problem: Problem, state: State) -> State:
    """Accept the trial, or reject it and damp more."""
    residual, jacobian = problem.linearise(state.trial)
    # Written so that a NaN rejects.
    finite = jnp.isfinite(residual).all() & jnp.isfinite(jacobian).all() & jnp.isfinite(state.trial).all()
    first = state.num_steps < 0
    gain = (problem.cost(state.residual, state.noise) - problem.cost(residual, state.noise)) / state.decrease
    gain = jnp.where(state.decrease > 0, gain, -jnp.inf)  # a step bent by two walls may lead uphill, as predicted
    gain = jnp.where(state.trusted, jnp.where(state.swings, 0.5, 1), gain)
    accept = finite & (first | ((state.straight | state.trusted) & (gain > _LEAST_GAIN)))

    shrink = jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
    # Where costs say nothing any more damping has nothing to guard against, and holds weak combinations where they are.
    shrink = jnp.where(state.trusted & ~state.swings, 0.01, shrink)
    damping = jnp.where(accept, state.damping * shrink, state.damping * state.growth)
    # No floor but the smallest number: NIST's MGH10 has a column that shrinks by 1e48 against its running maximum, and
    # a floor of eps² would hold that parameter where it is.
    limits = jnp.finfo(damping.dtype)
    residual = jnp.where(accept, residual, state.residual)
    return state._replace(
        params=jnp.where(accept, state.trial, state.params),
        moved=jnp.where(accept, state.trial - state.params, 0),
        residual=residual,
        noise=problem.noise(residual),
        jacobian=jnp.where(accept, jacobian, state.jacobian),
        damping=jnp.where(first, state.damping, jnp.clip(damping, limits.tiny, 1 / limits.eps**2)),
        growth=jnp.where(accept, 2, 2 * state.growth),
        startable=state.startable & (finite | ~first),
        num_steps=state.num_steps + 1,
    )


def propose(problem: Problem, state: State, *, accelerate: bool) -> State:
    """Solve for the next trial, unless the state is at the optimum."""
    params, damping = state.params, state.damping
    slope, root = problem.weights(state.residual, state.noise)
    system, columns, scale = _system(problem, state, slope, root)
    triangle, velocity = _solve(system.slopes, system.values, damping)
    decrease = jnp.sum((velocity @ system.slopes) ** 2) + 2 * damping * jnp.sum(velocity**2)

    size = jnp.linalg.norm(slope)
    # At most what it is at the first damping: a parameter that is held by more must not look as if it had arrived.
    most = decrease * jnp.maximum(1, damping / FIRST_DAMPING)
    small = most <= (RELATIVE_OFFSET * size) ** 2
    reach = size * problem.size + jnp.linalg.norm(system.values) * jnp.vdot(jnp.abs(params), columns)
    floor = 4 * jnp.finfo(size.dtype).eps * (problem.cost(state.residual, state.noise) + reach)
    below = decrease <= floor
    # One that grows since damping was taken away, which lets more be gained, has not stalled.
    eased = ~state.swings & (damping > jnp.finfo(size.dtype).eps ** 2)
    grows = eased & (decrease > 2 * state.last_decrease)
    stalled = state.stalled + (below & (decrease > 0.5 * state.last_decrease) & ~grows).astype(jnp.int32)

    straight, change = jnp.asarray(True), velocity
    if accelerate:
        bend = root * problem.second_derivative(params, velocity / system.unit)
        # By the normal equations' factor: it need not have more than its leading digits.
        acceleration = -solve_upper(triangle, solve_upper(triangle, system.slopes @ bend, transposed=True))
        straight = 2 * jnp.linalg.norm(acceleration) <= _MOST_ACCELERATION * jnp.linalg.norm(velocity)
        change = jnp.where(below, velocity, velocity + acceleration / 2)
    trial, predicted = params + change / system.unit, decrease
    if problem.bounds is not None:
        trial, predicted = _into_box(problem.bounds, params, trial, velocity, decrease, system, damping)
    return state._replace(
        scale=scale,
        trial=trial,
        decrease=predicted,
        straight=straight,
        trusted=jnp.abs(predicted) <= floor,
        swings=jnp.vdot(velocity, system.unit * state.moved) < 0,
        last_decrease=jnp.where(below, decrease, state.last_decrease),
        stalled=stalled,
        converged=small | ((stalled >= MOST_STALLED) & (most <= floor)),
    )


class _System(NamedTuple):
    """The linear model of the residuals, weighted by the loss: values + jacobianᵀ·step."""

    values: Float[Array, "n"]
    jacobian: Float[Array, "p n"]
    unit: Float[Array, "p"]  # of each parameter
    slopes: Float[Array, "p n"]  # the Jacobian in those units, zero for parameters that cannot move


def _system(
    problem: Problem, state: State, slope: Float[Array, "n"], root: Float[Array, "n"]
) -> tuple[_System, Float[Array, "p"], Float[Array, "p"]]:
    """The linear model, the norms of the Jacobian's columns, and their running maximum."""
    values, jacobian = slope / jnp.where(root > 0, root, 1), root[None] * state.jacobian
    columns = jnp.linalg.norm(jacobian, axis=1)
    scale = jnp.maximum(state.scale, columns)
    unit = jnp.where(scale > 0, scale, 1)
    free = problem.free(state.params, jacobian @ values)
    slopes = jnp.where(free[:, None], jacobian / unit[:, None], 0)
    return _System(values, jacobian, unit, slopes), columns, scale


def _into_box(
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]],
    params: Float[Array, "p"],
    trial: Float[Array, "p"],
    velocity: Float[Array, "p"],
    decrease: Float[Array, ""],
    system: _System,
    damping: Float[Array, ""],
) -> tuple[Float[Array, "p"], Float[Array, ""]]:
    """A trial inside the bounds, and the decrease that the linear model predicts for it."""
    # Judged without the acceleration, which may point out of the box where the velocity points into it.
    straight_on = params + velocity / system.unit
    inside = jnp.clip(straight_on, *bounds)
    blocked = inside != straight_on
    # What leaves the box ends at its wall, and the others are solved for again.
    shift = jnp.where(blocked, inside - params, 0)
    slopes = jnp.where(blocked[:, None], 0, system.slopes)
    _, rest = _solve(slopes, system.values + shift @ system.jacobian, damping)
    inside = jnp.where(blocked, inside, jnp.clip(params + rest / system.unit, *bounds))
    along = (inside - params) @ system.jacobian
    hits = blocked.any()
    predicted = jnp.where(hits, -jnp.vdot(along, 2 * system.values + along), decrease)
    leaves = (jnp.clip(trial, *bounds) != trial).any()
    return jnp.where(hits, inside, jnp.where(leaves, straight_on, trial)), predicted


def _solve(
    slopes: Float[Array, "p n"], values: Float[Array, "n"], damping: Float[Array, ""]
) -> tuple[Float[Array, "p p"], Float[Array, "p"]]:
    """R of a QR of slopesᵀ with √damping·I below it, and argmin ‖slopesᵀ v + values‖² + damping·‖v‖²."""
    num_params = slopes.shape[0]
    below = jnp.sqrt(damping) * jnp.eye(num_params + 1, num_params, dtype=slopes.dtype)
    # With the values as one more column their projection stands beside R, and Q is never formed.
    root = qr_root(jnp.hstack([jnp.concatenate([slopes, values[None]]), below]))
    triangle = root[:num_params, :num_params]
    return triangle, -solve_upper(triangle, root[:num_params, num_params])
