"""Many data sets at once: ``fit_many``."""

from jaxreg.fits._fit_many import fit_many

__all__ = ["fit_many"]
