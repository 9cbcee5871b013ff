"""A global fit: joint steps of all data sets, with steps of each alone before them and between.

It is written once, for two runners: one that traces it into a single program, and one that drives it from the host.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg import _jit
from jaxreg._shapes import Bool, Float, Int
from jaxreg.global_fits._derivatives import following
from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._problem import GlobalProblem
from jaxreg.global_fits._result import Ends, ends, finish, with_left_out
from jaxreg.global_fits._view import (
    At,
    Blocks,
    Facts,
    Plan,
    costs,
    facts_of,
    first_blocks,
    looks,
    of_kept,
    plan_of,
)
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._look import Look
from jaxreg.least_squares._optimum import least_damping
from jaxreg.least_squares._result import status_of
from jaxreg.least_squares._triangles import joined

_FIRST_OWN_STEPS = 8
_FAR = 100  # times ‖y/sigma‖²: the cost of a prediction ten times as long as the data
_MOST_FAR = 30  # trials


@runtime_checkable
class Runner(Protocol):
    """How what is asked of each data set, and of all together, is computed."""

    def each(self, fn: Callable[..., Any], problem: GlobalProblem, *args: Any) -> Any:
        """``fn(problem, *args)``; its results have an axis of data sets, as have all arguments but parts of At."""

    def joint(self, fn: Callable[..., Any], plan: Plan, *args: Any) -> Any:
        """``fn(plan, *args)``."""

    def repeat(self, going: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """The state after as many ``body(state)`` as ``going(state)`` says."""


class Traced:
    """The runner that traces everything."""

    def each(self, fn: Callable[..., Any], problem: GlobalProblem, *args: Any) -> Any:
        return fn(problem, *args)

    def joint(self, fn: Callable[..., Any], plan: Plan, *args: Any) -> Any:
        return fn(plan, *args)

    def repeat(self, going: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        return lax.while_loop(going, body, state)


def solved(
    problem: GlobalProblem, max_steps: int, run: Runner, *, differentiable: bool = False, kept: Any = None
) -> GlobalFit:
    """A global fit without its problem; its derivative by all numbers but bounds only if it is asked for.

    Where it is known which data sets are ``kept`` they do not begin with steps of each alone.
    """
    plan, still = plan_of(problem), jax.tree.map(lax.stop_gradient, problem) if differentiable else problem
    facts = run.each(facts_of, still)
    if kept is None:
        at = run.joint(_start, plan, facts)
    else:
        facts = facts._replace(startable=kept)
        at = run.joint(_start, plan, facts)._replace(steps=jnp.int32(0))
    state, status, kept = joint_steps(still, plan, facts, at, max_steps, run)
    facts, still = facts._replace(startable=kept), counted_once(still, kept)
    at = run.joint(_at_end, plan, facts, state)
    if not differentiable:
        return run.joint(_finished, plan, facts, state, status, run.each(ends, still, at))
    # What is not finite in a data set that takes no part has no derivative of zero: another's numbers stand there.
    place = jnp.argmax(kept)
    blocks = Blocks(plan, facts, joined(of_kept(kept, at.own, at.own[place]), at.shared))
    moving, unmoved = (_with_only(of, kept, place) for of in (counted_once(problem, kept), still))
    params = following(blocks, unmoved, moving)
    fit = finish(blocks, params, status, state.num_steps, ends(moving, blocks.at(params), differentiable=True))
    return with_left_out(fit, still, at, kept)


def _with_only(problem: GlobalProblem, kept: Bool[Array, "m"], place: Int[Array, ""]) -> GlobalProblem:
    """With the numbers of one data set in place of those of all that take no part."""

    def of(leaf: Any, is_own: bool) -> Any:
        leaf = jnp.asarray(leaf)
        return of_kept(kept, leaf, leaf[place]) if is_own else leaf

    return GlobalProblem(*problem.mapped(of), problem.form)


class Joint(NamedTuple):
    """Where all data sets stand together."""

    state: State
    at: At  # where to look next
    kept: Bool[Array, "m"]
    far: Bool[Array, ""]  # the prediction is much larger than the data


def joint_steps(
    problem: GlobalProblem, plan: Plan, facts: Facts, at: At, max_steps: int, run: Runner
) -> tuple[State, Array, Bool[Array, "m"]]:
    """The end of the steps of all data sets together, the status, and which took part."""

    def body(joint: Joint) -> Joint:
        seen, own = run.each(looks, counted_once(problem, joint.kept), joint.at, joint.state.here.noise)
        found: Joint = run.joint(_stepped, plan, facts, joint, seen, own)
        return found

    def going(joint: Joint) -> Any:
        return ~levenberg_marquardt.finished(joint.state, max_steps)

    state, _, kept, _ = run.repeat(going, body, run.joint(_init, plan, facts, at))
    facts = facts._replace(startable=kept)
    cost = run.each(costs, counted_once(problem, kept), run.joint(_last, plan, facts, state), state.here.noise)
    state, status = run.joint(_ended, plan, facts, state, cost)
    return state, status, kept


def _start(plan: Plan, facts: Facts) -> At:
    blocks = first_blocks(plan, facts)
    return blocks.at(blocks.start, _FIRST_OWN_STEPS)


def _init(plan: Plan, facts: Facts, at: At) -> Joint:
    blocks = Blocks(plan, facts, joined(at.own, at.shared))
    return Joint(levenberg_marquardt.init(blocks, blocks.start), at, blocks.kept, jnp.asarray(False))


def _stepped(plan: Plan, facts: Facts, joint: Joint, looks: Look, own: Float[Array, "m o"]) -> Joint:
    before, at = joint.state, joint.at
    first = before.num_steps < 0
    failed = first & joint.kept & ~(jnp.isfinite(looks.before) & looks.smooth)
    lost = failed & (at.steps == 0)
    kept = joint.kept & ~lost
    blocks = Blocks(plan, facts._replace(startable=kept), joined(at.own, at.shared))
    trial = joined(blocks.of_kept(own, at.own), at.shared)
    state = levenberg_marquardt.judged(blocks, before._replace(trial=trial), blocks.gathered(looks))
    here = state.here

    # A prediction that is much larger than the data is a matter of units. Whole steps of all data sets mend that, of
    # the parameters that reach so far; steps of each set alone would make up for it in its own ones.
    far = (first | joint.far) & (blocks.size > 0) & (here.cost > _FAR * blocks.size**2)
    far &= state.num_steps < _MOST_FAR
    near = joint.far & ~far
    state = levenberg_marquardt.begun_anew(state, near)
    state = state._replace(damping=jnp.where(first & far, least_damping(trial.dtype), state.damping))
    reach = jnp.abs(state.params) * here.unit * here.triangles.lengths()
    held = far & (reach <= _FAR**0.5 * blocks.size) & (state.params != 0)
    state = state._replace(here=here._replace(triangles=here.triangles.without(held)))
    state = levenberg_marquardt.propose(blocks, state)._replace(here=here)
    free = ~held.any()
    state = state._replace(converged=state.converged & free, blocked=state.blocked & free)
    steps = jnp.where(near, _FIRST_OWN_STEPS, jnp.where(state.trusted | far, 0, 1))
    then = Joint(state, blocks.at(state.trial, steps), kept, far & (state.decrease > here.cost / 2))

    # Where a data set has failed all begin again, without steps of each alone; where one fails so too, without that.
    anew = failed.any() | (first & far & (at.steps > 0))
    begun = _init(plan, blocks.facts, blocks.at(blocks.start, jnp.where(lost.any(), _FIRST_OWN_STEPS, 0)))
    found: Joint = jax.tree.map(lambda begun, then: jnp.where(anew, begun, then), begun, then)
    return found


def _last(plan: Plan, facts: Facts, state: State) -> At:
    return Blocks(plan, facts, state.params).at(state.last)


def _ended(plan: Plan, facts: Facts, state: State, cost: Float[Array, "m"]) -> tuple[State, Array]:
    blocks = Blocks(plan, facts, state.params)
    state = levenberg_marquardt.with_last_step(state, blocks.of_kept(cost).sum())
    return state, status_of(blocks, state)


def _at_end(plan: Plan, facts: Facts, state: State) -> At:
    return Blocks(plan, facts, state.params).at(state.params)


def _finished(plan: Plan, facts: Facts, state: State, status: Array, ends: Ends) -> GlobalFit:
    return finish(Blocks(plan, facts, state.params), state.params, status, state.num_steps, ends)


def counted_once(problem: GlobalProblem, kept: Bool[Array, "m"]) -> GlobalProblem:
    """With the priors of shared parameters, which are masked in some data sets, in the first that takes part alone."""
    first = jnp.arange(len(kept)) == jnp.argmax(kept)
    terms = [
        term._replace(mask=jnp.asarray(term.mask).all(axis=0)[None] | first[:, None])
        if form.is_prior and term.mask is not None
        else term
        for term, form in zip(problem.terms, problem.form.one.terms, strict=True)
    ]
    return dataclasses.replace(problem, terms=tuple(terms))


@_jit.compiled("max_steps", "differentiable")
def solve(problem: GlobalProblem, max_steps: int, *, differentiable: bool) -> GlobalFit:
    """A global fit as one program."""
    return solved(problem, max_steps, Traced(), differentiable=differentiable)
