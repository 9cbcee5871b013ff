"""Results as they are pickled and copied: JAX's own arrays come back as float32 wherever double precision is off."""

from typing import Any, TypeVar

import jax
import numpy as np

Class = TypeVar("Class", bound=type)


def kept(result: Class) -> Class:
    """A NamedTuple whose pickles and copies hold NumPy's arrays, which keep their dtype; a decorator.

    >>> import pickle
    >>> from typing import NamedTuple
    """
    def reduced(self: Any) -> tuple[Any, ...]:
        fields = (jax.tree.map(_on_host, field) for field in self)
        return type(self), tuple(fields)

    result.__reduce__ = reduced
    return result


def _on_host(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf
