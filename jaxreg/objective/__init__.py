"""Objectives: a model and a loss make one scalar function of the parameters and a data set."""

from jaxreg.objective._risk import Loss, Objective, empirical_risk

__all__ = ["Loss", "Objective", "empirical_risk"]
