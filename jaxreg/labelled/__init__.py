"""Fits of labelled data: along a dimension of an xarray cube, and of each group of a pandas table."""

from jaxreg.labelled._cube import fit_cube
from jaxreg.labelled._groups import fit_table

__all__ = ["fit_cube", "fit_table"]
