"""Nonlinear least squares and its robust kin: ``fit``, with exact derivatives, honest errors and a status."""

from jaxreg.least_squares._fit import CurveFit, Fit, Pooled
from jaxreg.least_squares._verbs import curve_fit, fit
from jaxreg.least_squares._watched import Step

__all__ = ["CurveFit", "Fit", "Pooled", "Step", "curve_fit", "fit"]
