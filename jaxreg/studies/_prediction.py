"""Loss curves predicted from the Hessian and the gradient noise, beside the runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, batching, curvature, gradient_noise
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Model
from jaxreg.objective import Loss, empirical_risk
from jaxreg.studies._runs import check_model, has_theory
from jaxreg.sweeps import sweep
from jaxreg.training import train

SAMPLINGS = ("reshuffled", "independent")


class PredictedTraining(NamedTuple):
    """The result of ``predicted_training``; losses are over all rows, after 0, 1, … epochs.

    Attributes:
        learning_rate: (k,).
        measured: (seeds, k, epochs + 1).
        descent: (seeds, k, epochs + 1), from the Hessian's modes at each seed's start: full-batch descent of as many
            steps, without noise.
        expected: (seeds, k, epochs + 1), with the noise of the minibatches; None where there is no theory (rows with
            weights, more than 32 parameters).
        status: (seeds, k), a ``Status`` for each run.
    """

    learning_rate: np.ndarray
    measured: np.ndarray
    descent: np.ndarray
    expected: np.ndarray | None
    status: np.ndarray


def predicted_training(
    model: Model,
    loss: Loss,
    data: Dataset,
    *,
    learning_rate: ArrayLike,
    batch_size: int,
    epochs: int,
    key: Array,
    num_seeds: int = 1,
    sampling: str = "reshuffled",
    **options: Any,
) -> PredictedTraining:
    """Loss curves of plain SGD, predicted from the Hessian and the gradient noise at the start, beside the runs.

    On a quadratic (squared loss, a model linear in its parameters) the prediction is exact for the full batch, and its
    expectation for independent minibatches; reshuffled minibatches scatter less than it says. On anything else it is
    the quadratic at the start, and the figure shows how far that carries.

    Args:
        model: with an ``init``.
        loss: elementwise.
        data: n rows.
        learning_rate: (k,).
        batch_size: static; n is the full batch, and an epoch then one step.
        epochs: static.
        key: split into one for each seed, which draws the start and the minibatches.
        num_seeds: static.
        sampling: "reshuffled" every epoch, or "independent": each row of each minibatch drawn from all.
        options: of ``sweep``: chunk_size, mesh, store, progress.

    Returns:
        PredictedTraining.

    >>> from jaxreg import data, losses, models
    >>> rows = data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> found = predicted_training(models.linear(2), losses.squared, rows, learning_rate=jnp.array([0.01]),
    ...                            batch_size=1000, epochs=100, key=jax.random.key(1))
    >>> print(bool(abs(found.measured / found.descent - 1).max() < 1e-5))
    True
    """
    check_model(model)
    _checks.one_of("sampling", sampling, SAMPLINGS)
    data = as_dataset(data, of="data.")
    num_rows = len(data.y)
    epochs, num_seeds = _checks.count("epochs", epochs, least=0), _checks.count("num_seeds", num_seeds, least=1)
    risk = empirical_risk(model, loss)
    steps = batching.steps_per_epoch(num_rows, _checks.count("batch_size", batch_size, least=1, most=num_rows))
    sizes = np.full(steps, batch_size, float)
    sizes[-1] = num_rows - (steps - 1) * batch_size
    known = has_theory(jax.eval_shape(model.init, key), data)

    def member(key: Array, learning_rate: Array) -> dict[str, Array]:
        key_init, key_rows, key_train = jax.random.split(key, 3)
        start = model.init(key_init)
        order: Any = "reshuffled" if batch_size < num_rows else "sequential"
        if sampling == "independent":
            order = jax.random.randint(key_rows, (epochs, num_rows), 0, num_rows)
        result = train(
            model,
            loss,
            data,
            optimizer=optax.sgd(learning_rate),
            epochs=epochs,
            batch_size=batch_size,
            key=key_train,
            params=start,
            validation=data,
            order=order,
        )
        assert result.validation_loss is not None
        start_loss = risk(start, data)
        values = {"measured": jnp.append(start_loss, result.validation_loss), "status": result.status}
        if known:
            expected = gradient_noise.expected_training(
                risk,
                start,
                data,
                learning_rate=learning_rate,
                batch_sizes=jnp.tile(sizes, epochs),
                replace=sampling == "independent",
            )
            found = {"expected": expected.loss[::steps], "descent": expected.descent[::steps]}
        else:
            prediction = curvature.predict_training(risk, start, data, learning_rate=learning_rate)
            found = {"descent": prediction.loss(steps * jnp.arange(epochs + 1))}
        return values | {name: _from(start_loss, curve) for name, curve in found.items()}

    axes = {"key": jax.random.split(key, num_seeds), "learning_rate": learning_rate}
    found = sweep(member, axes, **options).values
    return PredictedTraining(np.asarray(learning_rate), expected=found.pop("expected", None), **found)


def _from(start_loss: Array, curve: Array) -> Array:
    """A curve of the quadratic at the start, moved to begin there if the loss is not that quadratic."""
    gap = start_loss - curve[0]
    return curve + jnp.where(jnp.abs(gap) > 1e-3 * jnp.abs(start_loss), gap, 0)  # below that it is rounding
