"""A store without blocks: its arrays, coordinates and description, made whole or not at all."""

import shutil
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg._members import not_computed
from jaxreg._points import labels
from jaxreg.store._blocks import MARKS, Store, abandoned, division_of, zarr

_CREATING = ".creating"


def create(
    path: Path,
    description: dict[str, Any],
    axes: dict[str, Any],
    arrays: dict[str, Any],
    *,
    leaves: list[np.ndarray] | None = None,
    replace: bool = False,
) -> None:
    """A store without blocks, made beside its place and moved there when it is whole.

    Args:
        path: where it is to be.
        description: what it says of itself.
        axes: name → points.
        arrays: name → what keeps the points of an axis.
        leaves: the values of its only block, where they are known already.
        replace: whether it takes the place of another.

    Raises:
        OSError: also if another process has moved its own there meanwhile.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.iterdir():  # of creations that were killed
        if other.name.startswith(f".{path.name}.") and other.name.endswith(_CREATING) and abandoned(other):
            shutil.rmtree(other, ignore_errors=True)
    new, old = (path.parent / f".{path.name}.{uuid.uuid4().hex}{_CREATING}" for _ in range(2))
    try:
        new.mkdir()
        _fill(new, description, axes, arrays)
        if leaves is not None:
            Store(new, description).write((), leaves)
        if replace:
            path.rename(old)
        new.rename(path)
    except BaseException:
        _remove(new)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Delete what a failed creation has left; writes that zarr had begun beside the one that failed still end."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)
        if not folder.exists():
            return


def of_axes(axes: dict[str, Any], arrays: dict[str, Any]) -> dict[str, tuple[np.ndarray, list[str] | None]]:
    """What a store keeps of its axes, each with its dimensions: coordinates for tables, and points that are none."""
    coordinates: dict[str, Any] = {
        label: (along, [name])
        for name, points in axes.items()
        for label, along in labels(name, points, static=name not in arrays).items()
    }
    points = [(leaf, array) for of_axis in arrays.values() for leaf, array, _ in of_axis]
    return coordinates | {leaf: (array, None) for leaf, array in points if leaf not in coordinates}


def damaged(group: Any, kept: dict[str, tuple[np.ndarray, Any]]) -> list[str]:
    """The arrays of a store that are not what they should be."""
    return [name for name, (one, _) in kept.items() if read(group, name, one.dtype).tobytes() != one.tobytes()]


def read(group: Any, name: str, dtype: Any = None) -> np.ndarray:
    """An array of a store, or an empty one where its file is damaged."""
    try:
        return np.asarray(group[name][...], dtype)
    except Exception:  # whatever it makes the decoder do
        return np.empty(0)


def _fill(path: Path, description: dict[str, Any], axes: dict[str, Any], arrays: dict[str, Any]) -> None:
    from zarr.codecs import Crc32cCodec

    division, leaves = division_of(description), description["values"]["leaves"]
    kept = of_axes(axes, arrays)
    coordinates = " ".join(name for name, (_, dims) in kept.items() if dims)
    attributes = {"jaxreg": description, "coordinates": coordinates}  # the second is for xarray
    group = zarr().create_group(path, zarr_format=3, attributes=attributes)

    # Not compressed: the low bits of floats are noise, and it would take longer than writing.
    def add(name: str, dtype: Any, shape: Any, chunks: Any, **more: Any) -> Any:
        chunks = tuple(max(length, 1) for length in chunks)
        return group.create_array(
            name, dtype=dtype, shape=shape, chunks=chunks, filters=None, compressors=[Crc32cCodec()], **more
        )

    for name, (array, dims) in kept.items():
        dtype = str if array.dtype.kind == "U" else array.dtype
        add(name, dtype, array.shape, array.shape, dimension_names=dims)[...] = array
    members, ones = (*division.static, *division.grid), (1,) * len(division.static)
    for leaf in leaves:
        dtype = np.dtype(leaf["dtype"])
        chunks = (*ones, *division.block, *leaf["shape"])
        names = [*axes, *leaf["dims"]]
        more = {"fill_value": not_computed(dtype), "dimension_names": names}
        add(leaf["name"], dtype, (*members, *leaf["shape"]), chunks, **more)
    blocks = (*division.static, *division.blocks)
    add(MARKS, np.int64, blocks, (1,) * len(blocks), fill_value=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata are not in the specification of the format yet
        zarr().consolidate_metadata(path)
