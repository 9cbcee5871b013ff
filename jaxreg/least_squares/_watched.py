"""One fit whose steps are seen as they are taken, or that ends when its time is up: driven from the host."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _checks, _jit, _names, _trace
from jaxreg._blocks import Deadline
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import Options
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._steps import advance, begin, close
from jaxreg.least_squares._table import in_order
from jaxreg.losses._kinds import Kind
from jaxreg.problems import Problem
from jaxreg.status import Status

_SHORT = 0.02  # seconds that a call may take for the next one to be of twice as many steps


class Step(NamedTuple):
    """Where a fit stands.

    Attributes:
        num_steps: the steps tried; 0 at the start.
        chi2: Σ ((y - model)/sigma)² of the data, or the deviance, there.
        damping: of the next step, relative to the scaled system.
        params: the parameters, shaped like p0.
    """

    num_steps: int
    chi2: float
    damping: float
    params: Any


def check_watching(problem: Problem, *, verbose: bool, callback: Any, timeout: Any) -> bool:
    """Whether a fit is to be driven from the host; refused where it cannot be."""
    _checks.seconds("timeout", timeout)
    if callback is not None and not callable(callback):
        raise ValueError(f"callback must be a function of a step, got {type(callback).__name__}")
    given = {"verbose": _checks.flag("verbose", verbose) or None, "callback": callback, "timeout": timeout}
    wanted = [name for name, value in given.items() if value is not None]
    if wanted and not _trace.at_top_level():
        raise ValueError(f"{wanted[0]} is for the top level: inside jit, vmap or grad nobody can look at single steps")
    if wanted and problem.form.has(Kind.LINEAR_PROGRAM):
        raise ValueError(f"{wanted[0]} must not be given for an absolute or quantile loss, which takes no such steps")
    return bool(wanted)


def watched(
    problem: Problem, options: Options, *, verbose: bool, callback: Callable[[Step], Any] | None, timeout: float | None
) -> Fit:
    """The fit, by the steps of ``solve``; with status TIMEOUT where it was not done in time."""
    end = Deadline(timeout)
    tell = teller(problem, verbose=verbose, callback=callback)
    state, most = _begin(problem, options), 1
    while True:
        begun = time.monotonic()
        state, done, (chi2, damping, params) = _advance(problem, state, np.int32(most), options)
        step = Step(int(state.num_steps), float(chi2), float(damping), jax.device_get(params))
        if tell is not None:
            tell(step)
        if done or end.has_passed():
            break
        most = 1 if tell is not None else 2 * most if time.monotonic() - begun < _SHORT else most
    fit: Fit = _close(problem, state, options)
    return fit if done else fit.replace(status=jnp.full_like(fit.status, Status.TIMEOUT))


def teller(
    problem: Problem, *, verbose: bool, callback: Callable[[Step], Any] | None, timeout: Any = None
) -> Callable[[Step], None] | None:
    """What is to be called after each step, if anything is."""
    del timeout
    lines = _Lines(problem) if verbose else None
    if lines is None and callback is None:
        return None

    def tell(step: Step) -> None:
        if lines is not None:
            lines.print(step)
        if callback is not None:
            callback(step)

    return tell


class _Lines:
    """A line for each step, the parameters in the order given."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.started = problem, False

    def print(self, step: Step) -> None:
        """The header before the first."""
        order = in_order(step.params, self.problem, 0)
        if not self.started:
            names = _names.of(step.params)
            print("".join([f"{'steps':>5}  {'χ²':>12}  {'damping':>9}", *(f"  {names[place]:>12}" for place in order)]))
            self.started = True
        values = _names.numbers(step.params)[0]
        line = f"{step.num_steps:5d}  {step.chi2:12.6g}  {step.damping:9.1e}"
        print(line + "".join(f"  {values[place]:12.6g}" for place in order), flush=True)


@_jit.compiled("options")
def _begin(problem: Problem, options: Options) -> State:
    return begin(flat_problem(problem, careful=options.careful))


@_jit.compiled("options")
def _advance(
    problem: Problem, state: State, most: Any, options: Options
) -> tuple[State, Array, tuple[Array, Array, Any]]:
    flat = flat_problem(problem, careful=options.careful)
    end, done = advance(flat, state, options, most)
    chi2 = jnp.where(end.startable, flat.chi2(flat.residual(end.params), priors=False), jnp.nan)
    return end, done, (chi2, end.damping, flat.restore(end.params))


@_jit.compiled("options")
def _close(problem: Problem, state: State, options: Options) -> Fit:
    flat = flat_problem(problem, careful=options.careful)
    return close(flat, state, options, absolute_sigma=problem.absolute_sigma)
