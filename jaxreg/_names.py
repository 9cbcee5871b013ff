"""Names of the numbers in a parameter pytree."""

from typing import Any

import jax
import numpy as np


def of(params: Any, *, leading: int = 0) -> list[str]:
    """One name for each number, in ravel_pytree order; ``leading`` axes of each leaf hold members and are not named.

    >>> of({"w": np.zeros(2), "b": 0.0})
    ['b', 'w[0]', 'w[1]']
    >>> of({"peak": {"center": 0.0}})
    ['peak.center']
    """
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        stem = ".".join(_key(key) for key in path) or "params"
        shape = np.shape(leaf)[leading:]
        names += [stem + (f"[{', '.join(map(str, index))}]" if index else "") for index in np.ndindex(*shape)]
    return names


def _key(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
