"""Curvature of an objective ``objective(params, *args) -> scalar`` at any parameter pytree, and what it predicts.

Matrices are (p, p) in the order of ``jax.flatten_util.ravel_pytree``, which sorts a dict by its keys.
"""

from jaxreg.curvature._derivatives import gradient, hessian, hvp, newton_step
from jaxreg.curvature._descent import TrainingPrediction, epoch_map, predict_training
from jaxreg.curvature._spectrum import condition_number, critical_learning_rate, extreme_eigenvalues, spectral_radius

__all__ = [
    "TrainingPrediction",
    "condition_number",
    "critical_learning_rate",
    "epoch_map",
    "extreme_eigenvalues",
    "gradient",
    "hessian",
    "hvp",
    "newton_step",
    "predict_training",
    "spectral_radius",
]
