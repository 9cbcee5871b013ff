"""A global fit: joint steps of all data sets, after a few of each alone.

It is written once, for two runners: one that traces it into a single program, and one that drives it from the host.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

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
    own_steps,
    plan_of,
)
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._look import Look
from jaxreg.least_squares._result import status_of
from jaxreg.least_squares._triangles import joined


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

    Where it is known which data sets are ``kept`` there are no steps of each alone.
    """
    plan, still = plan_of(problem), jax.tree.map(lax.stop_gradient, problem) if differentiable else problem
    facts = run.each(facts_of, still)
    at = run.joint(_start, plan, facts)
    if kept is not None:
        facts = facts._replace(startable=kept)
    elif at.own.shape[1]:
        own, startable = run.each(own_steps, still, at)
        at, facts = at._replace(own=own), facts._replace(startable=facts.startable & startable)
    still = counted_once(still, facts.startable)
    state, status = joint_steps(still, plan, facts, at, max_steps, run)
    at = run.joint(_at_end, plan, facts, state)
    if not differentiable:
        return run.joint(_finished, plan, facts, state, status, run.each(ends, still, at))
    # What is not finite in a data set that takes no part has no derivative of zero: another's numbers stand there.
    kept, place = facts.startable, jnp.argmax(facts.startable)
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


def joint_steps(
    problem: GlobalProblem, plan: Plan, facts: Facts, at: At, max_steps: int, run: Runner
) -> tuple[State, Array]:
    """The end of the steps of all data sets together, and the status."""
    start = run.joint(_init, plan, facts, at)

    def body(carry: tuple[State, At]) -> tuple[State, At]:
        state, at = carry
        seen = run.each(looks, problem, at, state.here.noise)
        found: tuple[State, At] = run.joint(_stepped, plan, facts, state, seen)
        return found

    def going(carry: tuple[State, At]) -> Any:
        return ~levenberg_marquardt.finished(carry[0], max_steps)

    state, _ = run.repeat(going, body, start)
    cost = run.each(costs, problem, run.joint(_last, plan, facts, state), state.here.noise)
    end: tuple[State, Array] = run.joint(_ended, plan, facts, state, cost)
    return end


def _start(plan: Plan, facts: Facts) -> At:
    blocks = first_blocks(plan, facts)
    return blocks.at(blocks.start)


def _init(plan: Plan, facts: Facts, at: At) -> tuple[State, At]:
    blocks = Blocks(plan, facts, joined(at.own, at.shared))
    return levenberg_marquardt.init(blocks, blocks.start), blocks.at(blocks.start)


def _stepped(plan: Plan, facts: Facts, state: State, looks: Look) -> tuple[State, At]:
    blocks = Blocks(plan, facts, state.params)
    judged = levenberg_marquardt.judged(blocks, state, blocks.gathered(looks))
    state = levenberg_marquardt.propose(blocks, judged)
    return state, blocks.at(state.trial)


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
