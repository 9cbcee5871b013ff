"""Can the order of the rows break SGD? The same rows shuffled, sorted and in a malicious order."""

import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxreg
from jaxreg import batching, curvature, data, losses, models, plots

NUM_ROWS, NUM_RARE = 1024, 32
RARE = 40.0**0.5  # the rare feature: with the learning rate, rate·RARE² = 4 > 2 if a whole minibatch has it
LEARNING_RATE = 0.1
EPOCHS = 12
LONG = 100  # epochs, enough to leave float32's range at a growth of 3
SHOWN = 20  # random orders in which rare rows are packed
NOISE = 1.0  # of the line on which sorting is tried, in units of y
RISK = jaxreg.empirical_risk(common.LINE, losses.squared)
KEY = jax.random.key(0)  # of the start, the same for all runs


def run(settings: common.Settings) -> common.Answer:
    """Can the order of the rows break SGD? The same rows shuffled, sorted and in a malicious order."""
    rows = _rare_rows(settings.keys(1)[0])
    bowl = jax.tree.map(np.asarray, _bowl(rows))
    orders = np.asarray(_permutations(settings.keys()))
    packed = _packed(rows, orders[:SHOWN, 0]).reshape(-1, NUM_ROWS)
    fixed = {"random, fixed": orders[:, 0], "packed": packed, **_made_orders(rows)}
    theory, runs = _of_each(_theory, rows, fixed), _runs(rows, fixed, orders)
    errors = {name: _error(runs[name], bowl) for name in ("random, fixed", "reshuffled")}

    malicious = jax.tree.map(lambda leaf: leaf[0], runs["adversarial"])
    predicted, random_radius = float(theory["adversarial"].radius[0]), theory["random, fixed"].radius
    distance = np.sqrt(np.array(malicious.validation_loss, float)[:EPOCHS])
    measured = float((distance[-1] / distance[-6]) ** (1 / 5))
    harm = _sorted_harm(settings, fixed, orders)
    with common.figure(settings, "shuffling_malicious") as ax:
        shown = {"malicious": "adversarial"} | {name: name for name in errors}
        curves = {label: np.asarray(runs[name].validation_loss)[:, :EPOCHS] for label, name in shown.items()}
        plots.loss_curves(np.arange(1, EPOCHS + 1), curves, ylabel="loss over all rows", ax=ax)
    with common.figure(settings, "shuffling_sorted") as ax:
        groups = {textwrap.fill(name, 11): values for name, values in harm.items()}
        plots.comparison(groups, ylabel="largest relative distance\nfrom least squares", ax=ax)

    status = jaxreg.Status(int(malicious.status)).name
    medians = {name: float(np.median(values)) for name, values in harm.items()}
    worst = {name: float(values.max()) for name, values in errors.items()}
    radius = _range(theory["packed"].radius)[1]
    return common.Answer(
        measured={
            "predicted_spectral_radius": predicted,
            "measured_growth_per_epoch": measured,
            "largest_radius_of_random_orders": random_radius.max(),
            "largest_error": worst,
            "malicious_status": status,
            "malicious_steps_to_divergence": malicious.num_steps,
            "reshuffled_within_1_percent": bool(worst["reshuffled"] <= 0.01),
            "packed_spectral_radius": radius,
            "fewest_packed_that_diverge": int(np.argmax(radius > 1)),
            "sorted_harm_median_error": medians,
            "share_of_random_orders_better_than_sorted": np.mean(harm["random, fixed"] < medians["sorted by target"]),
        },
        knob=_knob(rows, packed, theory["packed"], runs, bowl),
        figures={
            "shuffling_malicious": f"The same rows in three orders; in the malicious one the {NUM_RARE} rows of a rare "
            "feature share a minibatch.",
            "shuffling_sorted": f"How far from least squares runs end on a line with noise {NOISE:g}, by order.",
        },
        header=("order of the rows", "spectral radius", "relative error after the run"),
        rows=[
            ["malicious", predicted, status],
            ["random, fixed: median", np.median(random_radius), np.median(errors["random, fixed"])],
            ["random, fixed: worst", random_radius.max(), worst["random, fixed"]],
            ["reshuffled: worst", "–", worst["reshuffled"]],
            *([f"noisy line, {name}", "–", value] for name, value in medians.items()),
        ],
    )


