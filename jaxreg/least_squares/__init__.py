"""Nonlinear least squares and its robust kin: ``fit``, with exact derivatives, honest errors and a status."""

from jaxreg.least_squares._fit import CurveFit, Fit
from jaxreg.least_squares._verbs import curve_fit, fit

__all__ = ["CurveFit", "Fit", "curve_fit", "fit"]
