"""What the rows of a fit are, and how large their errors."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg._shapes import Bool, Float


class Rows(NamedTuple):
    """What the rows of a sum of terms are.

    Attributes:
        robust: (n,) booleans, rows under a robust loss, the size of whose errors is taken from them.
        sizes: (n,) whole numbers, equal for rows whose errors have one unknown size.
        prior: (n,) booleans, rows that are no data: their variance is 1 in every covariance.
        units: (n,) whole numbers, equal for rows that a sandwich takes together as one.
    """

    robust: np.ndarray
    sizes: np.ndarray
    prior: np.ndarray
    units: np.ndarray

    @classmethod
    def of_data(cls, num_rows: int, *, robust: bool) -> "Rows":
        """Independent rows of one term."""
        return cls(np.full(num_rows, robust), np.zeros(num_rows, int), np.zeros(num_rows, bool), np.arange(num_rows))

    @property
    def num_units(self) -> int:
        """How many of them there are."""
        return int(self.units.max(initial=-1)) + 1


def variance_of_rows(
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None,
    counted: Bool[Array, "n"],
    used: Float[Array, ""],
    power: int,
) -> Float[Array, ""]:
    """The factor s² of the classic covariance, with power 1, and of Huber's first form, with power 2."""
    total, square = counted.sum().astype(slope.dtype), jnp.sum(slope**2)
    if curvature is None:
        return ratio(square, total - used)
    mean = jnp.where(counted, curvature, 0).sum() / total
    spread = jnp.where(counted, (curvature - mean) ** 2, 0).sum() / total
    return variance_of_sums(total, square, mean, spread, used, power)


def variance_of_sums(
    total: Float[Array, ""],
    square: Float[Array, ""],
    mean: Float[Array, ""],
    spread: Float[Array, ""],
    used: Float[Array, ""],
    power: int,
) -> Float[Array, ""]:
    """The same of the number of rows, Σψ², and the mean and the variance of ψ'."""
    return ((1 + used / total * spread / mean**2) / mean) ** power * ratio(square, total - used)


def variances_of_rows(
    kind: str,
    slope: Float[Array, "n"],
    curvature: Float[Array, "n"] | None,
    counted: Bool[Array, "n"],
    used: Float[Array, ""],
    rows: Rows,
    known: bool,
) -> Float[Array, "n"]:
    """s² of each row, from those whose errors have the size of its own; the parameters count to each by its rows."""
    each, total = jnp.zeros_like(slope), counted.sum().astype(slope.dtype)
    for size in np.unique(rows.sizes):
        own = counted & (rows.sizes == size) & (rows.robust | (not known))
        part, power = used * own.sum().astype(slope.dtype) / total, 2 if kind == "H1" else 1
        found = variance_of_rows(jnp.where(own, slope, 0), curvature, own, part, power)
        each = jnp.where(rows.sizes == size, found, each)
    return each


def ratio(numerator: Float[Array, ""], dof: Float[Array, ""]) -> Float[Array, ""]:
    """NaN where no degree of freedom is left."""
    return jnp.where(dof > 0, numerator / jnp.where(dof > 0, dof, 1), jnp.nan)
