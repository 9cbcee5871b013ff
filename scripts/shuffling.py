"""Can the order of the rows break SGD? The same rows shuffled, sorted and in a malicious order."""

import textwrap

import _common as common
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from jaxreg import batching, curvature, data, losses, models, plots

NUM_ROWS, NUM_RARE = 1024, 32
RARE = 40.0**0.5  # the rare feature: with the learning rate, rate·RARE² = 4 > 2 if a whole minibatch has it
LEARNING_RATE = 0.1
EPOCHS = 12
MALICIOUS_EPOCHS = 100  # enough to leave float32's range at a growth of 3
NOISE = 1.0  # of the line on which sorting is tried, in units of y
RISK = jaxreg.empirical_risk(common.LINE, losses.squared)


def run(settings: common.Settings) -> common.Answer:
    """Can the order of the rows break SGD? The same rows shuffled, sorted and in a malicious order."""
    rows = _rare_rows(settings.keys(1)[0])
    optimum = _least_squares(rows)
    orders = np.asarray(_permutations(settings.keys()))
    malicious = np.asarray(_made_orders(rows)["adversarial"])
    radii = np.asarray(jax.jit(jax.vmap(_radius, (None, 0)))(rows, np.concatenate([malicious[None], orders[:, 0]])))
    predicted, random_radius = float(radii[0]), radii[1:]

    broken = _train(rows, np.tile(malicious, (MALICIOUS_EPOCHS, 1)))
    distance = np.sqrt(np.asarray(broken.validation_loss, float)[:EPOCHS])
    measured = float((distance[-1] / distance[-6]) ** (1 / 5))
    runs = _runs(rows, orders)
    errors = {name: _error(runs[name], optimum) for name in ("random, fixed", "reshuffled")}

    harm = _sorted_harm(settings, orders)
    with common.figure(settings, "shuffling_malicious") as ax:
        shown = {"malicious": "adversarial"} | {name: name for name in errors}
        curves = {label: np.asarray(runs[name].validation_loss) for label, name in shown.items()}
        plots.loss_curves(np.arange(1, EPOCHS + 1), curves, ylabel="loss over all rows", ax=ax)
    with common.figure(settings, "shuffling_sorted") as ax:
        groups = {textwrap.fill(name, 11): values for name, values in harm.items()}
        plots.comparison(groups, ylabel="largest relative distance\nfrom least squares", ax=ax)

    broken_status = jaxreg.Status(int(broken.status)).name
    medians = {name: float(np.median(values)) for name, values in harm.items()}
    beyond = np.mean(harm["random, fixed"] < medians["sorted by target"])
    worst = {name: float(values.max()) for name, values in errors.items()}
    return common.Answer(
        title="Shuffling",
        question="Can the order of the rows alone break SGD?",
        text=(
            f"Yes: reshuffled, all {settings.replicates} runs on {NUM_ROWS} rows end within "
            f"{100 * worst['reshuffled']:.2g} % of least squares, and over {settings.replicates} random orders the "
            f"spectral radius of one epoch's map stays below {random_radius.max():.3f}. With the {NUM_RARE} rows of a "
            f"rare feature packed into one minibatch, learning rate times curvature is "
            f"{LEARNING_RATE * RARE**2:.0f} there; the radius, computed before the run, is {predicted:.4f}, and the "
            f"run grows by {measured:.4f} an epoch until it ends as {broken_status} after {int(broken.num_steps)} "
            "steps. The milder harm: "
            f"rows sorted by target end {100 * medians['sorted by target']:.2g} % away from least squares on a line "
            f"with noise {NOISE:g}, beyond {100 * beyond:.1f} % of the random orders, whose median is "
            f"{100 * medians['random, fixed']:.2g} %."
        ),
        header=("order of the rows", "spectral radius", "relative error after the run"),
        rows=[
            ["malicious", predicted, broken_status],
            ["random, fixed: median", np.median(random_radius), np.median(errors["random, fixed"])],
            ["random, fixed: worst", random_radius.max(), worst["random, fixed"]],
            ["reshuffled: worst", "–", worst["reshuffled"]],
            *([f"noisy line, {name}", "–", value] for name, value in medians.items()),
        ],
        figures={
            "shuffling_malicious": "Rows with a rare, large feature, in three orders.",
            "shuffling_sorted": f"The final distance from least squares on a line with noise {NOISE:g}, by order.",
        },
        measured={
            "predicted_spectral_radius": predicted,
            "measured_growth_per_epoch": measured,
            "largest_radius_of_random_orders": random_radius.max(),
            "largest_error": worst,
            "malicious_status": broken_status,
            "malicious_steps_to_divergence": broken.num_steps,
            "reshuffled_within_1_percent": bool(worst["reshuffled"] <= 0.01),
            "sorted_harm_median_error": medians,
            "share_of_random_orders_better_than_sorted": beyond,
        },
    )


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
def _least_squares(rows: data.Dataset) -> models.Params:
    return common.LINE.guess(rows.x, rows.y)  # type: ignore[misc]


