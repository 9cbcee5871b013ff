"""Results in words: ``summary`` of a fit, and what ``print`` and a notebook show of it and of other results."""

from jaxreg.report import _shown as _
from jaxreg.report._fits import summary

__all__ = ["summary"]
