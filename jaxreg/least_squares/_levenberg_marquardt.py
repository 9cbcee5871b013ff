"""Levenberg-Marquardt as functions of one fit's state: ``init``, and ``step`` while not ``finished``.

Steps are damped Gauss-Newton steps by QR, scaled by the running maximum of the Jacobian's column norms, with geodesic
acceleration. A robust loss enters as weights on the rows, bounds as an active set and a projection onto the box. Each
look at the residuals ends in as many rows as parameters; every step that is asked of it is solved for in those.

Source: K. Levenberg, Quarterly of Applied Mathematics 2 (1944) 164; J. J. Moré, Lecture Notes in Mathematics 630 (1978)
105, for the scaling; H. B. Nielsen, report IMM-REP-1999-05, for the damping; M. K. Transtrum and J. P. Sethna,
arXiv:1201.5885 (2012), for the acceleration.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._look import Look, Residuals, Steered
from jaxreg.least_squares._optimum import is_optimum, linearised
from jaxreg.least_squares._step import into_box, steps_of

_FIRST_DAMPING = 1e-3  # relative to the scaled system
_LEAST_GAIN = 1e-4
_MOST_ACCELERATION = 0.3
_MUCH = 100  # times what rounding hides
_MOST_VISITS = 30
_MOST_IDLE = 20  # trials; a refused step is damped beyond what any floats tell in 15
_UNSETTLED = 1e-6  # of the square: combinations that are so weak that the whole step, damped, does not see them


class State(NamedTuple):
    """Where a fit stands, and the trial that it judges next."""

    params: Float[Array, "p"]  # of the free parameters
    here: Look  # what was seen there
    size: Float[Array, ""]  # of targets that are all zero: the least reach of the linear model that was met
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
    mark: Float[Array, ""]  # the cost when a step last lowered it by more than rounding hides
    idle: Int[Array, ""]  # trials since
    blocked: Bool[Array, ""]  # there were many, and no optimum
    visits: Int[Array, ""]  # how often that was looked into
    kink: Bool[Array, ""]  # converged where the derivative jumps
    degenerate: Bool[Array, ""]  # converged where columns all but vanish or depend on each other
    pole: Bool[Array, ""]  # a trial was met whose derivative alone is not finite
    last: Float[Array, "p"]  # where the whole step leads
    ceiling: Float[Array, ""]  # of the cost that rounding cannot tell from this one
    side: Float[Array, "p"]  # at a kink, where the derivatives for the errors are taken; if degenerate, what leads away
    num_steps: Int[Array, ""]  # trials judged; -1 before the start itself is


def init(problem: Steered, start: Float[Array, "p"]) -> State:
    """The state whose first trial is the start: no model is called yet, so that a program holds it only once."""
    one = jnp.ones((), start.dtype)
    yes, no = jnp.asarray(True), jnp.asarray(False)
    return State(
        params=start,
        here=problem.unseen(),
        size=jnp.inf * one,
        scale=jnp.zeros_like(start),
        damping=_FIRST_DAMPING * one,
        growth=2 * one,
        moved=jnp.zeros_like(start),
        trial=start,
        decrease=one,
        trusted=no,
        swings=no,
        straight=yes,
        last_decrease=jnp.inf * one,
        stalled=jnp.zeros((), jnp.int32),
        startable=problem.startable,
        converged=no,
        mark=jnp.inf * one,
        idle=jnp.zeros((), jnp.int32),
        blocked=no,
        visits=jnp.zeros((), jnp.int32),
        kink=no,
        degenerate=no,
        pole=no,
        last=start,
        ceiling=one,
        side=start,
        num_steps=jnp.full((), -1, jnp.int32),
    )


def finished(state: State, max_steps: int | Int[Array, ""]) -> Bool[Array, ""]:
    """Whether nothing is left for steps to do: converged, out of steps, blocked, or never to start."""
    return ~state.startable | state.converged | state.blocked | (state.num_steps >= max_steps)


def advanced(problem: Residuals, state: State, max_steps: int, most: Int[Array, ""] | None = None) -> State:
    """Steps until the state is finished, or until there were as many as ``most``, if that is given."""
    last = None if most is None else state.num_steps + most

    def going(state: State) -> Bool[Array, ""]:
        left = ~finished(state, max_steps)
        return left if last is None else left & (state.num_steps < last)

    return lax.while_loop(going, functools.partial(step, problem), state)


def step(problem: Residuals, state: State) -> State:
    """Judge the state's trial and propose the next one."""
    return propose(problem, judge(problem, state))


def judge(problem: Residuals, state: State) -> State:
    """Accept the trial, or reject it and damp more."""
    return judged(problem, state, problem.look(state.trial, state.here.noise))


