"""Figures: functions from results to matplotlib axes. Each draws on ``ax`` (a new figure if None) and returns it.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; line styles repeat what they say.
Failed members are always shown. Nothing global is set.
"""

from jaxreg.plots._fits import curve, fit, residuals
from jaxreg.plots._profiles import contour, profile
from jaxreg.plots._series import comparison, distribution, lines, points
from jaxreg.plots._studies import divergence_atlas, predicted_training, range_test
from jaxreg.plots._style import COLORS, STYLES, style
from jaxreg.plots._sweeps import rate_sweep
from jaxreg.plots._training import loss_curves, training

__all__ = [
    "COLORS",
    "STYLES",
    "comparison",
    "contour",
    "curve",
    "distribution",
    "divergence_atlas",
    "fit",
    "lines",
    "loss_curves",
    "points",
    "predicted_training",
    "profile",
    "range_test",
    "rate_sweep",
    "residuals",
    "style",
    "training",
]
