"""What is compiled for a function, kept for as long as the function lives.

A function holds the data that it has closed over, and a cache that held the function would hold them for ever.
"""

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")

_MOST = 256  # of one kind, where the functions live on


def kept(owners: int) -> Callable[[Callable[Given, Made]], Callable[Given, Made]]:
    """Call a function once for equal arguments; what it makes goes when one of the objects that it is made for goes.

    What it makes must not refer to those objects.

    Args:
        owners: the first arguments, as many, are looked into for such objects: functions, or tuples of them. The other
            arguments are plain values.
    """

    def decorate(build: Callable[Given, Made]) -> Callable[Given, Made]:
        made: dict[Any, tuple[Made, list[Any]]] = {}

        @functools.wraps(build)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Made:
            objects: list[Any] = []
            key = (_key(args[:owners], objects), args[owners:])
            found = made.get(key)
            if found is None:
                watches = [weakref.ref(one, lambda _: made.pop(key, None)) for one in objects]
                found = build(*args, **kwargs), watches
                if len(made) >= _MOST:
                    made.pop(next(iter(made)), None)
                made[key] = found
            return found[0]

        return call

    return decorate


_PLAIN = {type(None), bool, int, float, str}


def _key(value: Any, objects: list[Any]) -> Any:
    """What an argument is equal by; the objects in it that live by themselves are told by their identity."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, tuple):
        return kind, *[_key(part, objects) for part in value]
    if kind is types.MethodType:  # it lives no longer than the expression that names it
        return value.__func__, _key(value.__self__, objects)
    by_identity = kind.__hash__ in (None, object.__hash__)
    if not by_identity and hasattr(kind, "__dataclass_fields__"):
        return kind, *[_key(getattr(value, name), objects) for name in kind.__dataclass_fields__]
    if not ((by_identity or callable(value)) and kind.__weakrefoffset__):
        return value
    objects.append(value)
    return weakref.ref, id(value)  # of another object only when this one is gone, and its entry with it
