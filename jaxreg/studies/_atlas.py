"""Where training converges and where it diverges, over a grid of everything that matters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, batching
from jaxreg.data import Dataset, as_dataset
from jaxreg.models import Model
from jaxreg.objective import Loss, empirical_risk
from jaxreg.results import Sweep
from jaxreg.studies._runs import Optimizer, Run, check_model, edges_of, judged_run
from jaxreg.sweeps import sweep


class Atlas(NamedTuple):
    """The result of ``divergence_atlas``.

    Attributes:
        sweep: axes loss, batch_size, init_scale, learning_rate, key; its values are a ``Run``.
        critical_learning_rate: (losses,), 2/λmax where the best run of each loss ended: the edge of full-batch descent.
        mean_square_edge: (losses, batch sizes), the rate above which the expected loss of SGD grows; NaN where there is
            no theory (rows with weights, more than 32 parameters).
    """

    sweep: Sweep
    critical_learning_rate: np.ndarray
    mean_square_edge: np.ndarray


def divergence_atlas(
    model: Model,
    loss: Loss | Sequence[Loss],
    data: Dataset,
    *,
    learning_rate: ArrayLike,
    batch_size: int | Sequence[int],
    steps: int,
    key: Array,
    num_seeds: int = 1,
    init_scale: ArrayLike = 1.0,
    optimizer: Optimizer = optax.sgd,
    **options: Any,
) -> Atlas:
    """Where training converges and where it diverges: learning rate × batch size × init scale × loss × seed.

    All members of a seed share their start and their minibatches, so that they differ by the rate alone.

    Args:
        model: with an ``init``.
        loss: one or several.
        data: n rows.
        learning_rate: (k,).
        batch_size: one or several, static.
        steps: of each run, static; filled up to whole epochs.
        key: split into one for each seed.
        num_seeds: static.
        init_scale: scalar or (s,), factors of the start that ``model.init`` draws.
        optimizer: ``optimizer(learning_rate)``, an optax optimiser. The theory is that of plain gradient descent.
        options: of ``sweep``: chunk_size, mesh, store, progress.

    Returns:
        Atlas.

    >>> from jaxreg import data, losses, models
    >>> rows = data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> atlas = divergence_atlas(models.linear(2), losses.squared, rows, learning_rate=jnp.array([0.1, 1.0, 10.0]),
    ...                          batch_size=1000, steps=100, key=jax.random.key(1))
    >>> print(atlas.critical_learning_rate.round(1), atlas.sweep.values.status.ravel())
    [1.8] [0 0 2]
    """
    check_model(model, optimizer)
    data = as_dataset(data, of="data.")
    num_rows = len(data.y)
    steps, num_seeds = _checks.count("steps", steps, least=1), _checks.count("num_seeds", num_seeds, least=1)
    losses = list(loss) if isinstance(loss, Sequence) else [loss]
    sizes = [
        _checks.count("batch_size", size, least=1, most=num_rows)
        for size in (batch_size if isinstance(batch_size, Sequence) else [batch_size])
    ]

    def member(loss: Loss, batch_size: int, init_scale: Array, learning_rate: Array, key: Array) -> Run:
        key_init, key_train = jax.random.split(key)
        start = jax.tree.map(lambda leaf: init_scale * leaf, model.init(key_init))
        epochs = -(-steps // batching.steps_per_epoch(num_rows, batch_size))
        return judged_run(model, loss, data, start, optimizer(learning_rate), epochs, batch_size, key_train)

    axes = {
        "init_scale": jnp.atleast_1d(init_scale),
        "learning_rate": learning_rate,
        "key": jax.random.split(key, num_seeds),
    }
    found = sweep(member, axes, static={"loss": losses, "batch_size": sizes}, **options)
    edges = []
    for index, one in enumerate(losses):
        final = found.values.final_loss[index]
        best = np.unravel_index(np.argmin(final), final.shape)
        params = jax.tree.map(lambda leaf, place=(index, *best): leaf[place], found.values.params)
        edges.append(jax.jit(edges_of(empirical_risk(model, one), data, sizes))(params))
    critical, mean_square = (np.stack(values) for values in zip(*edges, strict=True))
    return Atlas(found, critical, mean_square)
