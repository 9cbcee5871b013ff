"""Which learning rate, how many epochs, and where is the edge of divergence?"""

from functools import partial
from typing import Any, NamedTuple

import _common as common
import jax
import numpy as np
import optax

import jaxreg
from jaxreg import curvature, gradient_noise, losses, plots

RUNS = ("lr_0.003", "lr_0.03", "lr_0.3", "lr_3")
EPOCHS = (3, 10, 20)
RATES = np.geomspace(0.003, 6.0, 1000, dtype=np.float32)
SEEDS = 20
NUM_CURVES, CURVE_SEEDS = 512, 100
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
    curves = _curves(settings)
    places = {f"{rate:g}": int(np.argmin(np.abs(curves.rates - rate))) for rate in rates.values()}
    after = np.array([curves.loss[place, np.array(EPOCHS) - 1] for place in places.values()])
    finite = {rate: values for rate, values in zip(places, after, strict=True) if np.isfinite(values).all()}

    lines = common.line_replicates(settings, SEEDS)
    study = jaxreg.sweep(
        _edge_run, {"lines": lines, "rate": RATES}, static={"batch_size": [common.NUM_TRAIN, common.BATCH_SIZE]}
    )
    full, noisy = (Edge(*(leaf[index] for leaf in study.values)) for index in range(2))
    predicted, measured = np.asarray(jax.jit(jax.vmap(_critical))(lines)), _edge(full)
    deviation = measured / predicted - 1
    edge, found, noisy_found = (float(np.median(values)) for values in (predicted, measured, _edge(noisy)))

    draw = partial(plots.rate_sweep, RATES, start_loss=float(np.median(full.start_loss)), predicted_edge=edge)
    with common.figure(settings, "learning_rates_minibatch") as ax:
        draw(noisy.final_loss, noisy.status, measured_edge=noisy_found, ax=ax)
    with common.figure(settings, "learning_rates_edge") as ax:
        draw(full.final_loss, full.status, measured_edge=found, ax=ax)

    return common.Answer(
        measured={
            "validation_loss": {
                rate: dict(zip(map(str, EPOCHS), row, strict=True)) for rate, row in zip(places, after, strict=True)
            },
            "gain_from_3_to_20_epochs": {rate: values[0] / values[-1] for rate, values in finite.items()},
            "edge": {
                "predicted": predicted,
                "measured": measured,
                "median_predicted": edge,
                "median_measured": found,
                "largest_relative_difference": np.abs(deviation).max(),
                "within_2_percent": bool(np.abs(deviation).max() <= 0.02),
                "diverged_members": np.count_nonzero(full.status),
                "minibatch": noisy_found,
            },
        },
        knob=common.Knob(
            [
                common.Slider("rate", "learning rate", len(curves.rates), places["0.03"]),
                common.Slider("epochs", "epochs", max(EPOCHS), min(EPOCHS) - 1),
            ],
            {
                "rates": curves.rates,
                "edge": edge,
                **{name: common.packed(getattr(curves, name)) for name in ("loss", "low", "high", "train", "expected")},
                "diverged": curves.diverged,
                "seeds": curves.seeds,
            },
            charts=2,
        ),
        figures={
            "learning_rates_minibatch": f"Loss after 3 epochs on minibatches of 32: {len(RATES)} rates, {SEEDS} seeds.",
            "learning_rates_edge": f"The same on the full batch, {STEPS} steps: both edges.",
        },
        header=("learning rate", *(f"loss, {count} epochs" for count in EPOCHS)),
        rows=[
            [rate, *(loss if np.isfinite(loss) else "diverged" for loss in losses_after)]
            for rate, losses_after in zip(places, after, strict=True)
        ],
        published=published,
    )


class Curves(NamedTuple):
    """Loss over the epochs for each learning rate; losses are (rates, epochs)."""

    rates: np.ndarray
    loss: np.ndarray  # over the validation rows, median of the seeds
    low: np.ndarray
    high: np.ndarray  # of 90 % of the seeds
    train: np.ndarray  # over the minibatches of an epoch, median of the seeds
    expected: np.ndarray  # of independent minibatches, predicted before the run
    diverged: np.ndarray  # (rates,), share of the seeds
    seeds: int


def _curves(settings: common.Settings) -> Curves:
    """Minibatch training at ``NUM_CURVES`` rates, those of the published runs among them."""
    published = [common.published_run(name)["learning_rate"] for name in RUNS]
    rates = np.sort(np.append(np.geomspace(0.001, 5.0, NUM_CURVES - len(RUNS)), published)).astype(np.float32)
    lines = common.line_replicates(settings, min(settings.replicates, CURVE_SEEDS))
    found = jaxreg.sweep(_curve, {"rate": rates, "lines": lines}).values
    expected = jax.jit(jax.vmap(jax.vmap(_expected, (0, None)), (None, 0)))(lines, rates)
    failed = np.asarray(found["status"]) != jaxreg.Status.OK
    loss, train = (np.nan_to_num(found[name], nan=np.inf, posinf=np.inf) for name in ("loss", "train"))
    low, middle, high = np.quantile(loss, [0.05, 0.5, 0.95], axis=1, method="nearest")
    train, expected = (np.quantile(values, 0.5, axis=1, method="nearest") for values in (train, expected))
    return Curves(rates, middle, low, high, train, expected, failed.mean(axis=1), failed.shape[1])


def _curve(rate: jax.Array, lines: common.Replicates) -> dict[str, Any]:
    result = common.fit_line(
        lines.key, rate, lines.train, validation=lines.validation, order=lines.order, epochs=max(EPOCHS)
    )
    train = result.train_loss.reshape(max(EPOCHS), -1).mean(axis=1)
    return {"loss": result.validation_loss, "train": train, "status": result.status}


def _expected(lines: common.Replicates, rate: jax.Array) -> jax.Array:
    sizes = np.full((max(EPOCHS), common.STEPS_PER_EPOCH), common.BATCH_SIZE)
    sizes[:, -1] = common.NUM_TRAIN % common.BATCH_SIZE
    start = common.LINE.init(lines.key)
    loss = gradient_noise.expected_training(
        RISK, start, lines.train, learning_rate=rate, batch_sizes=sizes.ravel()
    ).loss
    return loss[common.STEPS_PER_EPOCH :: common.STEPS_PER_EPOCH]


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
