"""The blocks of a store: where each lies, written with its mark, and read if it agrees with that."""

import math
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxreg.store._description import OWN

MARKS = f"{OWN}/finished"  # 0: not finished; otherwise 1 + crc32 of the block's values
_ABANDONED = 3600  # seconds after which nobody is still at work on what was begun
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
        group: Any = zarr().open_group(path, mode=mode, zarr_format=3)
        self.path = path
        self.division = division_of(description)
        self.arrays = [group[leaf["name"]].with_config(_WRITE_ALL) for leaf in description["values"]["leaves"]]
        self._marks = group[MARKS].with_config(_WRITE_ALL)

    def is_finished(self, place: Place) -> bool:
        """Whether a block was written to its end; ``read`` tells whether it is still whole."""
        return self._mark(place) != 0

    def read(self, place: Place) -> list[np.ndarray] | None:
        """The values of a block, or None if it is not finished, or not as it was written."""
        mark, selection, checksum = self._mark(place), self.division.selection(place), 0
        leaves = []
        try:
            for array in self.arrays if mark else ():
                leaf = np.asarray(array[selection], order="C")
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
                leaf = np.asarray(given, order="C")
                array[selection] = leaf.reshape((*static, *wanted))
                checksum = zlib.crc32(leaf.data, checksum) if leaf.size else checksum
            self._marks[place] = 1 + checksum
        except OSError as error:
            place = error.filename2 or error.filename
            reason = f"{error.strerror or error}{f': {place}' if place else ''}"
            reason += "; the finished blocks are kept, the same call goes on from them"
            raise OSError(error.errno, reason, str(self.path)) from error

    def finish(self) -> None:
        """Remove what killed writes left behind. For when all blocks are finished.

        Another process may still write the same blocks; what it has begun is young. The metadata need nothing: they
        are consolidated from the start.
        """
        for partial in filter(abandoned, self.path.rglob("*.partial")):
            partial.unlink(missing_ok=True)

    def _mark(self, place: Place) -> int:
        try:
            return int(self._marks[place])
        except Exception:  # a damaged mark, which no block agrees with
            return -1


def abandoned(path: Path) -> bool:
    """Whether something half written is left from a process that was killed."""
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:  # its writer has finished it
        return False


def division_of(description: dict[str, Any]) -> Division:
    """The division that a store's description tells of."""
    return Division(**{name: tuple(given) for name, given in description["division"].items()})


def zarr() -> Any:
    """The library, or what to install."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a store needs zarr: pip install 'jaxreg[store]'") from error
    return zarr
