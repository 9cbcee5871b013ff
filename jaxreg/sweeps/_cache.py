"""What is compiled for a function, kept for as long as the function lives.

A function holds the data that it has closed over, and a cache that held the function would hold them for ever.
"""

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")


def cached(build: Callable[..., Made]) -> Callable[..., Made]:
    """Call ``build(fn, *rest)`` once for each fn and rest; what it makes must not refer to fn."""
    strongly = functools.lru_cache(maxsize=16)(build)
    weakly: weakref.WeakKeyDictionary[Any, dict[Any, Made]] = weakref.WeakKeyDictionary()

    @functools.wraps(build)
    def call(fn: Any, *rest: Any) -> Made:
        # A bound method lives no longer than the expression that names it.
        if isinstance(fn, types.MethodType) or not type(fn).__weakrefoffset__:
            return strongly(fn, *rest)
        made = weakly.setdefault(fn, {})
        if rest not in made:
            made[rest] = build(fn, *rest)
        return made[rest]

    return call
