"""Finished blocks of a sweep in a Zarr store (format 3): killed at any instant, it goes on from the last whole block.

The store is a group that ``xarray.open_zarr`` shows with its axes and values, also half finished. Values are arrays
with one chunk for each block; chunks are written to a file beside and renamed, and carry a checksum. When all values of
a block are written, so is its mark: a checksum over all of them. A block counts only if its values agree with its mark,
so whatever was cut short or damaged is computed again. What describes the sweep is in the attributes of the group.
"""

from jaxreg.store._opening import load

__all__ = ["load"]
