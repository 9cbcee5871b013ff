"""What JAX is doing while a function of ours runs: tracing it, or computing."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state


def concrete(*values: Any) -> bool:
    """Whether the values of all leaves can be read now; under a trace they cannot."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def at_top_level() -> bool:
    """Whether nothing is being traced, so that a jit cache of our own is safe.

    Under a trace a model or an optimiser may have closed over tracers, and a cache that outlives the trace would leak
    them. They are opaque functions, so ask JAX which trace is the current one.
    """
    return bool(get_opaque_trace_state() == _top_level_state())


def x64() -> bool:
    """Whether double precision is on, here and now: the setting is one of the thread and can change."""
    return jnp.result_type(float) == jnp.float64


@functools.cache
def _top_level_state() -> Any:
    # A new thread starts at the top level, wherever this one is.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(get_opaque_trace_state).result()
