"""What the studies share: one judged run, and what the Hessian says of a learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxreg import curvature, gradient_noise
from jaxreg.data import Dataset
from jaxreg.models import Model, Params
from jaxreg.objective import Loss, Objective, empirical_risk
from jaxreg.status import Status
from jaxreg.training import train

Optimizer = Callable[[Any], optax.GradientTransformation]


class Run(NamedTuple):
    """What became of a run.

    Attributes:
        start_loss: scalar, the loss over all rows before training.
        final_loss: scalar, the loss over all rows after it; infinite for a run that failed.
        status: int32 scalar, a ``Status``.
        num_steps: int32 scalar, the steps completed; after a divergence, the index of the step that failed.
        params: the last finite parameters.
    """

    start_loss: Array
    final_loss: Array
    status: Array
    num_steps: Array
    params: Params


def judged_run(
    model: Model,
    loss: Loss,
    data: Dataset,
    start: Params,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    key: Array,
    *,
    judged: Dataset | None = None,
) -> Run:
    """Train, and judge start and end by the loss over all rows; given rows to judge by, take those of data in order."""
    rows = data if judged is None else judged
    result = train(
        model,
        loss,
        data,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        params=start,
        validation=rows,
        order="reshuffled" if judged is None and batch_size < data.y.shape[0] else "sequential",
    )
    assert result.validation_loss is not None
    # By the validation loss, which train takes from the rows' statistics where that is cheaper.
    final = result.validation_loss[-1]
    final = jnp.where((result.status == Status.OK) & ~jnp.isnan(final), final, jnp.inf)
    return Run(empirical_risk(model, loss)(start, rows), final, result.status, result.num_steps, result.params)


def edges_of(
    objective: Objective, data: Dataset, batch_sizes: Sequence[int]
) -> Callable[[Params], tuple[Array, Array]]:
    """The critical learning rate at a point, and the mean-square edge for each batch size, NaN without theory."""

    def edges(params: Params) -> tuple[Array, Array]:
        critical = curvature.critical_learning_rate(objective, params, data)
        if not has_theory(params, data):
            return critical, jnp.full(len(batch_sizes), jnp.nan)

        def mean_square(batch_size: Array) -> Array:
            return gradient_noise.mean_square_edge(objective, params, data, batch_size=batch_size)

        return critical, jax.vmap(mean_square)(jnp.asarray(batch_sizes, float))

    return edges


def has_theory(params: Params, data: Dataset) -> bool:
    """Whether the moments of gradient noise are known: few parameters (or their shapes), and rows without weights."""
    size = sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
    return data.weight is None and size <= gradient_noise.MOST_PARAMS


def check_model(model: Any, optimizer: Any = optax.sgd) -> None:
    if not callable(optimizer):
        got = f"{type(optimizer).__name__}: give optax.sgd, not optax.sgd(0.1)"
        raise ValueError(f"optimizer must be a function of the learning rate, got {got}")
    if not isinstance(model, Model):
        raise ValueError(f"model must be a Model, whose init draws the start, got {type(model).__name__}")
