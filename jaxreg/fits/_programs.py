"""The compiled programs of many fits: each for a rectangle of lanes, one data set a lane."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg import _blocks
from jaxreg.least_squares import Fit
from jaxreg.least_squares._flat_problem import Options
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._plain import MOST_PARAMS, plain_covariance, plain_fit
from jaxreg.least_squares._result import assemble, finish
from jaxreg.least_squares._solver import solve
from jaxreg.least_squares._steps import advance, begin, close
from jaxreg.least_squares._true_x import eliminated, nearby
from jaxreg.losses._kinds import Kind
from jaxreg.problems import Problem
from jaxreg.problems._form import Form
from jaxreg.status import Status


class Job(NamedTuple):
    """What chooses the programs: hashable.

    Attributes:
        options: those of a single fit.
        form: of the problem.
        structure: of the problem's numbers.
        own: for each of those, whether each data set has its own; the others are shared.
        residuals: whether they are returned.
    """

    options: Options
    form: Form
    structure: Any
    own: tuple[bool, ...]
    residuals: bool

    def problem(self, shared: Sequence[Any], own: Sequence[Any]) -> Problem:
        """The problem of one data set, from the numbers that all share and its own."""
        all_share, each_has = iter(shared), iter(own)
        numbers = [next(each_has if is_own else all_share) for is_own in self.own]
        bare: Problem = jax.tree.unflatten(self.structure, numbers)
        return dataclasses.replace(bare, form=self.form)


class Programs(NamedTuple):
    """Makers of functions of (shared fields, own fields of some data sets with leading axes), jitted for some devices.

    Attributes:
        plain: leading axes (devices, tiles, lanes); gives the fits by plain steps, whether each is one, and whether it
            could be started at all. None where plain steps do not apply.
        unstarted: leading axes (devices, lanes), as for those below; gives the fits that could not be.
        begin: gives states.
        advance: takes states and a number of steps too; gives states, and whether each fit is finished.
        close: takes states too; gives the fits.
        whole: gives the fits of a linear program, which has no such steps. None for
            others.
    """

    plain: Callable[..., Any] | None
    unstarted: Callable[..., Any]
    begin: Callable[..., Any]
    advance: Callable[..., Any]
    close: Callable[..., Any]
    whole: Callable[..., Any] | None


def member_of(job: Job, shared: Sequence[Any], own: Sequence[Any]) -> Fit:
    """One fit: for its shapes, and its text."""
    return _returned(job, solve(job.problem(shared, own), job.options))


def programs(job: Job, num_params: int, devices: tuple[jax.Device, ...]) -> Programs:
    """The programs of a job, none of them made yet."""
    mapped = functools.partial(functools.partial, _mapped, job, devices)
    others = [kind for kind in Kind if kind is not Kind.SQUARED]
    plain = not job.form.has(*others) and job.form.tie is None
    simple = plain and job.options.covariance == "classic" and num_params <= MOST_PARAMS
    return Programs(
        mapped(_plain, tiles=True) if simple else None,
        mapped(_unstarted),
        mapped(_begin),
        mapped(_advance),
        mapped(_close),
        mapped(_whole) if job.form.has(Kind.LINEAR_PROGRAM) else None,
    )


def _mapped(
    job: Job, devices: tuple[jax.Device, ...], one: Callable[..., Any], *, tiles: bool = False
) -> Callable[..., Any]:
    """``one(job, problem, state, most)`` on each device, lane and tile."""

    def on_device(shared: Any, own: Any, states: Any, most: Any) -> Any:
        def lane(own: Any, state: Any) -> Any:
            return one(job, job.problem(shared, own), state, most)

        lanes = jax.vmap(lane)
        own, states = jax.tree.map(lambda leaf: leaf[0], (own, states))
        found = lax.map(lambda tile: lanes(tile, states), own) if tiles else lanes(own, states)
        return jax.tree.map(lambda leaf: leaf[None], found)

    mapped: Callable[..., Any] = _blocks.on_devices(on_device, devices, apart=(False, True, True, False))
    return mapped


def _plain(job: Job, problem: Problem, *_: Any) -> tuple[Fit, Array, Array]:
    flat = flat_problem(problem, careful=job.options.careful)
    end = plain_fit(flat, job.options.max_steps)
    near = nearby(flat, eliminated(nearby(flat, end.true_x), end.params), 0)
    estimate = plain_covariance(near, end.params, absolute_sigma=problem.absolute_sigma)
    free = jnp.ones(end.params.shape, bool)
    fit = assemble(near, end.params, jnp.int32(Status.OK), end.num_steps, estimate, free)
    residual = flat.residual(end.params)
    return _returned(job, fit), end.settled & (jnp.vdot(residual, residual) <= end.ceiling), end.startable


def _unstarted(job: Job, problem: Problem, *_: Any) -> Fit:
    flat = flat_problem(problem, careful=job.options.careful)
    status = jnp.where(flat.valid, Status.NONFINITE, Status.INVALID_INPUT).astype(jnp.int32)
    start, none = flat.start, jnp.zeros((), jnp.int32)
    return _returned(job, finish(flat, job.options, problem.absolute_sigma, start, start, status, none))


def _begin(job: Job, problem: Problem, *_: Any) -> State:
    return begin(flat_problem(problem, careful=job.options.careful))


def _advance(job: Job, problem: Problem, state: State, most: Array) -> tuple[State, Array]:
    return advance(flat_problem(problem, careful=job.options.careful), state, job.options, most)


def _close(job: Job, problem: Problem, state: State, _: Array) -> Fit:
    flat = flat_problem(problem, careful=job.options.careful)
    return _returned(job, close(flat, state, job.options, absolute_sigma=problem.absolute_sigma))


def _whole(job: Job, problem: Problem, *_: Any) -> Fit:
    return _returned(job, solve(problem, job.options))


def _returned(job: Job, fit: Fit) -> Fit:
    return fit if job.residuals else fit.replace(residuals=None, adjusted_x=None)
