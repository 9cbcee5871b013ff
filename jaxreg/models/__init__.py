"""Models: y = apply(params, x) + noise, as pairs of pure functions.

One's own model is two functions, ``Model(init, apply)``; where the parameters are given, the function
``f(params, x) -> (n,)`` alone is enough.
"""

from jaxreg.models._curves import exponential, gaussian
from jaxreg.models._formula import expression, expression_names
from jaxreg.models._laws import (
    BOLTZMANN_CONSTANT,
    PLANCK_CONSTANT,
    SPEED_OF_LIGHT,
    linear,
    ohm,
    planck,
    planck_radiance,
)
from jaxreg.models._model import Apply, Model, Params, positional, rowwise

__all__ = [
    "BOLTZMANN_CONSTANT",
    "PLANCK_CONSTANT",
    "SPEED_OF_LIGHT",
    "Apply",
    "Model",
    "Params",
    "exponential",
    "expression",
    "expression_names",
    "gaussian",
    "linear",
    "ohm",
    "planck",
    "planck_radiance",
    "positional",
    "rowwise",
]
