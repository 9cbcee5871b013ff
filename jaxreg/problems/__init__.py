"""Fit problems as values: said once, with other numbers in them by ``replace``, and solved by ``jaxreg.fit``."""

from jaxreg.problems._problem import Problem, prior, problem

__all__ = ["Problem", "prior", "problem"]
