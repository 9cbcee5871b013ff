"""How many members a traced function is computed for: ``sweep`` maps over axes of these names, ``train`` reads them.

A layout that is fast for a thousand members is slow for one, and inside ``vmap`` a function cannot see the others. The
names of the axes it is mapped over it can see, and JAX keeps programs traced under different names apart.
"""

import math

from jax import lax

MOST_AXES = 16


def axis_name(number: int, *, draws: bool) -> str:
    """The name of a sweep's axis; ``draws``: its points are keys, so its members see the rows in different orders."""
    return f"jaxreg.{'draws' if draws else 'values'}.{number}"


def count() -> int:
    """The members computed together."""
    return sharing() * _size(draws=True)


def sharing() -> int:
    """The members that see the same minibatches."""
    return _size(draws=False)


def _size(*, draws: bool) -> int:
    return math.prod(_length(axis_name(number, draws=draws)) for number in range(MOST_AXES))


def _length(name: str) -> int:
    try:
        return lax.axis_size(name)
    except NameError:  # not mapped over this axis
        return 1
