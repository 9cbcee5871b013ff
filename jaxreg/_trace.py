"""What JAX is doing while a function of ours runs, tracing or computing, and its settings."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def concrete(*values: Any) -> bool:
    """Whether the values of all leaves can be read now; under a trace they cannot."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def at_top_level() -> bool:
    """Whether nothing is being traced. What a function has closed over is opaque, so JAX is asked for its state."""
    state, top_level = _state()
    return bool(state() == top_level)


@functools.cache
def _state() -> tuple[Callable[[], Any], Any]:
    """What tells the state, and that at the top level."""
    from jax.extend.core import get_opaque_trace_state  # its package brings Pallas along, a fiftieth of our import

    # A new thread starts at the top level, wherever this one is.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return get_opaque_trace_state, pool.submit(get_opaque_trace_state).result()


def broadcast(leaf: Any, shape: tuple[int, ...]) -> Any:
    """Of this shape: a view of an array whose values can be read now, another program's number under a trace."""
    return np.broadcast_to(leaf, shape) if concrete(leaf) else jnp.broadcast_to(leaf, shape)


def undisturbed(fn: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A function that JAX's debugging modes leave alone: it marks with NaN what there is not, and calls programs."""

    @functools.wraps(fn)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        with jax.debug_nans(False), jax.disable_jit(False):
            return fn(*args, **kwargs)

    return call


def x64() -> bool:
    """Whether double precision is on, here and now: the setting is one of the thread and can change."""
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