def judged(problem: Steered, state: State, there: Look) -> State:
    """The same, where somebody has looked at the trial."""
    here = state.here
    # Written so that a NaN rejects.
    first, finite = state.num_steps < 0, jnp.isfinite(there.before) & jnp.isfinite(state.trial).all()
    pole, finite = state.pole | (finite & ~there.smooth), finite & there.smooth
    gain = (here.cost - there.before) / state.decrease
    gain = jnp.where(state.decrease > 0, gain, -jnp.inf)  # a step bent by two walls may lead uphill, as predicted
    trusted = state.trusted & (there.before <= state.ceiling)  # rounding, whatever it does, raises no cost above that
    gain = jnp.where(trusted, jnp.where(state.swings, 0.5, 1), gain)
    accept = finite & (first | ((state.straight | trusted) & (gain > _LEAST_GAIN)))

    shrink = jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
    # Where costs say nothing any more damping has nothing to guard against, and holds weak combinations where they are.
    shrink = jnp.where(trusted & ~state.swings, 0.01, shrink)
    if problem.scaled:
        # A step lowers the cost in the scale from before it, and changes that: whole steps may go round for ever.
        shrink = jnp.where(state.swings, 4, shrink)
    damping = jnp.where(accept, state.damping * shrink, state.damping * state.growth)
    # No floor but the smallest number: NIST's MGH10 has a column that shrinks by 1e48 against its running maximum, and
    # a floor of eps² would hold that parameter where it is.
    limits = jnp.finfo(damping.dtype)
    return state._replace(
        params=jnp.where(accept, state.trial, state.params),
        here=jax.tree.map(lambda new, old: jnp.where(accept, new, old), there, here),
        moved=jnp.where(accept, state.trial - state.params, 0),
        damping=jnp.where(first, state.damping, jnp.clip(damping, limits.tiny, 1 / limits.eps**2)),
        growth=jnp.where(accept, 2, 2 * state.growth),
        # A cost that grows with its unit undoes no step.
        mark=jnp.where(accept, state.mark + (there.cost - there.before), state.mark),
        startable=state.startable & (finite | ~first),
        pole=pole,
        num_steps=state.num_steps + 1,
    )


def ended(problem: Residuals, state: State) -> State:
    """With the last step, which was solved for when the test for convergence passed."""
    return with_last_step(state, problem.cost_at(state.last, state.here.noise))


def with_last_step(state: State, cost: Float[Array, ""]) -> State:
    """The same from the cost there, unless the step is a bad one.

    Where a combination of parameters is all but undetermined it is long, and the linear model may not reach so far.
    """
    taken = state.converged & ~state.kink & ~state.degenerate & (cost <= state.ceiling)  # a NaN is not
    return state._replace(params=jnp.where(taken, state.last, state.params))


def begun_anew(state: State, when: Bool[Array, ""]) -> State:
    """Steered as at the start."""
    return state._replace(
        damping=jnp.where(when, _FIRST_DAMPING, state.damping),
        growth=jnp.where(when, 2, state.growth),
        last_decrease=jnp.where(when, jnp.inf, state.last_decrease),
        stalled=jnp.where(when, 0, state.stalled),
    )


def propose(problem: Steered, state: State) -> State:
    """Solve for the next trial, or say that only the last step is left."""
    here = state.here
    linear = linearised(problem, state.params, here, state.size)
    norms, scale = linear.norms, jnp.maximum(state.scale, linear.columns)
    whole, step = steps_of(linear, jnp.where(scale > 0, scale, 1), state.damping)

    # One that grows since damping was taken away, which lets more be gained, has not stalled.
    eased = ~state.swings & (state.damping > jnp.finfo(norms.dtype).eps ** 2)
    grows = eased & (step.decrease > 2 * state.last_decrease)
    below = step.decrease <= linear.floor
    stalled = state.stalled + (below & (step.decrease > 0.5 * state.last_decrease) & ~grows).astype(jnp.int32)
    last_decrease = jnp.where(below, step.decrease, state.last_decrease)

    # A step that is held back only suggests an end. Where the whole one says that it is none, they begin anew with it.
    converged = is_optimum(whole.decrease, here.square, linear.floor, stalled)
    most = step.decrease * jnp.maximum(1, state.damping / _FIRST_DAMPING)
    anew = is_optimum(most, here.square, linear.floor, stalled) & ~converged
    step = jax.tree.map(lambda begun, going: jnp.where(anew, begun, going), whole, step)
    # Refusals have damped a step until rounding hides it while the whole one has much to gain, as where steps go to and
    # fro across a kink; or trial after trial went by.
    lowered = here.cost < state.mark - linear.floor
    # The steps of a robust loss may come to an end slowly; those that each halve what is left do come to it.
    halves = below & (state.last_decrease < jnp.inf) & (step.decrease <= 0.5 * state.last_decrease)
    idle = jnp.where(lowered, 0, state.idle + jnp.where(halves & (problem.loss is not None), 0, 1))
    blocked = (below & (jnp.minimum(whole.decrease, most) > _MUCH * linear.floor)) | (idle >= _MOST_IDLE)

    straight, change = jnp.asarray(True), step.velocity
    if here.jacobian is not None:
        along = step.velocity / step.unit
        bend = problem.second_derivative(state.params, along, along)
        bend = bend if here.root is None else here.root * bend
        acceleration = step.factors.accelerated(here.jacobian @ bend / step.unit)
        straight = 2 * jnp.linalg.norm(acceleration) <= _MOST_ACCELERATION * jnp.linalg.norm(step.velocity)
        change = jnp.where(step.decrease <= linear.floor, change, change + acceleration / 2)
    trial, predicted = state.params + change / step.unit, step.decrease
    end = state.params + whole.velocity / norms
    if problem.bounds is not None:
        trial, predicted = into_box(problem.bounds, state.params, trial, step)
        end = jnp.clip(end, *problem.bounds)
    going = state._replace(
        last=end,
        size=linear.size,
        ceiling=here.cost + linear.floor,
        side=state.params,
        scale=jnp.where(anew, linear.columns, scale),
        trial=trial,
        decrease=predicted,
        straight=straight,
        trusted=jnp.abs(predicted) <= linear.floor,
        swings=jnp.vdot(step.velocity, step.unit * state.moved) < 0,
        last_decrease=last_decrease,
        stalled=stalled,
        converged=converged,
        degenerate=converged & (linear.left > jnp.maximum(_UNSETTLED * here.square, _MUCH * linear.floor)),
        mark=jnp.where(lowered, here.cost, state.mark),
        idle=jnp.where(blocked, 0, idle),
        blocked=blocked & ~converged & (state.visits < _MOST_VISITS),
    )
    return begun_anew(going, anew)
