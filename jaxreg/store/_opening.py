"""Opening a store: to write the blocks of a sweep, or to read what it holds."""

import itertools
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.results import Sweep
from jaxreg.store._blocks import Division, Store, zarr
from jaxreg.store._creation import create, damaged, of_axes, read
from jaxreg.store._description import axis_arrays, described, description_of, differences, digest
from jaxreg.store._trees import decoded, rebuilt


def open_store(
    path: str | os.PathLike[str],
    *,
    axes: dict[str, Any],
    static: tuple[str, ...],
    shapes: Any,
    division: Division,
    fingerprint: dict[str, str],
) -> Store:
    """Begin a store, or go on with one that the same sweep has begun.

    Args:
        path: a directory; where there is none yet, or an empty one, the store is begun. It appears whole or not at all;
            where several processes begin one at once, it is that of the first.
        axes: name → points, static axes first, as in ``Sweep``.
        static: the names of the static axes.
        shapes: pytree of ``jax.ShapeDtypeStruct``, the shapes of one member's values.
        division: the blocks; a store that is gone on with keeps those that it was begun with.
        fingerprint: name → what must be the same to go on: versions and, under names that begin with "program", digests
            of the compiled function.

    Raises:
        ValueError: if there is something else at the path, such as the store of another sweep (the message says what
            differs), if it cannot be written, for a dtype that Zarr does not have, and for a path that is none.
        ImportError: without zarr (``pip install 'jaxreg[store]'``).

    >>> import tempfile
    >>> rates, shapes = np.array([0.1, 1.0, 10.0]), {"loss": jax.ShapeDtypeStruct((), np.float32)}
    >>> with tempfile.TemporaryDirectory() as path:
    ...     store = open_store(path, axes={"learning_rate": rates}, static=(), shapes=shapes,
    ...                        division=Division((), (3,), (2,)), fingerprint={"jax": jax.__version__})
    ...     store.write((0,), [np.array([0.5, 2.0], np.float32)])
    ...     print(store.is_finished((0,)), store.is_finished((1,)), load(path).values["loss"])
    True False [0.5 2.  nan]
    """
    zarr()
    path = folder(path)
    arrays = {name: axis_arrays(name, points) for name, points in axes.items() if name not in static}
    here = description_of(axes, arrays, static, shapes, division._asdict(), fingerprint)
    here = json.loads(json.dumps(here))  # as it will come back
    there = described(path)
    if there is None:
        there = here
        try:
            create(path, here, axes, arrays)
        except OSError as error:
            there = described(path)  # another process may have been first
            if there is None:
                raise ValueError(f"the store at {path} cannot be written: {error}") from error
    if found := list(differences(there, here)):
        raise ValueError(
            f"the store at {path} belongs to another study: {'; '.join(found)}. Give another path, or delete it"
        )
    if not os.access(path, os.W_OK):
        raise ValueError(f"the store at {path} cannot be written: no permission; jaxreg.store.load reads it")
    group: Any = zarr().open_group(path, mode="r+", zarr_format=3)
    kept = of_axes(axes, arrays)
    try:
        for name in damaged(group, kept):
            group[name][...] = kept[name][0]
    except OSError as error:
        raise ValueError(f"the store at {path} cannot be written: {error}") from error
    return Store(path, there)


def folder(path: Any, name: str = "store") -> Path:
    """The directory of a store: not the current one by an empty word, nor one called "s3:"."""
    if not isinstance(path, str | os.PathLike) or not str(path) or re.match(r"\w[\w+.-]+:/", str(path)):
        raise ValueError(f"{name} must be the path of a directory, got {path!r}: mount what is elsewhere")
    return Path(path).expanduser()


def load(path: str | os.PathLike[str]) -> Sweep:
    """The sweep in a store, finished or not, without its function.

    Members not computed yet are NaN where values are floating, -1 where they are integers (an OK ``status`` is 0), 0
    and False where they are unsigned or booleans. Numbers, words and None among the static values come back as they
    were, others as their names. Tuples come back as the classes of jaxreg that they were; other named tuples as new
    classes of the same names and fields, registered classes as dicts.

    Raises:
        ValueError: if there is no store at the path, or the points of an axis are damaged in it.
        ImportError: without zarr (``pip install 'jaxreg[store]'``).

    Warns:
        RuntimeWarning: if blocks are damaged; their members are as if not computed. Also if labels are that only a
            reader of tables sees. What is damaged, the sweep that made it writes anew.

    >>> load("nowhere")
    Traceback (most recent call last):
        ...
    ValueError: there is no store at nowhere
    """
    library, path = zarr(), folder(path)
    description = described(path)
    if description is None:
        raise ValueError(f"there is no store at {path}")
    store = Store(path, description, mode="r")
    values = [np.full(array.shape, array.fill_value, array.dtype) for array in store.arrays]
    lost = []
    for place in itertools.product(*map(range, (*store.division.static, *store.division.blocks))):
        if store.is_finished(place):
            leaves = store.read(place)
            lost += [place] if leaves is None else []
            for value, leaf in zip(values, leaves or (), strict=leaves is not None):
                value[store.division.selection(place)] = leaf
    if lost:
        what = (
            f"{len(lost)} of the {store.division.num_blocks} blocks in the store at {path} are damaged and left out, "
        )
        what += f"the first at {lost[0]}; the sweep that made them computes them again"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
    group: Any = library.open_group(path, mode="r", zarr_format=3)
    axes = {}
    for axis in description["axes"]:
        if "values" in axis:
            axes[axis["name"]] = tuple(map(decoded, axis["values"]))
        else:
            points = [_points(path, group, leaf) for leaf in axis["leaves"]]
            axes[axis["name"]] = rebuilt(axis["tree"], iter(points))
    static = tuple(axis["name"] for axis in description["axes"] if "values" in axis)
    if spoilt := damaged(group, of_axes(axes, {name: () for name in axes if name not in static})):
        what = f"the labels {', '.join(spoilt)} in the store at {path} are damaged; the same sweep mends them"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
    return Sweep(axes, rebuilt(description["values"]["tree"], iter(values)), static)


def _points(path: Path, group: Any, leaf: dict[str, Any]) -> Any:
    array: Any = read(group, leaf["array"])
    if digest(array, leaf["key"]) != leaf["digest"]:
        raise ValueError(f"the points {leaf['array']} in the store at {path} are damaged: the same sweep mends them")
    return array if leaf["key"] is None else jax.random.wrap_key_data(array, impl=leaf["key"])
