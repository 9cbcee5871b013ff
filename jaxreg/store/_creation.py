"""A store without blocks: its arrays, coordinates and description, made whole or not at all."""

import shutil
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.results import labels
from jaxreg.store._blocks import MARKS, division_of, zarr

_CREATING = ".creating"


def create(path: Path, description: dict[str, Any], axes: dict[str, Any], arrays: dict[str, Any]) -> None:
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
        _remove(new)
        raise


def _remove(folder: Path) -> None:
    """Delete what a failed creation has left; writes that zarr had begun beside the one that failed still end."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)
        if not folder.exists():
            return


def _fill(path: Path, description: dict[str, Any], axes: dict[str, Any], arrays: dict[str, Any]) -> None:
    from zarr.codecs import Crc32cCodec

    division, leaves = division_of(description), description["values"]["leaves"]
    coordinates = {
        label: (name, along)
        for name, points in axes.items()
        for label, along in labels(name, points, static=name not in arrays).items()
    }
    attributes = {"jaxreg": description, "coordinates": " ".join(coordinates)}  # the second is for xarray
    group = zarr().create_group(path, zarr_format=3, attributes=attributes)

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
    add(MARKS, np.int64, blocks, (1,) * len(blocks), fill_value=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata are not in the specification of the format yet
        zarr().consolidate_metadata(path)
