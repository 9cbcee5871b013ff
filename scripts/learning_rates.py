"""Which learning rate, how many epochs, and where is the edge of divergence?"""

from functools import partial
from typing import NamedTuple

import _common as common
import jax
import numpy as np
import optax

import jaxreg
from jaxreg import curvature, losses, plots

RUNS = ("lr_0.003", "lr_0.03", "lr_0.3", "lr_3")
EPOCHS = (3, 10, 20)
RATES = np.geomspace(0.003, 6.0, 1000, dtype=np.float32)
SEEDS = 20
STEPS = 300
RISK = jaxreg.empirical_risk(common.LINE, losses.squared)


def run(settings: common.Settings) -> common.Answer:
    """Which learning rate, how many epochs, and where is the edge of divergence?"""
    rates = {name: common.published_run(name)["learning_rate"] for name in RUNS}
    all_lines = common.line_replicates(settings)
    published = [
        row
        for name, rate in rates.items()
        for row in common.judge_line(name, common.fit_lines(all_lines, rate, epochs=min(EPOCHS)))
    ]
    few = common.line_replicates(settings, min(settings.replicates, 100))
    long = {
        f"{rate:g}": np.asarray(common.fit_lines(few, rate, epochs=max(EPOCHS)).validation_loss)
        for rate in rates.values()
    }
    after = np.array([np.median(loss, axis=0)[np.array(EPOCHS) - 1] for loss in long.values()])

    lines = common.line_replicates(settings, SEEDS)
    study = jaxreg.sweep(
        _edge_run, {"lines": lines, "rate": RATES}, static={"batch_size": [common.NUM_TRAIN, common.BATCH_SIZE]}
    )
    full, noisy = (Edge(*(leaf[index] for leaf in study.values)) for index in range(2))
    predicted, measured = np.asarray(jax.jit(jax.vmap(_critical))(lines)), _edge(full)
    deviation = measured / predicted - 1
    edge, found, noisy_found = (float(np.median(values)) for values in (predicted, measured, _edge(noisy)))

    draw = partial(plots.rate_sweep, RATES, start_loss=float(np.median(full.start_loss)), predicted_edge=edge)
    with common.figure(settings, "learning_rates_edge") as ax:
        draw(full.final_loss, full.status, measured_edge=found, ax=ax)
    with common.figure(settings, "learning_rates_minibatch") as ax:
        draw(noisy.final_loss, noisy.status, measured_edge=noisy_found, ax=ax)
    with common.figure(settings, "learning_rates_epochs") as ax:
        curves = {f"rate {rate}": loss for rate, loss in long.items()}
        plots.loss_curves(np.arange(1, max(EPOCHS) + 1), curves, ylabel="validation loss", ax=ax)

    gain = after[:, 0] / after[:, -1]
    return common.Answer(
        title="Learning rates",
        question="Which learning rate, how many epochs, and where is the edge of divergence?",
        text=(
            f"More epochs help where the rate is too small: from 3 to 20 epochs the loss falls {gain[0]:.3g} times "
            f"at 0.003 and {gain[1]:.3g} times at 0.03, but {gain[2]:.3g} times at 0.3, which is done after three, "
            f"and at 3 they only feed the explosion. Full-batch descent must diverge beyond 2/λmax = {edge:.4f}; the "
            f"sweep of {len(RATES)} rates and {SEEDS} seeds finds {found:.4f}, and seed by seed the two differ "
            f"by at most {100 * np.abs(deviation).max():.2f} %. In three epochs on minibatches of 32 the loss ends "
            f"above its start from {noisy_found:.3g} on."
        ),
        header=("learning rate", *(f"loss, {count} epochs" for count in EPOCHS)),
        rows=[
            [rate, *(loss if np.isfinite(loss) else "diverged" for loss in losses_after)]
            for rate, losses_after in zip(long, after, strict=True)
        ],
        figures={
            "learning_rates_edge": f"Full batch, {STEPS} steps: {len(RATES)} rates, {SEEDS} seeds, both edges.",
            "learning_rates_minibatch": "The same on minibatches of 32, 3 epochs.",
            "learning_rates_epochs": "Validation loss over the epochs (median, 90 % of the seeds).",
        },
        measured={
            "validation_loss": {
                rate: dict(zip(map(str, EPOCHS), row, strict=True)) for rate, row in zip(long, after, strict=True)
            },
            "edge": {
                "predicted": predicted,
                "measured": measured,
                "largest_relative_difference": np.abs(deviation).max(),
                "within_2_percent": bool(np.abs(deviation).max() <= 0.02),
                "diverged_members": np.count_nonzero(full.status),
                "minibatch": noisy_found,
            },
        },
        published=published,
    )


class Edge(NamedTuple):
    start_loss: jax.Array  # over all training rows
    final_loss: jax.Array
    status: jax.Array


def _edge_run(lines: common.Replicates, rate: jax.Array, batch_size: int) -> Edge:
    full = batch_size == common.NUM_TRAIN
    params = common.LINE.init(lines.key)
    result = jaxreg.train(
        common.LINE,
        losses.squared,
        lines.train,
        optimizer=optax.sgd(rate),
        epochs=STEPS if full else 3,
        batch_size=batch_size,
        key=lines.key,
        params=params,
        order="sequential" if full else lines.order[:3],
    )
    return Edge(RISK(params, lines.train), RISK(result.params, lines.train), result.status)


def _critical(lines: common.Replicates) -> jax.Array:
    return curvature.critical_learning_rate(RISK, common.LINE.init(lines.key), lines.train)


def _edge(study: Edge) -> np.ndarray:
    """For each seed, the lowest rate whose final loss is not below the start's."""
    below = np.asarray(study.final_loss) < np.asarray(study.start_loss)
    return RATES[np.argmax(~below, axis=1)]


if __name__ == "__main__":
    common.main(run, "learning_rates")
