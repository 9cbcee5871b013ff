"""Steps of a linear model: the whole one, the damped one, and one that is bent by walls."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._shapes import Float
from jaxreg.least_squares._optimum import Linear, least_damping
from jaxreg.least_squares._triangles import Factors, Triangles


class Step(NamedTuple):
    """A damped step of a linear model: v minimises ‖slopes·v + rest‖² + damping·‖v‖²."""

    triangles: Triangles  # slopes and rest
    unit: Float[Array, "p"]  # v/unit is the step of the parameters
    damping: Float[Array, ""]
    factors: Factors
    velocity: Float[Array, "p"]  # v
    decrease: Float[Array, ""]  # of the cost, predicted


def steps_of(linear: Linear, unit: Float[Array, "p"], damping: Float[Array, ""]) -> tuple[Step, Step]:
    """The whole step, in today's units, and the damped one in others: as a pair, which is one program."""
    units = jnp.stack([linear.norms, unit])
    triangles = jax.vmap(linear.triangles.scaled)(linear.norms[None] / units)
    pair = jax.vmap(damped)(
        triangles, units, jnp.stack([jnp.full_like(damping, least_damping(damping.dtype)), damping])
    )
    return jax.tree.map(lambda leaf: leaf[0], pair), jax.tree.map(lambda leaf: leaf[1], pair)


def damped(triangles: Triangles, unit: Float[Array, "p"], damping: Float[Array, ""]) -> Step:
    """The damped step."""
    factors = triangles.damped(jnp.broadcast_to(damping, unit.shape))
    velocity = factors.solved()
    decrease = jnp.sum(triangles.times(velocity) ** 2) + 2 * damping * jnp.sum(velocity**2)
    return Step(triangles, unit, damping, factors, velocity, decrease)


def into_box(
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]], params: Float[Array, "p"], trial: Float[Array, "p"], step: Step
) -> tuple[Float[Array, "p"], Float[Array, ""]]:
    """A trial inside the bounds, and the decrease that the linear model predicts for it."""
    triangles, unit = step.triangles, step.unit
    # Judged without the acceleration, which may point out of the box where the velocity points into it.
    straight_on = params + step.velocity / unit
    inside = jnp.clip(straight_on, *bounds)
    blocked = inside != straight_on
    # What leaves the box ends at its wall, and the others are solved for again.
    shift = jnp.where(blocked, inside - params, 0)
    moved = triangles._replace(rest=triangles.rest + triangles.times(unit * shift))
    others = damped(moved.without(blocked), unit, step.damping)
    inside = jnp.where(blocked, inside, jnp.clip(params + others.velocity / unit, *bounds))
    along = triangles.times(unit * (inside - params))
    hits = blocked.any()
    predicted = jnp.where(hits, -jnp.sum(along * (2 * triangles.rest + along)), step.decrease)
    leaves = (jnp.clip(trial, *bounds) != trial).any()
    return jnp.where(hits, inside, jnp.where(leaves, straight_on, trial)), predicted
