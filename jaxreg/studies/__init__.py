"""Studies of the learning rate, each one sweep, with what the Hessian says beside what was measured."""

from jaxreg.studies._atlas import Atlas, divergence_atlas
from jaxreg.studies._prediction import PredictedTraining, predicted_training
from jaxreg.studies._range_test import RangeTest, UsableRates, range_test, usable_rates
from jaxreg.studies._runs import Run

__all__ = [
    "Atlas",
    "PredictedTraining",
    "RangeTest",
    "Run",
    "UsableRates",
    "divergence_atlas",
    "predicted_training",
    "range_test",
    "usable_rates",
]
