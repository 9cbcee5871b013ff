"""A fit taken apart: ``begin``, ``advance`` by a few steps until it is finished, ``close``; pure, for one fit.

What drives them from the host does so for one fit that is watched, and for many that end after unequal steps.
"""

from jax import Array

from jaxreg._shapes import Bool, Int
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import FlatProblem, Options
from jaxreg.least_squares._kinks import resolve
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._result import finish, status_of


def begin(flat: FlatProblem) -> State:
    """The state at the start."""
    return levenberg_marquardt.init(flat, flat.start)


def advance(flat: FlatProblem, state: State, options: Options, most: Int[Array, ""]) -> tuple[State, Bool[Array, ""]]:
    """The state after as many steps as ``most``, or fewer, and whether it is finished."""
    end = resolve(flat, levenberg_marquardt.advanced(flat, state, options.max_steps, most))
    return end, levenberg_marquardt.finished(end, options.max_steps)


def close(flat: FlatProblem, state: State, options: Options, *, absolute_sigma: bool) -> Fit:
    """The fit of a state, finished or not."""
    end = levenberg_marquardt.ended(flat, state)
    return finish(flat, options, absolute_sigma, end.params, end.side, status_of(flat, end), end.num_steps)
