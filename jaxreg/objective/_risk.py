"""The loss of a model over rows, as a function of the parameters and the rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg import _checks
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Apply, Model, Params
from jaxreg.models._model import apply_of

Loss = Callable[[Array, Array], Array]
Objective = Callable[[Params, Dataset], Array]


def empirical_risk(model: Model | Apply, loss: Loss, *, reduction: str = "mean") -> Objective:
    """The loss of a model over a data set, as a function ``risk(params, data) -> scalar``.

    Mean: Σ weightᵢ·loss(apply(params, xᵢ), yᵢ) / Σ weightᵢ. Sum: without the division.

    Args:
        model: a Model or ``f(params, x) -> (n,)``.
        loss: elementwise ``loss(prediction, target)``, such as those of ``jaxreg.losses``.
        reduction: "mean" or "sum" over the rows.

    Raises:
        ValueError: for an unknown reduction; the returned function raises for shapes that do not fit.

    >>> from jaxreg import losses, models
    >>> risk = empirical_risk(models.ohm(), losses.squared)
    >>> data = Dataset(jnp.array([1.0, 2.0]), jnp.array([5.0, 14.0]))
    >>> print(risk({"resistance": jnp.array(5.0)}, data))
    4.0
    """
    risk_of_batch = batch_risk(model, loss, reduction=reduction)

    def risk(params: Params, data: Dataset) -> Array:
        return risk_of_batch(params, neutral_rows(as_dataset(data)))

    return risk


def batch_risk(model: Model | Apply, loss: Loss, *, reduction: str = "mean") -> Objective:
    """``empirical_risk`` for data whose rows of weight zero are finite, as ``neutral_rows`` makes them."""
    _checks.one_of("reduction", reduction, ("mean", "sum"))
    apply = apply_of(model)

    def risk(params: Params, data: Dataset) -> Array:
        each = _checks.traceable("loss")(loss)(apply(params, data.x), data.y)
        _checks.shape("the loss of the rows", each, jnp.shape(data.y))
        if data.weight is None:
            return each.mean() if reduction == "mean" else each.sum()
        # Not a plain product: an infinite loss of a row that does not count must stay out of the sum.
        total = jnp.where(data.weight > 0, data.weight * each, 0).sum()
        if reduction == "sum":
            return total
        # Without any row the mean is 0, not 0/0.
        weight = data.weight.sum()
        return total / jnp.where(weight > 0, weight, 1)

    return risk


def neutral_rows(data: Dataset) -> Dataset:
    """Replace the rows of weight zero by one that counts, so that a NaN there reaches neither loss nor gradient."""
    if data.weight is None:
        return data
    data, weight = jax.tree.map(jnp.asarray, data), jnp.asarray(data.weight)
    counts = weight > jnp.zeros_like(weight)  # or booleans
    stand_in = jnp.argmax(counts)
    x = jnp.where(counts.reshape(-1, *[1] * (data.x.ndim - 1)), data.x, data.x[stand_in])
    return data._replace(x=x, y=jnp.where(counts, data.y, data.y[stand_in]))
