"""The compiled programs of many fits: each for a rectangle of lanes, one data set a lane."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg import blocks
from jaxreg.least_squares import CurveFit
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._arguments import LINEAR_PROGRAMS, guessed
from jaxreg.least_squares._curve_fit import solve
from jaxreg.least_squares._kinks import resolve
from jaxreg.least_squares._plain import MOST_PARAMS, plain_covariance, plain_fit
from jaxreg.least_squares._problem import Options, Task, problem_of
from jaxreg.least_squares._result import assemble, finish, status_of
from jaxreg.status import Status


class Form(NamedTuple):
    """What chooses the programs: hashable.

    Attributes:
        options: those of a single fit.
        guess: the model's own, where there is no p0; otherwise None.
        own: the fields of a Task that each data set has for itself; the others are shared.
        residuals: whether they are returned.
    """

    options: Options
    guess: Callable[..., Any] | None
    own: tuple[str, ...]
    residuals: bool

    def merged(self, shared: Task, own: Task) -> Task:
        """One task from the fields that all data sets share and those of one of them."""
        return shared._replace(**{name: getattr(own, name) for name in self.own})


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


def member_of(form: Form, task: Task) -> CurveFit:
    """One fit: for its shapes, and its text."""
    return _returned(form, solve(_started(form, task), form.options))


def programs(form: Form, num_params: int, devices: tuple[jax.Device, ...]) -> Programs:
    """The programs of a form, none of them made yet."""
    mapped = functools.partial(functools.partial, _mapped, form, devices)
    simple = form.options.loss is None and form.options.covariance == "classic" and num_params <= MOST_PARAMS
    return Programs(
        mapped(_plain, tiles=True) if simple else None,
        mapped(_unstarted),
        mapped(_begin),
        mapped(_advance),
        mapped(_close),
        mapped(_whole) if form.options.loss in LINEAR_PROGRAMS else None,
    )


def _mapped(
    form: Form, devices: tuple[jax.Device, ...], one: Callable[..., Any], *, tiles: bool = False
) -> Callable[..., Any]:
    """``one(form, task, state, most)`` on each device, lane and tile."""

    def on_device(shared: Task, own: Task, states: Any, most: Any) -> Any:
        def lane(own: Task, state: Any) -> Any:
            return one(form, _started(form, form.merged(shared, own)), state, most)

        lanes = jax.vmap(lane)
        own, states = jax.tree.map(lambda leaf: leaf[0], (own, states))
        found = lax.map(lambda tile: lanes(tile, states), own) if tiles else lanes(own, states)
        return jax.tree.map(lambda leaf: leaf[None], found)

    mapped: Callable[..., Any] = blocks.on_devices(on_device, devices, apart=(False, True, True, False))
    return mapped


def _plain(form: Form, task: Task, *_: Any) -> tuple[CurveFit, Array, Array]:
    problem = problem_of(task, form.options)
    end = plain_fit(problem, form.options.max_steps)
    estimate = plain_covariance(problem, end.params, absolute_sigma=form.options.absolute_sigma)
    free, noise = jnp.ones(end.params.shape, bool), jnp.ones((), end.params.dtype)
    fit = assemble(problem, end.params, jnp.int32(Status.OK), end.num_steps, estimate, free, noise)
    residual = problem.residual(end.params)
    return _returned(form, fit), end.settled & (jnp.vdot(residual, residual) <= end.ceiling), end.startable


def _unstarted(form: Form, task: Task, *_: Any) -> CurveFit:
    problem = problem_of(task, form.options)
    status = jnp.where(problem.valid, Status.NONFINITE, Status.INVALID_INPUT).astype(jnp.int32)
    start, none = problem.start, jnp.zeros((), jnp.int32)
    return _returned(form, finish(problem, form.options, start, start, status, none))


def _begin(form: Form, task: Task, *_: Any) -> levenberg_marquardt.State:
    problem = problem_of(task, form.options)
    return levenberg_marquardt.init(problem, problem.start)


def _advance(
    form: Form, task: Task, state: levenberg_marquardt.State, most: Array
) -> tuple[levenberg_marquardt.State, Array]:
    problem = problem_of(task, form.options)

    def going(carry: Any) -> Array:
        state, count = carry
        return ~levenberg_marquardt.finished(state, form.options.max_steps) & (count < most)

    def step(carry: Any) -> Any:
        state, count = carry
        return levenberg_marquardt.step(problem, state), count + 1

    end, _ = lax.while_loop(going, step, (state, jnp.zeros((), jnp.int32)))
    end = resolve(problem, end)
    return end, levenberg_marquardt.finished(end, form.options.max_steps)


def _close(form: Form, task: Task, state: levenberg_marquardt.State, _: Any) -> CurveFit:
    problem = problem_of(task, form.options)
    state = levenberg_marquardt.ended(problem, state)
    fit = finish(problem, form.options, state.params, state.side, status_of(problem, state), state.num_steps)
    return _returned(form, fit)


def _whole(form: Form, task: Task, *_: Any) -> CurveFit:
    return _returned(form, solve(task, form.options))


def _started(form: Form, task: Task) -> Task:
    """With the model's guess where there is no p0."""
    if form.guess is None:
        return task
    return task._replace(p0=guessed(task.x, task.y, task.mask, task.bounds, guess=form.guess))


def _returned(form: Form, fit: CurveFit) -> CurveFit:
    return fit if form.residuals else fit._replace(residuals=None)  # type: ignore[arg-type]
