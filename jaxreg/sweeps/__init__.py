"""Any pure function over a grid of hyperparameters: ``sweep``."""

from jaxreg.sweeps._sweep import sweep

__all__ = ["sweep"]
