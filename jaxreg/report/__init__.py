"""Results in words: ``summary`` of a fit, and what ``print`` and a notebook show of it and of other results."""

from jaxreg.report._shown import show_all
from jaxreg.report._summary import summary

__all__ = ["summary"]

show_all()