Groups = Mapping[str, Any]  # name -> orders of the rows, (orders, n)


class Bowl(NamedTuple):
    """The loss of all rows about its minimum, and where the runs begin."""

    optimum: models.Params
    minimum: jax.Array
    hessian: jax.Array
    start: jax.Array  # (p,), the distance from the optimum


class Theory(NamedTuple):
    """What is known of an order before its run."""

    epoch: jax.Array  # (p, p), what an epoch does to the distance from the optimum
    radius: jax.Array


def _knob(
    rows: data.Dataset, packed: np.ndarray, theory: Theory, runs: dict[str, jaxreg.Training], bowl: Bowl
) -> common.Knob:
    """Of orders with 0 … ``NUM_RARE`` packed rows."""
    long, places = runs["packed"], (NUM_RARE + 1, -1)
    first = packed.reshape(*places, NUM_ROWS)[:, 0]
    return common.Knob(
        [common.Slider("packed", "rare rows moved into the first minibatch", NUM_RARE + 1, NUM_RARE)],
        {
            "rare": NUM_RARE,
            "each": LEARNING_RATE * RARE**2 / common.BATCH_SIZE,
            "held": _rare(rows)[first].reshape(NUM_RARE + 1, -1, common.BATCH_SIZE).sum(axis=2),
            "epochs": EPOCHS,
            "minimum": bowl.minimum,
            "hessian": bowl.hessian,
            "start": bowl.start,
            "maps": common.packed(theory.epoch.reshape(*places, bowl.start.size, bowl.start.size)),
            "radius": common.packed(_range(theory.radius)),
            "loss": common.packed(_range(long.validation_loss)),
            "reshuffled": common.packed(np.median(np.asarray(runs["reshuffled"].validation_loss), axis=0)),
            "diverged": np.mean((long.status == jaxreg.Status.DIVERGED).reshape(places), axis=1),
            "steps": np.median(long.num_steps.reshape(places), axis=1),
        },
        charts=3,
    )


def _range(values: Any) -> np.ndarray:
    """The range of 90 % and the median of the orders with as many packed rows, along a first axis."""
    known = np.where(np.isnan(values), np.inf, values).reshape(NUM_RARE + 1, -1, *np.shape(values)[1:])
    return np.quantile(known, [0.05, 0.5, 0.95], axis=1, method="lower")


def _rare(rows: data.Dataset) -> np.ndarray:
    return np.asarray(rows.x)[:, 1] > 0


def _packed(rows: data.Dataset, orders: np.ndarray) -> np.ndarray:
    """Orders of the rows, (packed rows, orders, n): the first 0 … ``NUM_RARE`` rare rows of each come before all."""
    rare = _rare(rows)[orders]
    later = [~(rare & (rare.cumsum(axis=1) <= count)) for count in range(NUM_RARE + 1)]
    return np.take_along_axis(orders[None], np.argsort(later, axis=2, kind="stable"), axis=2)


@jax.jit
def _rare_rows(key: jax.Array) -> data.Dataset:
    """A line whose second feature is zero but in a few rows, where it is large."""
    key_x, key_rare, key_noise = jax.random.split(key, 3)
    common_feature = jax.random.normal(key_x, (NUM_ROWS,))
    rare = jnp.where(jax.random.permutation(key_rare, NUM_ROWS) < NUM_RARE, RARE, 0.0)
    x = jnp.stack([common_feature, rare], axis=1)
    y = x @ common.TRUE_W + common.TRUE_B + common.NOISE * jax.random.normal(key_noise, (NUM_ROWS,))
    return data.Dataset(x, y)


