"""Nonlinear least squares and its robust kin: ``curve_fit``, with exact derivatives, honest errors and a status."""

from jaxreg.least_squares._curve_fit import curve_fit
from jaxreg.least_squares._result import CurveFit

__all__ = ["CurveFit", "curve_fit"]
