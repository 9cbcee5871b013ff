"""Does it matter where gradient descent starts? The epochs that a start needs, predicted and measured."""

from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxreg
from jaxreg import curvature, losses, models, plots, training

STARTS = {"sd 0.01": 0.01, "zero": 0.0, "sd 1000": 1000.0, "variance 1000": 1000.0**0.5}
SCALES = np.append(0.0, 10 ** (np.arange(61) / 10 - 2)).astype(np.float32)  # to 10⁴; the starts' own are among them
LEARNING_RATE = 0.03
EPOCHS = common.MOST_EPOCHS
TOLERANCE = 1e-4  # excess loss above the minimum, twice the loss of the noise
RISK = jaxreg.empirical_risk(common.LINE, losses.squared)


class Runs(NamedTuple):
    """What becomes of the starts; all fields have a leading axis of seeds."""

    loss: jax.Array  # (scales, epochs), over the training rows
    measured: jax.Array  # (scales,), the epochs needed
    status: jax.Array  # (scales,)
    prediction: curvature.TrainingPrediction  # (starts,)
    curve: jax.Array  # (starts, epochs + 1), the predicted loss
    hessian: jax.Array  # of the loss
    slope: jax.Array  # at zero
    unit: jax.Array  # the start of scale 1


def run(settings: common.Settings) -> common.Answer:
    """Does it matter where gradient descent starts? The epochs that a start needs, predicted and measured."""
    runs = jax.tree.map(np.asarray, jax.jit(jax.vmap(_runs))(common.line_replicates(settings)))
    places = [int(np.argmin(np.abs(SCALES - scale))) for scale in STARTS.values()]
    measured = np.where(np.isnan(runs.measured), np.inf, runs.measured)  # of runs that are not yet there
    runs = runs._replace(measured=measured)
    loss, needed = runs.loss[:, places], measured[:, places]
    predicted, curves = runs.prediction.epochs, np.median(runs.curve, axis=0)
    with common.figure(settings, "initialisation") as ax:
        plots.loss_curves(
            np.arange(1, EPOCHS + 1),
            dict(zip(STARTS, loss.swapaxes(0, 1), strict=True)),
            predicted=dict(zip(STARTS, curves[:, 1:], strict=True)),
            ylabel="loss over the training rows",
            ax=ax,
        )

    columns = [
        np.median(loss[:, :, 2], axis=0),
        np.median(predicted, axis=0),
        np.median(needed, axis=0),
        *np.percentile(needed, [5, 95], axis=0, method="nearest"),
    ]
    names = ("loss_after_3_epochs", "epochs_predicted", "epochs_measured", "low", "high")
    middle = np.median(measured, axis=0)
    return common.Answer(
        measured={
            "tolerance": TOLERANCE,
            "learning_rate": LEARNING_RATE,
            "starts": {
                name: dict(zip(names, row, strict=True)) | {"predicted_loss": curve}
                for name, row, curve in zip(STARTS, np.transpose(columns), curves, strict=True)
            },
            "scales": {"scale": SCALES, "epochs_measured": middle},
            "epochs_for_ten_times_as_far": middle[-1] - middle[-11],
            "median_relative_error_of_prediction": np.median(np.abs(needed / predicted - 1)),
            "diverged": np.count_nonzero(runs.status),
        },
        knob=common.Knob(
            [common.Slider("scale", "standard deviation of the start", len(SCALES), places[2])], _data(runs), charts=2
        ),
        figures={
            "initialisation": "Loss over the epochs for four starts: median of the runs, 90 % of them, and, as dots, "
            "what was predicted."
        },
        header=("start", "loss after 3 epochs", "epochs predicted", "epochs measured", "5 %", "95 %"),
        rows=[[name, *row] for name, row in zip(STARTS, np.transpose(columns), strict=True)],
    )


def _runs(lines: common.Replicates) -> Runs:
    train = lines.train

    def start(scale: Any) -> Any:
        return models.linear(2, scale=scale).init(lines.key)

    def fit(scale: jax.Array) -> tuple[Any, jax.Array]:
        order = lines.order[:EPOCHS]
        params = start(scale)
        result = common.fit_line(
            lines.key, LEARNING_RATE, train, params=params, validation=train, order=order, epochs=EPOCHS
        )
        return result.validation_loss, result.status

    def predict(scale: jax.Array) -> curvature.TrainingPrediction:
        return curvature.predict_training(
            RISK,
            start(scale),
            train,
            learning_rate=LEARNING_RATE,
            tolerance=TOLERANCE,
            steps_per_epoch=common.STEPS_PER_EPOCH,
        )

    prediction = jax.vmap(predict)(jnp.array(list(STARTS.values())))
    steps = common.STEPS_PER_EPOCH * jnp.arange(EPOCHS + 1)
    loss, status = jax.vmap(fit)(jnp.asarray(SCALES))
    above = loss - prediction.minimum_loss[0]
    zero = start(0.0)
    return Runs(
        loss,
        jax.vmap(training.epochs_to, (0, None))(above, TOLERANCE),
        status,
        prediction,
        jax.vmap(lambda one: one.loss(steps))(prediction),
        curvature.hessian(RISK, zero, train),
        ravel_pytree(curvature.gradient(RISK, zero, train))[0],
        ravel_pytree(start(1.0))[0],
    )


def _data(runs: Runs) -> dict[str, Any]:
    """For the knob: what the runs did, and of each seed what predicts them from any scale."""
    eigenvalues, vectors = np.linalg.eigh(runs.hessian.astype(float))
    slope, unit = (np.einsum("sij,si->sj", vectors, values) for values in (runs.slope, runs.unit))
    low, high = np.quantile(runs.measured, [0.05, 0.95], axis=0, method="nearest")
    return {
        "scales": SCALES,
        "loss": common.packed(np.quantile(runs.loss, [0.05, 0.5, 0.95], axis=0)),
        "needed": common.packed(np.stack([low, np.median(runs.measured, axis=0), high])),
        "seeds": len(runs.loss),
        "learning_rate": LEARNING_RATE,
        "tolerance": TOLERANCE,
        "steps": common.STEPS_PER_EPOCH,
        "minimum": common.packed(runs.prediction.minimum_loss[:, 0]),
        # Along each eigenvector: the curvature, the optimum, and the start of scale 1.
        "modes": common.packed(np.stack([eigenvalues, -slope / eigenvalues, unit], axis=-1)),
    }


if __name__ == "__main__":
    common.main(run, "initialisation")
