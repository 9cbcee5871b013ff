"""Pytrees without their leaves, and static values, as JSON and back."""

import collections
import dataclasses
import importlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxreg._points import readable


def encoded(value: Any) -> Any:
    """A static value, or the key of a dict, in JSON."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if type(value) is tuple:
        return {"tuple": [*map(encoded, value)]}
    if type(value) is dict:
        return {"dict": {name: encoded(part) for name, part in value.items()}}
    return value if value is None or isinstance(value, str | int | float) else {"name": readable(value)}


def decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(map(decoded, value["tuple"]))
    if "dict" in value:
        return {name: decoded(part) for name, part in value["dict"].items()}
    return float(value["float"]) if "float" in value else value["name"]


def structure(tree: Any) -> dict[str, Any]:
    """The structure of a pytree in JSON."""
    if tree is None:
        return {"kind": "none"}
    paths = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)[0]
    if len(paths) == 1 and not paths[0][0]:
        return {"kind": "leaf"}
    parts = [structure(child) for _, child in paths]
    kind = type(tree)
    # Its public home, which stays where private modules are moved.
    home = kind.__module__.partition("._")[0] if kind.__module__.split(".")[0] == "jaxreg" else ""
    named = {"name": kind.__qualname__, "home": home, "parts": parts}
    if hasattr(tree, "_fields"):
        return {"kind": "namedtuple", "fields": tree._fields, **named}
    if home and dataclasses.is_dataclass(tree):
        return {"kind": "dataclass", "fields": [path[0].name for path, _ in paths], **named}
    if isinstance(tree, list | tuple):
        return {"kind": "list" if isinstance(tree, list) else "tuple", "parts": parts}
    keys = [getattr(path[0], "key", getattr(path[0], "name", getattr(path[0], "idx", ""))) for path, _ in paths]
    return {"kind": "dict", "keys": [*map(encoded, keys)], "parts": parts}


def rebuilt(tree: dict[str, Any], leaves: Iterator[Any]) -> Any:
    """A pytree of the structure that ``structure`` has described."""
    kind = tree["kind"]
    if kind in ("none", "leaf"):
        return None if kind == "none" else next(leaves)
    parts = [rebuilt(part, leaves) for part in tree["parts"]]
    if kind == "dict":
        return dict(zip(map(decoded, tree["keys"]), parts, strict=True))
    if kind in ("namedtuple", "dataclass"):
        return _of_class(tree, dict(zip(tree["fields"], parts, strict=True)))
    return parts if kind == "list" else tuple(parts)


def _of_class(tree: dict[str, Any], fields: dict[str, Any]) -> Any:
    """As the class of jaxreg that it was, also where that has got more fields since, or as a new one."""
    name = tree["name"].rpartition(".")[2]
    if tree["home"].split(".")[0] == "jaxreg":
        found: Any = getattr(importlib.import_module(tree["home"]), name, None)
        now: Any = getattr(found, "__dataclass_fields__", ()) or getattr(found, "_fields", ())
        if fields.keys() == set(now) or (dataclasses.is_dataclass(found) and fields.keys() <= set(now)):
            return found(**fields)
    return collections.namedtuple(name, list(fields))(**fields)
