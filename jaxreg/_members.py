"""How many members of a sweep are computed together, said to what computes one of them.

A layout that is fast for a thousand members is slow for one, and inside vmap a function cannot see the others. The
names of the axes that it is mapped over it can see, and JAX keeps programs traced under different names apart: a sweep
maps over axes of these names, and training reads them.
"""

import math
from typing import Any

import numpy as np
from jax import lax

MOST_AXES = 16  # of a sweep


def axis_name(number: int, *, draws: bool) -> str:
    """The name of a sweep's axis; ``draws``: its points are keys, so its members see the rows in different orders."""
    return f"jaxreg.{'draws' if draws else 'values'}.{number}"


def num_members() -> int:
    """The members computed together."""
    return num_sharing() * _size(draws=True)


def num_sharing() -> int:
    """The members that see the same minibatches."""
    return _size(draws=False)


def _size(*, draws: bool) -> int:
    return math.prod(_length(axis_name(number, draws=draws)) for number in range(MOST_AXES))


def _length(name: str) -> int:
    try:
        return lax.axis_size(name)
    except NameError:  # not mapped over this axis
        return 1


def not_computed(dtype: Any) -> Any:
    """What stands for a number of a member that is not computed."""
    kind = np.dtype(dtype).kind
    return np.nan if kind in "fc" else -1 if kind == "i" else 0
