"""Regression studies as pure JAX functions.

The verbs stand here; data, models, losses and the rest in their modules. ``jaxreg.plots`` (matplotlib) is imported
only when asked for.
"""

import importlib
from types import ModuleType

from jaxreg import (
    _pickling,
    batching,
    comparison,
    covariance,
    curvature,
    data,
    files,
    fits,
    global_fits,
    gradient_noise,
    labelled,
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
from jaxreg.files import load, save
from jaxreg.fits import fit_many
from jaxreg.global_fits import GlobalFit
from jaxreg.labelled import fit_cube, fit_table
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


def __getattr__(name: str) -> ModuleType:
    """What is imported when asked for."""
    if name in ("compat", "plots"):
        return importlib.import_module(f"jaxreg.{name}")
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")


__all__ = [
    "CurveFit",
    "Dataset",
    "Fit",
    "GlobalFit",
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
    "files",
    "fit",
    "fit_cube",
    "fit_many",
    "fit_table",
    "fits",
    "global_fits",
    "goodness",
    "gradient_noise",
    "labelled",
    "least_squares",
    "load",
    "losses",
    "models",
    "objective",
    "prior",
    "problem",
    "problems",
    "raise_if_failed",
    "report",
    "results",
    "save",
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
