"""Which learning rate, how many epochs, and where is the edge of divergence?"""

from functools import partial

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import curvature, losses, plots

RUNS = ("lr_0.003", "lr_0.03", "lr_0.3", "lr_3")
EPOCHS = (3, 10, 20)
SWEEP = np.geomspace(0.003, 6.0, 1000, dtype=np.float32)
SWEEP_SEEDS = 20
STEPS = 300
RISK = jaxreg.empirical_risk(common.LINE, losses.squared)


def run(settings: common.Settings) -> common.Answer:
    """Which learning rate, how many epochs, and where is the edge of divergence?"""
    rates = jnp.array([common.published_run(name)["learning_rate"] for name in RUNS])
    short = jax.jit(jax.vmap(jax.vmap(_published, (0, None)), (None, 0), out_axes=1))(rates, settings.keys())
    published = [
        row
        for index, name in enumerate(RUNS)
        for row in common.judge_line(name, jax.tree.map(lambda leaf, index=index: leaf[index], short))
    ]
    long = jax.jit(jax.vmap(jax.vmap(_long, (0, None)), (None, 0), out_axes=1))(
        rates, settings.keys(min(settings.replicates, 100))
    )
    assert long.validation_loss is not None
    after = np.median(np.asarray(long.validation_loss), axis=1)[:, np.array(EPOCHS) - 1]

    keys = settings.keys(SWEEP_SEEDS)
    start, final, status, predicted = jax.jit(lambda keys: jax.lax.map(_full_batch_sweep, keys))(keys)
    measured = np.asarray(_edge(np.asarray(start), np.asarray(final)))
    predicted = np.asarray(predicted)
    deviation = measured / predicted - 1
    noisy_start, noisy_final, noisy_status = jax.jit(lambda keys: jax.lax.map(_minibatch_sweep, keys))(keys)
    noisy_edge = float(np.median(_edge(np.asarray(noisy_start), np.asarray(noisy_final))))

    edge, level = float(np.median(predicted)), float(np.median(np.asarray(start)))
    found = float(np.median(measured))
    draw = partial(plots.rate_sweep, SWEEP, start_loss=level, predicted_edge=edge)
    with common.figure(settings, "learning_rates_edge") as ax:
        draw(final, status, measured_edge=found, ax=ax)
    with common.figure(settings, "learning_rates_minibatch") as ax:
        draw(noisy_final, noisy_status, measured_edge=noisy_edge, ax=ax)
    with common.figure(settings, "learning_rates_epochs") as ax:
        curves = {f"rate {float(rate):g}": loss for rate, loss in zip(rates, long.validation_loss, strict=True)}
        plots.loss_curves(np.arange(1, max(EPOCHS) + 1), curves, ylabel="validation loss", ax=ax)

    gain = after[:, 0] / after[:, -1]
    return common.Answer(
        title="Learning rates",
        question="Which learning rate, how many epochs, and where is the edge of divergence?",
        text=(
            f"More epochs help where the rate is too small: from 3 to 20 epochs the loss falls {gain[0]:.3g} times "
            f"at 0.003 and {gain[1]:.3g} times at 0.03, but {gain[2]:.3g} times at 0.3, which is done after three, "
            f"and at 3 they only feed the explosion. Full-batch descent must diverge beyond 2/λmax = {edge:.4f}; the "
            f"sweep of {len(SWEEP)} rates and {SWEEP_SEEDS} seeds finds {found:.4f}, and seed by seed the two differ "
            f"by at most {100 * np.abs(deviation).max():.2f} %. In three epochs on minibatches of 32 the loss ends "
            f"above its start from {noisy_edge:.3g} on."
        ),
        header=("learning rate", *(f"{count} epochs" for count in EPOCHS)),
        rows=[[f"{float(rate):g}", *losses_after] for rate, losses_after in zip(rates, after, strict=True)],
        figures={
            "learning_rates_edge": f"Full batch, {STEPS} steps: {len(SWEEP)} rates, {SWEEP_SEEDS} seeds, both edges.",
            "learning_rates_minibatch": "The same on minibatches of 32, 3 epochs.",
            "learning_rates_epochs": "Validation loss over the epochs (median, 90 % of the seeds).",
        },
        measured={
            "validation_loss": {
                f"{float(rate):g}": dict(zip(map(str, EPOCHS), row, strict=True))
                for rate, row in zip(rates, after, strict=True)
            },
            "edge": {
                "predicted": predicted,
                "measured": measured,
                "largest_relative_difference": np.abs(deviation).max(),
                "within_2_percent": bool(np.abs(deviation).max() <= 0.02),
                "diverged_members": np.count_nonzero(np.asarray(status)),
                "minibatch": noisy_edge,
            },
        },
        published=published,
    )


def _published(rate: jax.Array, key: jax.Array) -> jaxreg.Training:
    key_data, key_train = jax.random.split(key)
    train, _ = common.line_data(key_data)
    return common.fit_line(key_train, rate, train)


def _long(rate: jax.Array, key: jax.Array) -> jaxreg.Training:
    key_data, key_train = jax.random.split(key)
    train, validation = common.line_data(key_data)
    return common.fit_line(key_train, rate, train, validation=validation, epochs=max(EPOCHS))


def _full_batch_sweep(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Loss at the start, loss at the end and status for each rate, and the predicted edge, of one seed."""
    key_data, key_init = jax.random.split(key)
    train, _ = common.line_data(key_data)
    params = common.LINE.init(key_init)

    def member(rate: jax.Array) -> jaxreg.Training:
        return jaxreg.train(
            common.LINE,
            losses.squared,
            train,
            optimizer=optax.sgd(rate),
            epochs=STEPS,
            batch_size=common.NUM_TRAIN,
            key=key_init,
            params=params,
            order="sequential",
        )

    result = jax.vmap(member)(jnp.asarray(SWEEP))
    final = jax.vmap(RISK, (0, None))(result.params, train)
    return RISK(params, train), final, result.status, curvature.critical_learning_rate(RISK, params, train)


def _minibatch_sweep(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    key_data, key_train = jax.random.split(key)
    train, _ = common.line_data(key_data)
    result = jax.vmap(lambda rate: common.fit_line(key_train, rate, train))(jnp.asarray(SWEEP))
    final = jax.vmap(RISK, (0, None))(result.params, train)
    return RISK(common.LINE.init(key_train), train), final, result.status


def _edge(start: np.ndarray, final: np.ndarray) -> np.ndarray:
    """For each seed, the lowest rate whose final loss is not below the start's."""
    return SWEEP[np.argmax(~(final < start[:, None]), axis=1)]


if __name__ == "__main__":
    common.main(run, "learning_rates")
