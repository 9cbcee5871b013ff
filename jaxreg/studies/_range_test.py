"""Which learning rates are usable, with error bars."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Model
from jaxreg.objective import Loss, empirical_risk
from jaxreg.studies._runs import Optimizer, Run, check_model, edges_of, judged_run
from jaxreg.sweeps import sweep


class UsableRates(NamedTuple):
    """What the losses after short runs say about the learning rate; scalars, or (seeds,).

    Attributes:
        lowest: the lower end of the usable rates: those around ``best`` with enough of its decrease of the loss.
        highest: their upper end.
        steepest: where the loss falls most per factor of the rate.
        best: where the loss ends lowest.
        edge: the first rate above ``best`` whose loss does not end below its start; infinite if there is none.
    """

    lowest: Array
    highest: Array
    steepest: Array
    best: Array
    edge: Array


class RangeTest(NamedTuple):
    """The result of ``range_test``.

    Attributes:
        learning_rate: (k,), as given.
        start_loss: (seeds,), over all rows.
        final_loss: (seeds, k), over all rows; infinite for a run that failed.
        status: (seeds, k), a ``Status`` for each run.
        num_steps: (seeds, k), the steps completed; after a divergence, the index of the step that failed.
        rates: UsableRates, its fields (seeds,).
        critical_learning_rate: (seeds,), 2/λmax where the seed's best run ended. Its half, 1/λmax, takes the steepest
            direction to its minimum in one step.
        mean_square_edge: (seeds,), the rate above which the expected loss of SGD grows; NaN where there is no theory.
    """

    learning_rate: np.ndarray
    start_loss: np.ndarray
    final_loss: np.ndarray
    status: np.ndarray
    num_steps: np.ndarray
    rates: UsableRates
    critical_learning_rate: np.ndarray
    mean_square_edge: np.ndarray

    def usable(self, share: float = 0.9) -> tuple[float, float]:
        """The interval of rates that are usable for at least a share of the seeds; NaN if there is none."""
        inside = (self.learning_rate >= self.rates.lowest[:, None]) & (
            self.learning_rate <= self.rates.highest[:, None]
        )
        rates = self.learning_rate[np.flatnonzero(inside.mean(axis=0) >= share)]
        return (float(rates.min()), float(rates.max())) if len(rates) else (float("nan"), float("nan"))


def range_test(
    model: Model,
    loss: Loss,
    data: Dataset,
    *,
    learning_rate: ArrayLike,
    batch_size: int,
    steps: int,
    key: Array,
    num_seeds: int = 20,
    fraction: float = 0.5,
    optimizer: Optimizer = optax.sgd,
    **options: Any,
) -> RangeTest:
    """Which learning rates are usable, with error bars: a short run at each rate from each of several seeds.

    The usual finder raises the rate along one run and reads the losses of its minibatches, so that one bad minibatch
    early on ends it, and all it says depends on one path (L. N. Smith, Cyclical Learning Rates, WACV 2017). Here each
    rate has runs of its own, judged by their loss over all rows, and the seeds give the scatter.

    Args:
        model: with an ``init``.
        loss: elementwise.
        data: n rows.
        learning_rate: (k,), in any order; ends that lie at an end of it are not bracketed.
        batch_size: static.
        steps: of each run, static.
        key: split into one for each seed, which draws the start and the minibatches.
        num_seeds: static.
        fraction: of the decrease at the best rate, which makes a rate usable.
        optimizer: ``optimizer(learning_rate)``, an optax optimiser. The theory is that of plain gradient descent.
        options: of ``sweep``: chunk_size, mesh, store, progress.

    Returns:
        RangeTest.

    >>> from jaxreg import data, losses, models
    >>> rows = data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> found = range_test(models.linear(2), losses.squared, rows, learning_rate=jnp.geomspace(1e-3, 10.0, 60),
    ...                    batch_size=32, steps=20, key=jax.random.key(1))
    >>> low, high = found.usable(0.9)
    >>> print(f"{low:.2f} to {high:.2f}; 2/λmax = {np.median(found.critical_learning_rate):.2f}")
    0.02 to 1.54; 2/λmax = 1.80
    """
    check_model(model, optimizer)
    data = as_dataset(data, of="data.")
    num_rows = len(data.y)
    batch_size = _checks.count("batch_size", batch_size, least=1, most=num_rows)
    steps, num_seeds = _checks.count("steps", steps, least=1), _checks.count("num_seeds", num_seeds, least=1)
    risk = empirical_risk(model, loss)

    def member(key: Array, learning_rate: Array) -> Run:
        key_init, key_rows, key_train = jax.random.split(key, 3)
        rows, epochs = data, steps
        if batch_size < num_rows:
            epochs = 1
            rows = _drawn(key_rows, data, steps * batch_size)
        start = model.init(key_init)
        return judged_run(
            model, loss, rows, start, optimizer(learning_rate), epochs, batch_size, key_train, judged=data
        )

    axes = {"key": jax.random.split(key, num_seeds), "learning_rate": jnp.asarray(learning_rate)}
    runs = sweep(member, axes, **options).values
    rate = np.asarray(axes["learning_rate"])
    start_loss = runs.start_loss[:, 0]
    rates = jax.jit(jax.vmap(usable_rates, (None, 0, 0, None)))(rate, start_loss, runs.final_loss, fraction)
    best = np.argmin(runs.final_loss, axis=1)
    ends = jax.tree.map(lambda leaf: leaf[np.arange(num_seeds), best], runs.params)
    critical, mean_square = jax.jit(lambda ends: jax.lax.map(edges_of(risk, data, [batch_size]), ends))(ends)
    return RangeTest(
        rate,
        start_loss,
        runs.final_loss,
        runs.status,
        runs.num_steps,
        jax.tree.map(np.asarray, rates),
        np.asarray(critical),
        np.asarray(mean_square)[:, 0],
    )


@_trace.undisturbed
def usable_rates(
    learning_rate: ArrayLike, start_loss: ArrayLike, final_loss: ArrayLike, fraction: ArrayLike = 0.5
) -> UsableRates:
    """Read the usable learning rates off the losses that short runs of one seed end with.

    Args:
        learning_rate: (k,), in any order.
        start_loss: scalar, before the runs.
        final_loss: (k,), after them; what is not finite counts as infinite.
        fraction: a rate is usable with this fraction of the best rate's decrease, and so all between it and the best.

    Returns:
        UsableRates, all from the rates given; NaN where no rate lowers the loss.

    >>> usable_rates(jnp.array([0.1, 0.2, 0.4, 0.8]), 10.0, jnp.array([9.0, 4.0, 1.0, jnp.inf]))[:2]
    (Array(0.2, dtype=float32), Array(0.4, dtype=float32))
    """
    rate, final = jnp.asarray(learning_rate), jnp.asarray(final_loss)
    if rate.ndim != 1 or not len(rate):
        raise ValueError(f"learning_rate must have shape (k,), got {rate.shape}")
    _checks.shape("final_loss", final, rate.shape)
    rising = jnp.argsort(rate)
    rate, final = rate[rising], jnp.where(jnp.isfinite(final), final, jnp.inf)[rising]
    place, best = jnp.arange(len(rate)), jnp.argmin(final)
    decrease = start_loss - final
    short = decrease < fraction * decrease[best]
    first = jnp.where(short & (place < best), place, -1).max() + 1
    last = jnp.where(short & (place > best), place, len(rate)).min() - 1
    beyond = jnp.where((place > best) & (decrease <= 0), place, len(rate)).min()
    edge = jnp.where(beyond < len(rate), rate[jnp.minimum(beyond, len(rate) - 1)], jnp.inf)
    # Up to the best rate, where all is finite and the loss falls.
    before = (place[1:] <= best) & jnp.isfinite(final[:-1])
    fall = jnp.where(before, jnp.where(before, final[:-1] - final[1:], 0) / jnp.log(rate[1:] / rate[:-1]), -jnp.inf)
    at = jnp.argmax(fall) if len(rate) > 1 else 0
    steepest = jnp.where(before.any(), jnp.sqrt(rate[at]) * jnp.sqrt(rate[min(1, len(rate) - 1) + at]), rate[best])
    found = UsableRates(rate[first], rate[last], steepest, rate[best], edge)
    return jax.tree.map(lambda value: jnp.where(decrease[best] > 0, value, jnp.nan), found)


def _drawn(key: Array, data: Dataset, count: int) -> Dataset:
    """As many rows, from one permutation of all after the other."""
    num_rows = data.y.shape[0]
    keys = jax.random.split(key, -(-count // num_rows))
    order = jax.vmap(lambda key: jax.random.permutation(key, num_rows))(keys).ravel()[:count]
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], data)
