"""Minibatch training with any optax optimiser: one scan over all epochs, pure and differentiable."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _trace, batching
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Apply, Model, Params
from jaxreg.models._model import apply_of
from jaxreg.objective import Loss
from jaxreg.objective._risk import neutral_rows
from jaxreg.status import Status
from jaxreg.training._minibatch_risk import MinibatchRisk, minibatch_risk


class Training(NamedTuple):
    """The result of ``train``.

    Attributes:
        params: the last finite parameters.
        train_loss: (steps,), the loss of each minibatch before its step; NaN after a divergence.
        validation_loss: (epochs,), the mean loss over the validation rows after each epoch, NaN for epochs that a
            divergence cut short; None without validation data.
        status: int32 scalar, a ``Status``: OK, DIVERGED, NONFINITE or INVALID_INPUT.
        num_steps: int32 scalar, the steps completed; after a divergence, the index of the step that failed.
    """

    params: Params
    train_loss: Array
    validation_loss: Array | None
    status: Array
    num_steps: Array


def train(
    model: Model | Apply,
    loss: Loss,
    data: Dataset,
    *,
    optimizer: optax.GradientTransformation | optax.MultiSteps,
    epochs: int,
    batch_size: int,
    key: Array,
    params: Params | None = None,
    validation: Dataset | None = None,
    order: str | ArrayLike = "reshuffled",
    remainder: str = "keep",
    reduction: str = "mean",
) -> Training:
    """Minimise a loss over minibatches: at each step params ← params + optimizer.update(∇ loss of the minibatch).

    Pure: ``vmap`` over whatever is traced (learning rate, init scale, loss threshold, key, data), ``grad`` through it.
    Called at the top level it is compiled once for the same model, loss and optimizer *objects* and the same shapes;
    since ``optax.sgd(0.1)`` written twice is two objects, put new values through a jitted function of your own that
    builds the optimiser inside. A member whose parameters become non-finite stops at its last finite ones, with status
    DIVERGED, and the gradient through that member alone may be non-finite; an infinite loss alone stops nothing.

    Args:
        model: a Model, or a function ``f(params, x) -> (n,)`` if ``params`` is given.
        loss: elementwise ``loss(prediction, target)``.
        data: n rows; a weighted mean if it has weights.
        optimizer: any optax optimiser, ``optax.MultiSteps`` and those that need the loss's value or function among them
            (``optax.lbfgs``, ``optax.contrib.sam``, ``optax.contrib.sophia``). ``optax.lookahead`` needs ``params`` as
            it does elsewhere, ``optax.LookaheadParams.init_synced(start)``: the validation loss is that of the slow
            ones. Not ``optax.contrib.dpsgd``, which needs a gradient for each row. The validation loss of
            ``optax.contrib.schedule_free`` is where gradients are taken, not at its average.
        epochs: passes over the data, static, at least 0.
        batch_size: rows in a step, static, between 1 and n.
        key: random key, split into one for the init and one for the order of the rows.
        params: the start, a pytree of floats; None draws it with ``model.init``.
        validation: rows whose mean loss is taken after each epoch.
        order: "reshuffled" (every epoch), "shuffled" (once), "sequential", or row numbers (n,) or (epochs, n).
        remainder: "keep" the smaller last batch (its mean is over its own rows) or "drop" it.
        reduction: "mean" or "sum" of the losses of a minibatch.

    Returns:
        Training.

    Raises:
        ValueError: for shapes that do not fit, an unknown word, numbers out of range, what is no real number.

    >>> from jaxreg import data, losses, models
    >>> rows = data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> result = train(models.linear(2), losses.squared, rows, optimizer=optax.sgd(0.3), epochs=3, batch_size=32,
    ...                key=jax.random.key(1))
    >>> print(result.params["w"].round(2), Status(int(result.status)).name)
    [ 2.  -3.4] OK
    """
    apply_of(model)  # raises for what is no model
    if not callable(loss):
        raise ValueError(f"loss must be a function of prediction and target, got {type(loss).__name__}")
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise ValueError(f"optimizer must be an optax optimiser, got {type(optimizer).__name__}")
    data = as_dataset(data, of="data.")
    num_rows = len(data.y)
    epochs = _checks.count("epochs", epochs, least=0)
    batch_size = _checks.count("batch_size", batch_size, least=1, most=num_rows)
    _checks.one_of("remainder", remainder, batching.REMAINDERS)
    _checks.one_of("reduction", reduction, ("mean", "sum"))
    valid = _valid_weight("data", data)
    if validation is not None:
        validation = as_dataset(validation, of="validation.")
        _checks.shape("validation.x", validation.x, (len(validation.y), *data.x.shape[1:]))
        valid &= _valid_weight("validation", validation)
    if not isinstance(order, str):
        order = jnp.asarray(order)
        if order.ndim == 2:
            _checks.shape("order", order, (epochs, num_rows))
        batching.epoch_order(order, num_rows, key)  # raises what can be raised before anything is traced
        valid &= _checks.row_numbers("order", order, num_rows)
    key_init, key_order = jax.random.split(key)
    if params is None:
        if not isinstance(model, Model):
            raise ValueError("params must be given where the model is a plain function, which has no init")
        params = model.init(key_init)
    params = jax.tree.map(jnp.asarray, _checks.params("params", params))

    return _run(
        params,
        data,
        validation,
        None if isinstance(order, str) else order,
        key_order,
        valid,
        model=model,
        loss=loss,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        order=order if isinstance(order, str) else "",
        remainder=remainder,
        reduction=reduction,
    )


@_trace.undisturbed
def epochs_to(loss: ArrayLike, level: ArrayLike) -> Array:
    """The epoch at which a loss first falls to a level, interpolated on the straight line of its logarithm.

    Args:
        loss: (epochs,), positive, the loss after epoch 1, 2, …, such as a ``validation_loss`` less its minimum.
        level: positive scalar, in the same units.

    Returns:
        Scalar, between 1 and the number of epochs; NaN if the level is not reached, or is already after the first
            epoch.

    >>> print(epochs_to(jnp.array([1.0, 0.1, 0.01]), 0.05).round(3))
    2.301
    """
    loss = jnp.asarray(_checks.array("loss", loss))
    if loss.ndim != 1:
        raise ValueError(f"loss must have shape (epochs,), got {loss.shape}")
    within = loss <= level
    after = jnp.argmax(within)
    above, below = loss[jnp.maximum(after - 1, 0)], loss[after]
    share = jnp.log(above / level) / jnp.log(above / below)
    return jnp.where(within.any() & (after > 0), after.astype(share.dtype) + share, jnp.nan)


@_jit.compiled("model", "loss", "optimizer", "epochs", "batch_size", "order", "remainder", "reduction")
def _run(
    params: Params,
    data: Dataset,
    validation: Dataset | None,
    order_rows: Array | None,
    key: Array,
    valid: Array,
    *,
    model: Model | Apply,
    loss: Loss,
    optimizer: optax.GradientTransformation | optax.MultiSteps,
    epochs: int,
    batch_size: int,
    order: str,
    remainder: str,
    reduction: str,
) -> Training:
    data = neutral_rows(data)
    risk = minibatch_risk(model, loss, _point(params, "fast"), data, batch_size, reduction=reduction)
    order_of = batching.epoch_order(order if order_rows is None else order_rows, data.y.shape[0], key)
    if validation is not None:
        # What is known of the data is not known of rows of another dtype: then nothing is known of the model.
        alike = len({leaf.dtype for leaf in jax.tree.leaves((data, validation))}) == 1
        told, num_rows = model if alike else apply_of(model), validation.y.shape[0]
        validation_risk = minibatch_risk(told, loss, _point(params, "fast"), data, num_rows, reduction="mean")
        held_out = _all_rows(validation_risk, neutral_rows(validation))

    def step(state: _State, batch: Any) -> tuple[_State, Array]:
        value, params, memory = _updated(optimizer, risk, state, batch)
        active = state.active & _all_finite(params)
        kept, kept_memory = _select(active, (params, memory), (state.params, state.memory))
        after = _State(kept, kept_memory, active, state.num_steps + active.astype(jnp.int32))
        return after, jnp.where(state.active, value, jnp.nan)

    def batches_of(epoch: Array) -> Any:
        return risk.batches(data, batching.minibatches(order_of(epoch), batch_size, remainder=remainder))

    def epoch(state: Any, number: Array) -> tuple[Any, Any]:
        state, train_loss = risk.scan(step, state, batches_of(number))
        if validation is None:
            return state, (train_loss, None)
        value = validation_risk.value_and_grad(_point(state.params, "slow"), held_out)[0]
        return state, (train_loss, jnp.where(state.active, value, jnp.nan))

    finite = _all_finite(params)
    start = _State(params, optimizer.init(params), valid & finite, jnp.zeros((), jnp.int32))
    numbers = jnp.arange(epochs)
    if validation is None and _fit_at_once(batches_of, epochs):
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), jax.lax.map(batches_of, numbers)
        )
        end, train_loss = risk.scan(step, start, batches)
        validation_loss = None
    else:
        end, (train_loss, validation_loss) = jax.lax.scan(epoch, start, numbers)
    status = jnp.where(end.active, Status.OK, Status.DIVERGED)
    status = jnp.where(finite, status, Status.NONFINITE)
    status = jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32)
    return Training(end.params, train_loss.reshape(-1), validation_loss, status, end.num_steps)


def _all_rows(risk: MinibatchRisk, data: Dataset) -> Any:
    """A data set as one minibatch."""
    num_rows = data.y.shape[0]
    plan = batching.minibatches(jnp.arange(num_rows), num_rows)
    return jax.tree.map(lambda leaf: leaf[0], risk.batches(data, plan))


def _fit_at_once(batches_of: Callable[[Array], Any], epochs: int) -> bool:
    """Whether the minibatches of all epochs are small enough for one scan over all steps.

    It is faster under ``vmap``, where a scan over epochs transposes each epoch's losses.
    """
    one = jax.eval_shape(batches_of, jax.ShapeDtypeStruct((), jnp.int32))
    return 0 < epochs * sum(leaf.size for leaf in jax.tree.leaves(one)) <= _AT_ONCE


_AT_ONCE = 2**17  # numbers


class _State(NamedTuple):
    params: Params
    memory: Any  # the optimiser's state
    active: Array  # False from the step on that made the parameters non-finite
    num_steps: Array


def _updated(optimizer: Any, risk: MinibatchRisk, state: _State, batch: Any) -> tuple[Array, Params, Any]:
    """The loss of a minibatch, and the parameters and the optimiser's memory after a step on it."""
    value, gradient = risk.value_and_grad(_point(state.params, "fast"), batch)

    def value_fn(params: Params, obj_fn: Any = None, grad_fn: Any = None) -> Array:
        del obj_fn, grad_fn  # a line search refuses names that it cannot hand on
        return risk.value_and_grad(params, batch)[0]

    def grad_fn(params: Params, _: Any) -> Params:
        return risk.value_and_grad(params, batch)[1]

    extras = {"value": value, "grad": gradient, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
    taken = inspect.signature(optimizer.update).parameters
    if all(one.kind is not one.VAR_KEYWORD for one in taken.values()):
        extras = {name: extra for name, extra in extras.items() if name in taken}
    updates, memory = optimizer.update(gradient, state.memory, state.params, **extras)
    return value, optax.apply_updates(state.params, updates), memory


def _point(params: Params, which: str) -> Params:
    """Where a loss is taken: of Lookahead's two copies one."""
    return getattr(params, which) if isinstance(params, optax.LookaheadParams) else params


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _valid_weight(name: str, data: Dataset) -> Array:
    if data.weight is None:
        return jnp.asarray(True)
    weight = data.weight
    usable = _checks.valid(f"{name}.weight", weight, (weight >= 0) & jnp.isfinite(weight), "finite and not negative")
    return usable & _checks.valid(f"the sum of {name}.weight", weight.sum(), weight.sum() > 0, "positive")
