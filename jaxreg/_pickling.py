"""How results are pickled and copied: JAX's own arrays come back as float32 wherever double precision is off."""

from typing import Any

import jax
import numpy as np

from jaxreg import _trace


def keep_dtypes(*things: Any) -> None:
    """Have pickles and copies of the NamedTuples among these hold NumPy's arrays, whose dtype is kept everywhere."""
    for thing in things:
        if hasattr(thing, "_fields"):
            thing.__reduce__ = _reduced


def _reduced(self: Any) -> tuple[Any, ...]:
    return type(self), tuple(jax.tree.map(_on_host, field) for field in self)


def _on_host(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) and _trace.concrete(leaf) else leaf