@jax.jit
def _bowl(rows: data.Dataset) -> Bowl:
    optimum = common.LINE.guess(rows.x, rows.y)  # type: ignore[misc]
    start = common.LINE.init(jax.random.split(KEY)[0])  # as ``train`` does
    distance = ravel_pytree(start)[0] - ravel_pytree(optimum)[0]
    return Bowl(optimum, RISK(optimum, rows), curvature.hessian(RISK, optimum, rows), distance)


@jax.jit
@jax.vmap
def _permutations(key: jax.Array) -> jax.Array:
    return jax.lax.map(batching.epoch_order("reshuffled", NUM_ROWS, key), jnp.arange(EPOCHS))


@jax.jit
def _made_orders(rows: data.Dataset) -> dict[str, jax.Array]:
    """Two groups of one order each."""
    features = common.LINE.features(rows.x)  # type: ignore[misc]
    made = {"adversarial": batching.adversarial_order(features), "sorted by target": batching.sorted_order(rows.y)}
    return {name: order[None] for name, order in made.items()}


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def _theory(rows: data.Dataset, order: jax.Array) -> Theory:
    batches = batching.gather(rows, batching.minibatches(order, common.BATCH_SIZE))
    epoch = curvature.epoch_map(RISK, common.LINE.init(KEY), batches, learning_rate=LEARNING_RATE)
    return Theory(epoch, curvature.spectral_radius(epoch))


@partial(jax.jit, static_argnames="epochs")
def _train(rows: data.Dataset, orders: np.ndarray, epochs: int) -> jaxreg.Training:
    """Training in orders of the rows, each for all epochs, or one for each."""

    def member(order: Any) -> jaxreg.Training:
        return common.fit_line(KEY, LEARNING_RATE, rows, order=order, epochs=epochs, validation=rows)

    return jax.vmap(member)(orders)


def _of_each(compute: Any, rows: data.Dataset, groups: Groups) -> dict[str, Any]:
    """``compute(rows, orders)`` of the orders in each group; of all together, so that it is one program."""
    found = jax.tree.map(np.asarray, compute(rows, np.concatenate(list(groups.values()))))
    names = np.repeat(list(groups), [len(group) for group in groups.values()])
    return {name: jax.tree.map(lambda leaf, mine=names == name: leaf[mine], found) for name in groups}


def _runs(rows: data.Dataset, groups: Groups, orders: np.ndarray) -> dict[str, jaxreg.Training]:
    """Training in one order for all epochs, and in orders that have one for each."""
    reshuffled = jax.tree.map(np.asarray, _train(rows, orders, epochs=EPOCHS))
    return {"reshuffled": reshuffled} | _of_each(partial(_train, epochs=LONG), rows, groups)


def _error(result: jaxreg.Training, bowl: Bowl) -> np.ndarray:
    """The largest relative distance of the parameters from least squares."""
    parts = jax.tree.map(lambda got, best: np.abs(got / best - 1).reshape(len(got), -1), result.params, bowl.optimum)
    return np.concatenate(jax.tree.leaves(parts), axis=1).max(axis=1)


def _sorted_harm(settings: common.Settings, groups: Groups, orders: np.ndarray) -> Groups:
    """Distance from least squares on one noisy line, for the same random orders, and for two made from the rows."""
    draw = jax.jit(data.linear, static_argnums=1)
    rows = draw(settings.keys(1)[0], NUM_ROWS, common.TRUE_W, common.TRUE_B, noise=NOISE)
    bowl = jax.tree.map(np.asarray, _bowl(rows))
    runs = _runs(rows, {**groups, **_made_orders(rows)}, orders)
    return {name: _error(result, bowl) for name, result in runs.items() if name != "packed"}


if __name__ == "__main__":
    common.main(run, "shuffling")
