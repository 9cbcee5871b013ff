"""Plain Gauss-Newton steps for one of many fits: undamped, on scalars, of which one may be halved.

Under ``vmap`` each of the few numbers of a fit is one contiguous array, each column of its Jacobian another, and no
library is called for small matrices. A fit that such steps cannot be trusted with is left to Levenberg-Marquardt's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import lengths, power_of_two, qr_root, solve_upper
from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance import Covariance
from jaxreg.covariance._factors import from_factor
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._optimum import is_optimum, rounding_floor
from jaxreg.least_squares._true_x import eliminated, nearby

MOST_PARAMS = 8  # beyond, the unrolled solution is longer than a library's loop
_MOST_STEPS = 20
# Of the cost, in shares of what the linear model predicts. From a fair start at most one step overshoots; where more
# do, undamped steps may end far from the start, at another optimum than damped ones.
_LEAST_GAIN = 0.25
_STEPS_OF_X = 2  # of each point's true x, for each of the parameters: they converge together


class PlainFit(NamedTuple):
    """What plain steps came to.

    Attributes:
        params: (p,)
        startable: whether the problem is valid and its cost at the start finite: if not, no steps can do anything.
        settled: whether they are an optimum, by the tests of Levenberg-Marquardt's steps; if not, begin anew by those.
        ceiling: scalar, what the cost may be there, for the last step to be a good one.
        num_steps: int32 scalar.
        true_x: of errors in x, where to seek them from.
    """

    params: Array
    startable: Array
    settled: Array
    ceiling: Array
    num_steps: Array
    true_x: Any


class _State(NamedTuple):
    params: tuple[Float[Array, ""], ...]
    step: tuple[Float[Array, ""], ...]  # that led here
    halved: Bool[Array, ""]  # whether a step was
    cost: Float[Array, ""]  # where it began; at the start, what that has
    decrease: Float[Array, ""]  # of the cost, predicted for that step whole
    stalled: Int[Array, ""]  # steps below the rounding floor that did not halve it
    settled: Bool[Array, ""]
    ceiling: Float[Array, ""]  # cost and rounding floor there
    trusted: Bool[Array, ""]
    num_steps: Int[Array, ""]
    true_x: Any  # of errors in x, at the parameters before


def plain_fit(problem: FlatProblem, max_steps: int) -> PlainFit:
    """Step as long as each step goes as the linear model predicted, under the squared loss."""
    dtype, none = problem.start.dtype, jnp.zeros((), jnp.int32)
    start = tuple(problem.start[index] for index in range(problem.start.size))
    end = jax.lax.while_loop(
        lambda state: state.trusted & ~state.settled & (state.num_steps < min(_MOST_STEPS, max_steps)),
        lambda state: _stepped(problem, state),
        _State(
            start,
            jax.tree.map(jnp.zeros_like, start),
            jnp.asarray(False),
            jnp.zeros((), dtype),
            jnp.full((), jnp.inf, dtype),
            none,
            jnp.asarray(False),
            jnp.zeros((), dtype),
            problem.valid & (problem.size != 0),  # to zero they go on for ever
            none,
            jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: eliminated(problem, problem.start))),
        ),
    )
    startable = problem.startable & (jnp.isfinite(end.cost) | (end.num_steps > 1))
    return PlainFit(jnp.stack(end.params), startable, end.settled, end.ceiling, end.num_steps, end.true_x)


def plain_covariance(problem: FlatProblem, params: Float[Array, "p"], *, absolute_sigma: bool) -> Covariance:
    """The classic covariance at an optimum of plain steps, whose columns are known to be independent."""
    values, columns = _linearised(problem, [params[index] for index in range(params.size)])
    norms, count = lengths(jnp.stack(columns)), len(columns)
    inverse = solve_upper(qr_root(jnp.stack(columns) / norms[:, None]), jnp.eye(count, dtype=values.dtype))
    if absolute_sigma:
        return from_factor(inverse, 1 / norms / problem.unit)
    unit, dof = power_of_two(jnp.max(jnp.abs(values))), problem.counted.sum().astype(values.dtype) - count
    variance = jnp.where(dof > 0, jnp.sum((values / unit) ** 2) / jnp.where(dof > 0, dof, 1), jnp.nan)
    return from_factor(inverse * jnp.sqrt(variance), unit / norms)


def _stepped(problem: FlatProblem, state: _State) -> _State:
    true_x = eliminated(nearby(problem, state.true_x, _STEPS_OF_X), jnp.stack(state.params))
    values, columns = _linearised(nearby(problem, true_x, 0), state.params)
    cost = _dot(values, values)
    norms = [jnp.sqrt(_dot(column, column)) for column in columns]
    step, decrease, regular = _gauss_newton(values, columns, norms)
    reach = jnp.sum(jnp.stack([jnp.abs(param) * norm for param, norm in zip(state.params, norms, strict=True)]))
    floor = rounding_floor(problem.size, cost, jnp.sqrt(cost), reach)

    # Written so that a NaN is not good.
    first = state.num_steps == 0
    good = (state.cost - cost > _LEAST_GAIN * state.decrease) | (state.decrease <= floor) | first
    good = good & regular & jnp.isfinite(decrease) & _inside(problem, state.params)
    stalled = state.stalled + (good & (decrease <= floor) & (decrease > 0.5 * state.decrease)).astype(jnp.int32)
    settled = good & is_optimum(decrease, cost, floor, stalled)
    # The step that went too far is taken back by half.
    step = [jnp.where(good, ahead, last / 2) for ahead, last in zip(step, state.step, strict=True)]
    sign = jnp.where(good, 1, -1).astype(cost.dtype)
    return _State(
        params=tuple(param + sign * change for param, change in zip(state.params, step, strict=True)),
        step=tuple(step),
        halved=state.halved | ~good,
        cost=jnp.where(good | first, cost, state.cost),
        decrease=jnp.where(good, decrease, state.decrease),
        stalled=stalled,
        settled=settled,
        ceiling=cost + floor,
        trusted=state.trusted & (good | ~(first | state.halved)),
        num_steps=state.num_steps + 1,
        true_x=true_x,
    )


def _inside(problem: FlatProblem, params: Sequence[Float[Array, ""]]) -> Bool[Array, ""]:
    """Whether parameters are off their bounds."""
    if problem.bounds is None:
        return jnp.asarray(True)
    lower, upper = problem.bounds
    within = [(lower[index] < param) & (param < upper[index]) for index, param in enumerate(params)]
    return jnp.stack(within).all()


def _dot(left: Float[Array, "n"], right: Float[Array, "n"]) -> Float[Array, ""]:
    return jnp.sum(left * right)


def _linearised(
    problem: FlatProblem, params: Sequence[Float[Array, ""]]
) -> tuple[Float[Array, "n"], list[Float[Array, "n"]]]:
    """The residuals and the columns of their Jacobian."""
    values, slope = jax.linearize(lambda *numbers: problem.residual(jnp.stack(numbers)), *params)
    units = [[jnp.full_like(param, float(i == j)) for j, param in enumerate(params)] for i in range(len(params))]
    return values, [slope(*unit) for unit in units]


def _gauss_newton(
    values: Float[Array, "n"], columns: Sequence[Float[Array, "n"]], norms: Sequence[Float[Array, ""]]
) -> tuple[list[Float[Array, ""]], Float[Array, ""], Bool[Array, ""]]:
    """The step, the decrease of ‖values‖² that it predicts, and whether the columns are independent enough for it.

    By Cholesky's decomposition of the normal equations of columns of length 1: a pivot is the squared distance of a
    column from those before it, and where one is below √eps the step would lose half of its digits.
    """
    count = range(len(columns))
    slope = [-_dot(column, values) / norm for column, norm in zip(columns, norms, strict=True)]
    lower: dict[tuple[int, int], Array] = {}
    limits = jnp.finfo(values.dtype)
    # Squares of the columns in the range of floats, and none of the values' rounding lost.
    ranged = [(norm**2 > limits.tiny / limits.eps**2) & (norm**2 < limits.max * limits.eps) for norm in norms]
    least = jnp.where(jnp.stack(ranged).all(), 1, jnp.zeros_like(norms[0]))
    half: list[Array] = []
    for i in count:
        for j in range(i):
            product = _dot(columns[i], columns[j]) / (norms[i] * norms[j])
            lower[i, j] = (product - sum(lower[i, k] * lower[j, k] for k in range(j))) / lower[j, j]
        pivot = 1 - sum(lower[i, k] ** 2 for k in range(i))
        least = jnp.minimum(least, pivot)
        lower[i, i] = jnp.sqrt(pivot)
        half.append((slope[i] - sum(lower[i, k] * half[k] for k in range(i))) / lower[i, i])
    step: dict[int, Array] = {}
    for i in reversed(count):
        step[i] = (half[i] - sum(lower[k, i] * step[k] for k in step)) / lower[i, i]
    decrease = jnp.sum(jnp.stack(half) ** 2)
    return [step[i] / norms[i] for i in count], decrease, least > limits.eps**0.5
