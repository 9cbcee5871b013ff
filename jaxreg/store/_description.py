"""What a store says of its sweep, in JSON, and in what two such descriptions differ."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg._names import leaf_names
from jaxreg._points import as_points, key_kind, labels, num_points
from jaxreg._tables import variables
from jaxreg.store._trees import decoded, encoded, structure

_FORMAT = 1  # raise it when older versions could not read what this one writes
OWN = "@jaxreg"  # subgroup of what tables do not show; no leaf has such a name


def described(path: Path) -> dict[str, Any] | None:
    """What a store says of itself; None if there is nothing at the path."""
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
        description: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())["attributes"]["jaxreg"]
        found = description["format"]
    except PermissionError as error:
        raise ValueError(f"the store at {path} cannot be read: {error.strerror}") from error
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is neither a store of jaxreg nor empty: give another path") from None
    if found != _FORMAT:
        raise ValueError(
            f"the store at {path} has format {found}, this version of jaxreg has {_FORMAT}: give another path, or use "
            "the version of jaxreg that made it"
        )
    return description


def description_of(
    axes: dict[str, Any],
    arrays: dict[str, Any],
    static: tuple[str, ...],
    shapes: Any,
    division: dict[str, tuple[int, ...]],
    fingerprint: dict[str, str],
) -> dict[str, Any]:
    coordinates = [label for name, points in axes.items() for label in labels(name, points, static=name in static)]
    leaves = jax.tree.leaves(shapes)
    for name, leaf in zip(leaf_names(shapes), leaves, strict=True):
        _storable(f"the value {name!r}", leaf.dtype)
    described: list[dict[str, Any]] = []
    for name, points in axes.items():
        if name in static:
            described.append({"name": name, "values": [*map(encoded, points)]})
            continue
        of_leaves = [
            {
                "array": leaf,
                "dtype": str(array.dtype),
                "shape": array.shape[1:],
                "key": kind,
                "digest": digest(array, kind),
            }
            for leaf, array, kind in arrays[name]
        ]
        described.append(
            {"name": name, "length": num_points(points), "tree": structure(as_points(points)), "leaves": of_leaves}
        )
    return {
        "format": _FORMAT,
        "axes": described,
        "values": {
            "tree": structure(shapes),
            "leaves": [
                {"name": one.name, "dims": one.dims, "dtype": str(leaf.dtype), "shape": leaf.shape}
                for one, leaf in zip(variables(shapes, coordinates), leaves, strict=True)
            ],
        },
        "fingerprint": fingerprint,
        "division": division,
    }


def digest(array: np.ndarray, kind: str | None) -> str:
    """What tells the points in a leaf of an axis from others."""
    return hashlib.sha256(f"{array.dtype} {array.shape} {kind} ".encode() + array.tobytes()).hexdigest()


def axis_arrays(name: str, points: Any) -> list[tuple[str, np.ndarray, str | None]]:
    """Each leaf of an axis: the array that keeps it, its numbers, and the kind of key that they are."""
    points = as_points(points)
    found = []
    for leaf_name, leaf in zip(leaf_names({name: points}), jax.tree.leaves(points), strict=True):
        kind = key_kind(leaf)
        array = np.asarray(leaf if kind is None else jax.random.key_data(leaf))
        _storable(f"the axis {name!r}", array.dtype)
        is_coordinate = leaf is points and kind is None and array.ndim == 1
        own = f"{name}.value" if leaf is points else leaf_name
        found.append((name if is_coordinate else f"{OWN}/{own}", array, kind))
    return found


def _storable(what: str, dtype: Any) -> None:
    if getattr(dtype, "kind", "V") not in "biufc":
        raise ValueError(f"{what} is of dtype {dtype}, which Zarr does not have: convert it, as to float32")


def differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    """In what a store differs from the sweep that is asked for."""
    axes = [[axis["name"] for axis in description["axes"]] for description in (there, here)]
    if axes[0] != axes[1]:
        yield f"it has the axes {', '.join(axes[0])} there and {', '.join(axes[1])} here"
        return
    found = [
        difference
        for old, new in zip(there["axes"], here["axes"], strict=True)
        if (difference := _axis_difference(old, new))
    ]
    found += _value_differences(there["values"], here["values"])
    before, now = there["fingerprint"], here["fingerprint"]
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    versions = [name for name in changed if not name.startswith("program")]
    found += [f"it was computed with {name} {before.get(name)}, this is {now.get(name)}" for name in versions]
    yield from found
    # Any of the above changes the program too; only where nothing does is the function itself another.
    if not found and changed:
        programs = [name.removeprefix("program").removeprefix(" (").removesuffix(")") for name in changed]
        which = "" if programs == [""] else f" (static: {'; '.join(programs)})"
        yield f"the function or the data it closes over differ{which}"


def _axis_difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    name = f"axis {there['name']!r}"
    if ("values" in there) != ("values" in here):
        kinds = ["static" if "values" in axis else "an axis of arrays" for axis in (there, here)]
        return f"{name} is {kinds[0]} there and {kinds[1]} here"
    if "values" in there:
        lists = [", ".join(str(decoded(value)) for value in axis["values"]) for axis in (there, here)]
        return None if there == here else f"{name} has the values {lists[0]} there and {lists[1]} here"
    if there["length"] != here["length"]:
        return f"{name} has {there['length']} points there and {here['length']} here"
    forms = [", ".join(map(_spoken_leaf, axis["leaves"])) for axis in (there, here)]
    if forms[0] != forms[1]:
        return f"{name} has points of {forms[0]} there and {forms[1]} here"
    if there["tree"] != here["tree"]:
        return f"{name} has points in other tuples, lists or dicts"
    return None if there == here else f"{name} has other values"


def _spoken_leaf(leaf: dict[str, Any]) -> str:
    name = leaf["array"].rpartition("/")[2]
    return f"{name}: {leaf['key'] or leaf['dtype']} {tuple(leaf['shape'])}"


def _value_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    old, new = ({leaf["name"]: leaf for leaf in values["leaves"]} for values in (there, here))
    if list(old) != list(new):
        return [f"it has the values {', '.join(old)} there and {', '.join(new)} here"]
    found = [
        f"the value {name!r} is {old[name]['dtype']} {tuple(old[name]['shape'])} there and "
        f"{new[name]['dtype']} {tuple(new[name]['shape'])} here"
        for name in old
        if old[name] != new[name]
    ]
    if not found and there["tree"] != here["tree"]:
        found = ["the values are in other tuples, lists or dicts"]
    return found
