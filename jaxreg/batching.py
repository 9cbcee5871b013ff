"""Minibatch plans: which rows each step sees, as index and weight arrays of fixed shape.

An epoch of n rows in batches of m has ceil(n/m) steps if the remainder is kept: the last batch is filled up to m with
repeats of weight zero, so one compiled step serves all batches and a mean over a batch is one over its real rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg.data import Dataset, as_dataset

ORDERS = ("reshuffled", "shuffled", "sequential")
REMAINDERS = ("keep", "drop")


class Plan(NamedTuple):
    """Rows of each minibatch.

    Attributes:
        indices: (steps, batch_size), row numbers.
        weights: (steps, batch_size), 1 for a real row and 0 for filling.
    """

    indices: Array
    weights: Array


def minibatches(order: Array, batch_size: int, *, remainder: str = "keep") -> Plan:
    """Cut one epoch's order of rows into minibatches.

    Args:
        order: (n,), row numbers in the order in which they are seen.
        batch_size: m, static, between 1 and n.
        remainder: "keep" the n mod m last rows as a smaller batch, or "drop" them.

    Returns:
        Plan of ceil(n/m) steps, or floor(n/m) if the remainder is dropped.

    >>> plan = minibatches(jnp.arange(5), 2)
    >>> print(plan.indices)
    [[0 1]
     [2 3]
     [4 4]]
    >>> plan.weights.sum(axis=1)  # the sizes
    Array([2., 2., 1.], dtype=float32)
    """
    num_rows = order.shape[0]
    steps = steps_per_epoch(num_rows, batch_size, remainder)
    filling = max(0, steps * batch_size - num_rows)
    indices = jnp.pad(order, (0, filling), mode="edge")[: steps * batch_size]
    real = jnp.arange(steps * batch_size) < num_rows
    return Plan(indices.reshape(steps, batch_size), real.astype(float).reshape(steps, batch_size))


def steps_per_epoch(num_rows: int, batch_size: int, remainder: str = "keep") -> int:
    """The number of minibatches in an epoch.

    >>> steps_per_epoch(1000, 32), steps_per_epoch(1000, 32, "drop")
    (32, 31)
    """
    num_rows = _checks.count("num_rows", num_rows, least=1)
    batch_size = _checks.count("batch_size", batch_size, least=1, most=num_rows)
    _checks.one_of("remainder", remainder, REMAINDERS)
    return -(-num_rows // batch_size) if remainder == "keep" else num_rows // batch_size


def epoch_order(order: str | ArrayLike, num_rows: int, key: Array) -> Callable[[ArrayLike], Array]:
    """The order of the rows in each epoch, as a function ``order_of(epoch) -> (n,)``; the epoch may be traced.

    Args:
        order: "reshuffled" (a new permutation for each epoch), "shuffled" (one permutation for all), "sequential", or
            row numbers (n,) for all epochs or (epochs, n) for each.
        num_rows: n, static.
        key: random key of the permutations.

    Raises:
        ValueError: for an unknown word, or row numbers of another shape, not integer, or outside 0 … n - 1.

    >>> order_of = epoch_order("sequential", 3, jax.random.key(0))
    >>> order_of(0)
    Array([0, 1, 2], dtype=int32)
    """
    if isinstance(order, str):
        _checks.one_of("order", order, ORDERS)
        if order == "reshuffled":
            return lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), num_rows)
        once = jnp.arange(num_rows) if order == "sequential" else jax.random.permutation(key, num_rows)
        return lambda _: once
    rows = jnp.asarray(order)
    if rows.shape[-1:] != (num_rows,) or rows.ndim not in (1, 2):
        raise ValueError(f"order must have shape ({num_rows},) or (epochs, {num_rows}), got {rows.shape}")
    if not jnp.issubdtype(rows.dtype, jnp.integer):
        raise ValueError(f"order must hold integers, got {rows.dtype}")
    _checks.row_numbers("order", rows, num_rows)
    if rows.ndim == 1:
        return lambda _: rows
    if not len(rows):  # no epoch will ask, and JAX does not trace an index into nothing
        return lambda _: jnp.arange(num_rows)
    return lambda epoch: rows[epoch]


def sorted_order(values: ArrayLike) -> Array:
    """Rows by increasing value of a sort key (n,), such as the target; ties keep their order.

    >>> sorted_order(jnp.array([3.0, 1.0, 2.0]))
    Array([1, 2, 0], dtype=int32)
    """
    _checks.shape("values", values, jnp.shape(values)[:1])
    return jnp.argsort(jnp.asarray(values), stable=True)


def adversarial_order(features: ArrayLike) -> Array:
    """Rows by decreasing leverage, so that the rows of the largest features share the same minibatches.

    The curvature λmax of a minibatch's squared loss is at most its mean ‖features‖², and reaches it where the rows are
    parallel. Packed together, large rows can make learning_rate·λmax > 2 in a few batches, and the parameters explode,
    at a rate at which every shuffled batch is stable.

    Args:
        features: (n,) or (n, p), the columns of the model (``model.features(x)``).

    >>> adversarial_order(jnp.array([[1.0, 0.0], [3.0, 4.0], [2.0, 2.0]]))
    Array([1, 2, 0], dtype=int32)
    """
    columns = jnp.asarray(features).reshape(jnp.shape(features)[0], -1)
    return sorted_order(-jnp.square(columns).sum(axis=1))


def gather(data: Dataset, plan: Plan) -> Dataset:
    """The minibatches of a plan: a Dataset with leading axes (steps, batch_size), its weights times the plan's.

    >>> batches = gather(Dataset(jnp.arange(5.0), jnp.arange(5.0)), minibatches(jnp.arange(5), 2))
    >>> batches.y.shape, batches.weight.shape
    ((3, 2), (3, 2))
    """
    data = as_dataset(data)
    batches = jax.tree.map(lambda leaf: leaf[plan.indices], data)
    weights = plan.weights.astype(data.y.dtype)
    return batches._replace(weight=weights if data.weight is None else batches.weight * weights)
