"""Finished blocks of a sweep in a Zarr store (format 3): killed at any instant, it goes on from the last whole block.

The store is a group that ``xarray.open_zarr`` shows with its axes and values, also half finished. Values are arrays
with one chunk for each block; chunks are written to a file beside and renamed, and carry a checksum. When all values of
a block are written, so is its mark: a checksum over all of them. A block counts only if its values agree with its mark,
so whatever was cut short or damaged is computed again. What describes the sweep is in the attributes of the group.
"""

import itertools
import json
import math
import os
import shutil
import uuid
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg.results import Sweep, labels
from jaxreg.store._description import OWN, axis_arrays, described, description_of, differences
from jaxreg.store._trees import decoded, rebuilt

_MARKS = f"{OWN}/finished"  # 0: not finished; otherwise 1 + crc32 of the block's values
_CREATING = ".creating"
_WRITE_ALL = {"write_empty_chunks": True}  # Zarr would leave out a chunk of nothing but fill values

Place = tuple[int, ...]  # of a block: indices of the static values, then of the block along each axis


class Division(NamedTuple):
    """How a sweep's grid is divided into blocks: rectangles of one shape, cut off at the ends of the axes.

    Attributes:
        static: the lengths of the static axes; a block lies at one point of them.
        grid: the lengths of the array axes, in the order given.
        block: the shape of a block.
    """

    static: tuple[int, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of blocks along each array axis."""
        return tuple(math.ceil(length / part) for length, part in zip(self.grid, self.block, strict=True))

    @property
    def num_blocks(self) -> int:
        """The number of blocks, those at all static points together."""
        return math.prod(self.static) * math.prod(self.blocks)

    def selection(self, place: Place) -> tuple[slice, ...]:
        """Where a block lies in an array with the axes (static…, grid…)."""
        static, indices = place[: len(self.static)], place[len(self.static) :]
        spans = zip(indices, self.block, self.grid, strict=True)
        return (
            *(slice(index, index + 1) for index in static),
            *(slice(index * part, min((index + 1) * part, length)) for index, part, length in spans),
        )


class Store:
    """An open store of a sweep's blocks. Its methods may be called from several threads, and from several processes
    that each have other blocks.

    Attributes:
        division: the division that the store was begun with.
    """

    def __init__(self, path: Path, description: dict[str, Any], *, mode: str = "r+") -> None:
        group: Any = _zarr().open_group(path, mode=mode, zarr_format=3)
        self.path = path
        self.division = _division(description)
        self.arrays = [group[leaf["name"]].with_config(_WRITE_ALL) for leaf in description["values"]["leaves"]]
        self._marks = group[_MARKS].with_config(_WRITE_ALL)

    def is_finished(self, place: Place) -> bool:
        """Whether a block was written to its end; ``read`` tells whether it is still whole."""
        return self._mark(place) != 0

    def read(self, place: Place) -> list[np.ndarray] | None:
        """The values of a block, or None if it is not finished, or not as it was written."""
        mark, selection, checksum = self._mark(place), self.division.selection(place), 0
        leaves = []
        try:
            for array in self.arrays if mark else ():
                leaf = np.ascontiguousarray(array[selection])
                checksum = zlib.crc32(leaf.data, checksum) if leaf.size else checksum
                leaves.append(leaf.reshape(leaf.shape[len(self.division.static) :]))
        except Exception:  # whatever a damaged file makes the decoder do
            return None
        return leaves if mark == 1 + checksum else None

    def write(self, place: Place, leaves: list[np.ndarray]) -> None:
        """Keep the values of a block, each (shape of the block as cut off…, shape of the leaf…).

        Raises:
            OSError: where nothing can be written, as on a full disk; the blocks written before are kept.
        """
        selection, checksum = self.division.selection(place), 0
        static = (1,) * len(self.division.static)
        members = tuple(part.stop - part.start for part in selection[len(static) :])
        try:
            for array, given in zip(self.arrays, leaves, strict=True):
                wanted = (*members, *array.shape[len(selection) :])
                if given.shape != wanted or given.dtype != array.dtype:
                    got = f"{given.dtype} {given.shape}"
                    raise ValueError(f"{array.basename} of block {place} must be {array.dtype} {wanted}, got {got}")
                leaf = np.ascontiguousarray(given)
                array[selection] = leaf.reshape(*static, *wanted)
                checksum = zlib.crc32(leaf.data, checksum) if leaf.size else checksum
            self._marks[place] = 1 + checksum
        except OSError as error:
            reason = f"{error.strerror or error}; the finished blocks are kept, the same call goes on from them"
            raise OSError(error.errno, reason, str(self.path)) from error

    def finish(self) -> None:
        """Remove what killed writes left behind. For when all blocks are finished and nobody writes any more.

        The metadata need nothing: they are consolidated from the start.
        """
        for partial in self.path.rglob("*.partial"):
            partial.unlink(missing_ok=True)

    def _mark(self, place: Place) -> int:
        try:
            return int(self._marks[place])
        except Exception:  # a damaged mark is none
            return 0


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
        path: a directory; where there is none yet, or an empty one, the store is begun. It appears whole or not at all.
        axes: name → points, static axes first, as in ``Sweep``.
        static: the names of the static axes.
        shapes: pytree of ``jax.ShapeDtypeStruct``, the shapes of one member's values.
        division: the blocks; a store that is gone on with keeps those that it was begun with.
        fingerprint: name → what must be the same to go on: versions and, under names that begin with "program", digests
            of the compiled function.

    Raises:
        ValueError: if there is something else at the path, such as the store of another sweep (the message says what
            differs), if it cannot be written, or for a dtype that Zarr does not have.
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
    _zarr()
    path = Path(path)
    arrays = {name: axis_arrays(name, points) for name, points in axes.items() if name not in static}
    here = description_of(axes, arrays, static, shapes, division._asdict(), fingerprint)
    here = json.loads(json.dumps(here))  # as it will come back
    there = described(path)
    if there is None:
        try:
            _create(path, here, axes, arrays)
        except OSError as error:
            raise ValueError(f"the store at {path} cannot be written: {error}") from error
        there = here
    elif found := list(differences(there, here)):
        raise ValueError(
            f"the store at {path} belongs to another sweep: {'; '.join(found)}. Give another path, or delete it"
        )
    elif not os.access(path, os.W_OK):
        raise ValueError(f"the store at {path} cannot be written: no permission; jaxreg.store.load reads it")
    return Store(path, there)


def load(path: str | os.PathLike[str]) -> Sweep:
    """The sweep in a store, finished or not, without its function.

    Members not computed yet are NaN where values are floating, -1 where they are integers (an OK ``status`` is 0), 0
    and False where they are unsigned or booleans. Numbers, words and None among the static values come back as they
    were, others as their names. Tuples come back as the classes of jaxreg that they were; other named tuples as new
    classes of the same names and fields, registered classes as dicts.

    Raises:
        ValueError: if there is no store at the path.
        ImportError: without zarr (``pip install 'jaxreg[store]'``).

    Warns:
        RuntimeWarning: if blocks are damaged; their members are as if not computed.

    >>> load("nowhere")
    Traceback (most recent call last):
        ...
    ValueError: there is no store at nowhere
    """
    zarr = _zarr()
    path = Path(path)
    description = described(path)
    if description is None:
        raise ValueError(f"there is no store at {path}")
    store = Store(path, description, mode="r")
    values = [np.full(array.shape, array.fill_value, array.dtype) for array in store.arrays]
    damaged = 0
    for place in itertools.product(*map(range, (*store.division.static, *store.division.blocks))):
        if store.is_finished(place):
            leaves = store.read(place)
            damaged += leaves is None
            for value, leaf in zip(values, leaves or (), strict=leaves is not None):
                value[store.division.selection(place)] = leaf
    if damaged:
        warnings.warn(
            f"{damaged} of the {store.division.num_blocks} blocks in the store at {path} are damaged and left out; the "
            "sweep that made them computes them again",
            RuntimeWarning,
            stacklevel=2,
        )
    group: Any = zarr.open_group(path, mode="r", zarr_format=3)
    axes = {}
    for axis in description["axes"]:
        if "values" in axis:
            axes[axis["name"]] = tuple(map(decoded, axis["values"]))
        else:
            points = [_points(group[leaf["array"]][...], leaf["key"]) for leaf in axis["leaves"]]
            axes[axis["name"]] = rebuilt(axis["tree"], iter(points))
    static = tuple(axis["name"] for axis in description["axes"] if "values" in axis)
    return Sweep(axes, rebuilt(description["values"]["tree"], iter(values)), static)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a store needs zarr: pip install 'jaxreg[store]'") from error
    return zarr


def _points(array: Any, key: str | None) -> Any:
    return np.asarray(array) if key is None else jax.random.wrap_key_data(array, impl=key)


def _division(description: dict[str, Any]) -> Division:
    return Division(**{name: tuple(given) for name, given in description["division"].items()})


def _create(path: Path, description: dict[str, Any], axes: dict[str, Any], arrays: dict[str, Any]) -> None:
    """A store without blocks, made beside its place and moved there when it is whole."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.iterdir():  # of creations that were killed
        if other.name.startswith(f".{path.name}.") and other.name.endswith(_CREATING):
            shutil.rmtree(other, ignore_errors=True)
    new = path.parent / f".{path.name}.{uuid.uuid4().hex}{_CREATING}"
    try:
        new.mkdir()
        _fill(new, description, axes, arrays)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _fill(path: Path, description: dict[str, Any], axes: dict[str, Any], arrays: dict[str, Any]) -> None:
    from zarr.codecs import Crc32cCodec

    division, leaves = _division(description), description["values"]["leaves"]
    coordinates = {
        label: (name, along)
        for name, points in axes.items()
        for label, along in labels(name, points, static=name not in arrays).items()
    }
    attributes = {"jaxreg": description, "coordinates": " ".join(coordinates)}  # the second is for xarray
    group = _zarr().create_group(path, zarr_format=3, attributes=attributes)

    # Not compressed: the low bits of floats are noise, and it would take longer than writing.
    def add(name: str, dtype: Any, shape: Any, chunks: Any, **more: Any) -> Any:
        chunks = tuple(max(length, 1) for length in chunks)
        return group.create_array(
            name, dtype=dtype, shape=shape, chunks=chunks, filters=None, compressors=[Crc32cCodec()], **more
        )

    def keep(name: str, array: np.ndarray, **more: Any) -> None:
        add(name, str if array.dtype.kind == "U" else array.dtype, array.shape, array.shape, **more)[...] = array

    for name, (axis, along) in coordinates.items():
        keep(name, along, dimension_names=[axis])
    for name, of_axis in arrays.items():
        for leaf, array, _ in of_axis:
            if leaf != name:
                keep(leaf, array)
    members, ones = (*division.static, *division.grid), (1,) * len(division.static)
    for leaf in leaves:
        dtype = np.dtype(leaf["dtype"])
        fill = np.nan if dtype.kind in "fc" else -1 if dtype.kind == "i" else 0
        chunks = (*ones, *division.block, *leaf["shape"])
        names = [*axes, *leaf["dims"]]
        add(leaf["name"], dtype, (*members, *leaf["shape"]), chunks, fill_value=fill, dimension_names=names)
    blocks = (*division.static, *division.blocks)
    add(_MARKS, np.int64, blocks, (1,) * len(blocks), fill_value=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata are not in the specification of the format yet
        _zarr().consolidate_metadata(path)
