"""The edge of a region of profile likelihood along a line, by a bracketed search over refits."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._shapes import Bool, Float, Int
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._refits import Held

_MOST_TRIALS = 60
_FARTHEST = 1e4  # times the linear interval: beyond it an end is called infinite


@runtime_checkable
class Holding(Protocol):
    """What a search asks of: refits with a parameter, two, or another quantity held."""

    @property
    def center(self) -> Array: ...  # the values at the fit

    @property
    def start(self) -> Array: ...  # of the first refit

    @property
    def bounds(self) -> tuple[Array, Array]: ...

    @property
    def variance(self) -> Array: ...

    @property
    def fit(self) -> Any: ...

    def tau(self, cost: Array) -> Array: ...

    def hold(self, held: Array, values: Array, start: Array) -> Held: ...


class _Search(NamedTuple):
    trial: Float[Array, ""]
    low: Float[Array, ""]  # the farthest trial inside
    low_excess: Float[Array, ""]  # tau - target there
    high: Float[Array, ""]  # the nearest trial outside; infinite before there is one
    high_excess: Float[Array, ""]
    side: Int[Array, ""]  # of the last trial: 1 inside, -1 outside
    params: Float[Array, "p"]  # of the farthest refit inside: the next one's start
    status: Int[Array, ""]
    found: Bool[Array, ""]
    worse: Bool[Array, ""]  # the fit is not the optimum
    trials: Int[Array, ""]


class Edge(NamedTuple):
    """Where tau reaches a target along a direction.

    Attributes:
        values: (k,), of the held parameters there: infinite where tau never does, the box's where it ends first.
        distance: in lengths of the direction.
        status: OK; NONFINITE where the model is not finite beyond; MAX_STEPS; NOT_OPTIMUM; INVALID_INPUT where the
            target is not finite; and of a fit that failed its own.
        at_bound: whether the box ends first.
    """

    values: Float[Array, "k"]
    distance: Float[Array, ""]
    status: Int[Array, ""]
    at_bound: Bool[Array, ""]


def edge(refits: Holding, held: Int[Array, "k"], direction: Float[Array, "k"], target: Float[Array, ""]) -> Edge:
    """Where tau = target lies from the estimate along a direction of the held parameters.

    Regula falsi with Illinois's halving inside a bracket, and bisection where the outer end is not finite; tau is
    nearly proportional to the distance, so that a few refits do.
    """
    tolerance = jnp.sqrt(jnp.finfo(target.dtype).eps)
    center, (lower, upper) = refits.center[held], (bound[held] for bound in refits.bounds)
    wall, still = jnp.where(direction > 0, upper, lower), direction == 0
    room = jnp.where(still, jnp.inf, (wall - center) / jnp.where(still, 1, direction))
    box = jnp.min(room)  # the distance at which it ends

    def at(distance: Float[Array, ""]) -> Float[Array, "k"]:
        return jnp.where(room <= distance, wall, center + distance * direction)

    def body(state: _Search) -> _Search:
        trial = state.trial
        refit = refits.hold(held, at(trial), state.params)
        excess = refits.tau(refit.cost) - target
        inside = excess < 0
        side = jnp.where(inside, jnp.int32(1), jnp.int32(-1))
        again = side == state.side
        low, high = jnp.where(inside, trial, state.low), jnp.where(inside, state.high, trial)
        # The end that stays a second time counts half, or the other would never move.
        low_excess = jnp.where(inside, excess, state.low_excess * jnp.where(again, 0.5, 1))
        high_excess = jnp.where(inside, state.high_excess * jnp.where(again, 0.5, 1), excess)
        close = (jnp.abs(excess) <= tolerance * target) | (jnp.isfinite(high) & (high - low <= tolerance * high))
        close |= inside & (trial >= box)
        grown = trial * jnp.clip(1.05 * target / jnp.maximum(excess + target, 1e-3 * target), 1.1, 3)
        false_position = low - low_excess * (high - low) / (high_excess - low_excess)
        bracketed = jnp.where(jnp.isfinite(high_excess), false_position, (low + high) / 2)
        following = jnp.where(jnp.isfinite(high), bracketed, jnp.where(trial == 0, target, grown))
        return _Search(
            trial=jnp.where(close, jnp.where(jnp.isfinite(excess), trial, low), jnp.minimum(following, box)),
            low=low,
            low_excess=low_excess,
            high=high,
            high_excess=high_excess,
            side=side,
            params=jnp.where(inside, refit.params, state.params),
            status=refit.status,
            found=close,
            worse=refit.status == Status.NOT_OPTIMUM,
            trials=state.trials + 1,
        )

    def going(state: _Search) -> Bool[Array, ""]:
        return ~state.found & (state.trials < _MOST_TRIALS) & (state.low < _FARTHEST * target) & usable & ~state.worse

    usable = jnp.isfinite(direction).all() & jnp.isfinite(target) & (refits.variance > 0)
    one = jnp.ones((), target.dtype)
    start = _Search(
        trial=0 * one,  # a refit there says whether the fit was the optimum
        low=0 * one,
        low_excess=-target,
        high=jnp.inf * one,
        high_excess=jnp.inf * one,
        side=jnp.zeros((), jnp.int32),
        params=refits.start,
        status=jnp.int32(Status.OK),
        found=jnp.asarray(False),
        worse=jnp.asarray(False),
        trials=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(going, body, start)
    unlimited = ~end.found & jnp.isinf(end.high) & (end.low >= _FARTHEST * target)
    known = usable & (end.found | unlimited) & ~end.worse
    distance = jnp.where(known, jnp.where(unlimited, jnp.inf, end.trial), jnp.nan)
    at_bound = known & (distance >= box) & jnp.isfinite(box)
    broken = jnp.isfinite(end.high) & jnp.isinf(end.high_excess)  # nothing is known beyond, however near the target is
    status = jnp.where(broken, jnp.int32(Status.NONFINITE), jnp.where(unlimited | at_bound, Status.OK, end.status))
    unknown = jnp.where(is_optimum(refits.fit.status), jnp.int32(Status.MAX_STEPS), refits.fit.status)
    unknown = jnp.where(jnp.isfinite(target), unknown, Status.INVALID_INPUT)
    status = jnp.where(known, status, jnp.where(end.worse, Status.NOT_OPTIMUM, unknown))
    values = jnp.where(known, at(distance), jnp.nan)
    return Edge(values, distance, status.astype(jnp.int32), at_bound)
