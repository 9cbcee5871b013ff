"""What an optimum is: one statement for every solver, loss and box, whatever has steered the steps to it.

It is about the undamped Gauss-Newton step in today's units, the columns of the Jacobian having length 1. Damping, or
columns that once were longer, hold parameters back, and a step so held says nothing about how far the optimum is.

Source: D. M. Bates and D. G. Watts, Technometrics 23 (1981) 179.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg._linear_algebra import power_of_two
from jaxreg._shapes import Bool, Float, Int
from jaxreg.least_squares._look import Look, Steered
from jaxreg.least_squares._triangles import Triangles

RELATIVE_OFFSET = 1e-10  # of the residuals' length
_MOST_STALLED = 3


def is_optimum(
    decrease: Float[Array, ""], square: Float[Array, ""], floor: Float[Array, ""], stalled: Int[Array, ""]
) -> Bool[Array, ""]:
    """Whether the undamped step is predicted to gain nothing.

    Args:
        decrease: of the cost, that it is predicted to bring.
        square: ‖ψ‖², for the squared loss the cost itself.
        floor: what ``rounding_floor`` says.
        stalled: steps below the floor that did not halve the decrease: more would follow rounding only.
    """
    return (decrease <= RELATIVE_OFFSET**2 * square) | ((stalled >= _MOST_STALLED) & (decrease <= floor))


def rounding_floor(
    size: Float[Array, ""], cost: Float[Array, ""], length: Float[Array, ""], reach: Float[Array, ""]
) -> Float[Array, ""]:
    """The decrease of the cost below which rounding hides it: that of the sum, of y and sigma, and of the parameters.

    Args:
        size: ‖y/(sigma·unit)‖; of targets that are all zero, as the model may have taken others off, the least reach.
        cost: at these parameters.
        length: of the residuals, divided by the roots of their weights.
        reach: Σ |param|·‖column‖: how far the prediction would move if each parameter moved by its own size. It counts
            as far as rounding then stays small beside y; parameters that cannot be told from others are no optimum.
    """
    eps = float(jnp.finfo(cost.dtype).eps)
    return 4 * eps * (cost + length * (size + jnp.minimum(reach, size * eps**-0.6)))


def least_damping(dtype: Any) -> float:
    """That of the step that counts as undamped; less would take the rounding of what is undetermined for a gain."""
    return float(jnp.finfo(dtype).eps) ** 0.75


class Linear(NamedTuple):
    """The linear model of the weighted residuals: for a step v/norms slopes·v + rest, and what no step changes."""

    triangles: Triangles  # slopes, of length about 1, zero for parameters that cannot move, and rest
    columns: Float[Array, "p"]  # lengths of the Jacobian's rows
    norms: Float[Array, "p"]  # powers of two near them, 1 for a parameter that moves no prediction
    size: Float[Array, ""]  # by which rounding is measured
    floor: Float[Array, ""]  # the decrease of the cost that rounding hides
    left: Float[Array, ""]  # what the columns explain, however nearly they depend; 0 if one is held, or of blocks


def linearised(problem: Steered, params: Float[Array, "p"], look: Look, size: Float[Array, ""]) -> Linear:
    """The linear model at parameters, from a look at them."""
    lengths = look.triangles.lengths()
    norms = power_of_two(lengths)  # of which no rounding comes
    slopes = look.triangles.scaled(1 / norms)
    free = problem.free(params, slopes.gradient())
    alone = slopes.own.shape[0] == 1 and not slopes.own.size
    explained = jnp.vdot(slopes.rest, slopes.rest) if alone else jnp.zeros_like(look.cost)
    left = jnp.where(free.all(), explained, 0)
    columns = look.unit * lengths
    reach = jnp.vdot(jnp.abs(params), columns)
    size = jnp.where(problem.size > 0, problem.size, jnp.minimum(size, jnp.where(reach > 0, reach, jnp.inf)))
    floor = rounding_floor(jnp.where(size < jnp.inf, size, 0), look.cost, look.length, reach)
    return Linear(slopes.without(~free), columns, look.unit * norms, size, floor, left)