def _radius(rows: data.Dataset, order: jax.Array) -> jax.Array:
    batches = batching.gather(rows, batching.minibatches(order, common.BATCH_SIZE))
    start = common.LINE.init(jax.random.key(0))
    return curvature.spectral_radius(curvature.epoch_map(RISK, start, batches, learning_rate=LEARNING_RATE))


def _train(rows: data.Dataset, order: jax.Array | np.ndarray) -> jaxreg.Training:
    """Training with an order of the rows for each epoch."""
    return common.fit_line(jax.random.key(0), LEARNING_RATE, rows, order=order, epochs=len(order), validation=rows)


_train_in_orders = jax.jit(jax.vmap(_train, (None, 0)))


@jax.jit
@jax.vmap
def _permutations(key: jax.Array) -> jax.Array:
    return jax.lax.map(batching.epoch_order("reshuffled", NUM_ROWS, key), jnp.arange(EPOCHS))


@jax.jit
def _made_orders(rows: data.Dataset) -> dict[str, jax.Array]:
    features = common.LINE.features(rows.x)  # type: ignore[misc]
    return {"sorted by target": batching.sorted_order(rows.y), "adversarial": batching.adversarial_order(features)}


def _runs(rows: data.Dataset, orders: np.ndarray) -> dict[str, jaxreg.Training]:
    """Training in orders made from the rows, and in random ones: the first for all epochs, or a new one for each."""
    fixed = {"random, fixed": orders[:, 0]} | jax.tree.map(lambda order: np.asarray(order)[None], _made_orders(rows))
    groups = {"reshuffled": orders} | {name: order[:, None].repeat(EPOCHS, axis=1) for name, order in fixed.items()}
    # All together, so that one program serves both data sets.
    together = jax.tree.map(np.asarray, _train_in_orders(rows, np.concatenate(list(groups.values()))))
    names = np.repeat(list(groups), [len(order) for order in groups.values()])
    return {name: jax.tree.map(lambda leaf, mine=names == name: leaf[mine], together) for name in groups}


def _error(result: jaxreg.Training, optimum: models.Params) -> np.ndarray:
    """The largest relative distance of the parameters from least squares."""
    parts = jax.tree.map(lambda got, best: np.abs(got / best - 1).reshape(len(got), -1), result.params, optimum)
    return np.concatenate(jax.tree.leaves(parts), axis=1).max(axis=1)


def _sorted_harm(settings: common.Settings, orders: np.ndarray) -> dict[str, np.ndarray]:
    """Distance from least squares on one noisy line, for random orders and keys, and for two made from the rows."""
    draw = jax.jit(data.linear, static_argnums=1)
    rows = draw(settings.keys(1)[0], NUM_ROWS, common.TRUE_W, common.TRUE_B, noise=NOISE)
    optimum = _least_squares(rows)
    return {name: _error(result, optimum) for name, result in _runs(rows, orders).items()}


if __name__ == "__main__":
    common.main(run, "shuffling")
