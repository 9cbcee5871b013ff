"""Fits of data sets that share parameters, made by ``fit_many`` with ``shared``."""

from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._problem import GlobalProblem

__all__ = ["GlobalFit", "GlobalProblem"]
