"""Regression studies as pure JAX functions.

The verbs stand here; data, models, losses and the rest in their modules. ``jaxreg.plots`` (matplotlib) is imported
only when asked for.
"""

import importlib
from types import ModuleType

from jaxreg import (
    _pickling,
    _shown,
    batching,
    comparison,
    covariance,
    curvature,
    data,
    fits,
    gradient_noise,
    least_squares,
    losses,
    models,
    objective,
    problems,
    report,
    results,
    status,
    store,
    studies,
    sweeps,
    training,
    uncertainty,
)
from jaxreg._version import __version__
from jaxreg.comparison import compare, goodness
from jaxreg.data import Dataset
from jaxreg.fits import fit_many
from jaxreg.least_squares import CurveFit, Fit, curve_fit, fit
from jaxreg.models import Model
from jaxreg.objective import empirical_risk
from jaxreg.problems import Problem, prior, problem
from jaxreg.report import summary
from jaxreg.results import Sweep
from jaxreg.status import Status, raise_if_failed
from jaxreg.sweeps import sweep
from jaxreg.training import Training, train

_pickling.keep_dtypes(Dataset, Training, *vars(uncertainty).values())
_shown.print_as_tables(comparison.Goodness, *vars(uncertainty).values())


def __getattr__(name: str) -> ModuleType:
    """What is imported when asked for."""
    if name in ("compat", "plots"):
        return importlib.import_module(f"jaxreg.{name}")
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")


__all__ = [
    "CurveFit",
    "Dataset",
    "Fit",
    "Model",
    "Problem",
    "Status",
    "Sweep",
    "Training",
    "__version__",
    "batching",
    "compare",
    "comparison",
    "covariance",
    "curvature",
    "curve_fit",
    "data",
    "empirical_risk",
    "fit",
    "fit_many",
    "fits",
    "goodness",
    "gradient_noise",
    "least_squares",
    "losses",
    "models",
    "objective",
    "prior",
    "problem",
    "problems",
    "raise_if_failed",
    "report",
    "results",
    "status",
    "store",
    "studies",
    "summary",
    "sweep",
    "sweeps",
    "train",
    "training",
    "uncertainty",
]
