"""Does it matter where gradient descent starts? Four inits, the epochs they need predicted and measured."""

import _common as common
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from jaxreg import curvature, losses, models, plots, training

STARTS = {"sd 0.01": 0.01, "zero": 0.0, "sd 1000": 1000.0, "variance 1000": 1000.0**0.5}
LEARNING_RATE = 0.03
EPOCHS = 16
TOLERANCE = 1e-4  # excess loss above the minimum, twice the loss of the noise


def run(settings: common.Settings) -> common.Answer:
    """Does it matter where gradient descent starts? Four inits, the epochs they need predicted and measured."""
    scales = jnp.array(list(STARTS.values()))
    result, prediction, curve, measured = jax.jit(jax.vmap(jax.vmap(_member, (None, 0)), (0, None)))(
        scales, common.line_replicates(settings)
    )
    predicted, measured = np.asarray(prediction.epochs), np.asarray(measured)

    with common.figure(settings, "initialisation") as ax:
        plots.loss_curves(
            np.arange(1, EPOCHS + 1),
            dict(zip(STARTS, np.asarray(result.validation_loss), strict=True)),
            predicted=dict(zip(STARTS, np.median(np.asarray(curve), axis=1), strict=True)),
            ylabel="loss over the training rows",
            ax=ax,
        )

    after_three = np.median(np.asarray(result.validation_loss)[:, :, 2], axis=1)
    rows = [
        [name, loss, np.median(expected), np.median(found), *np.nanpercentile(found, [5, 95])]
        for name, loss, expected, found in zip(STARTS, after_three, predicted, measured, strict=True)
    ]
    error = np.abs(measured / predicted - 1)
    zero, huge = rows[1], rows[2]
    return common.Answer(
        title="Initialisation",
        question="Does training work from zero, and how long does a start a thousand units away need?",
        text=(
            f"Zero works: the loss is convex, and its runs end as those from sd 0.01 do ({zero[3]:.2f} epochs to an "
            f"excess loss of {TOLERANCE:g}). A start of standard deviation 1000 only costs time: the Hessian's "
            f"eigenvalues predict {huge[2]:.2f} epochs before the run, and {huge[3]:.2f} are measured. Over all "
            f"starts and seeds the prediction misses by {100 * np.nanmedian(error):.1f} % in the median."
        ),
        header=("start", "loss after 3 epochs", "epochs predicted", "epochs measured", "5 %", "95 %"),
        rows=rows,
        figures={
            "initialisation": "Loss over the training rows for four starts (median, 90 % of the seeds) and the "
            "prediction."
        },
        measured={
            "tolerance": TOLERANCE,
            "learning_rate": LEARNING_RATE,
            "starts": {
                row[0]: dict(
                    zip(
                        ("loss_after_3_epochs", "epochs_predicted", "epochs_measured", "low", "high"),
                        row[1:],
                        strict=True,
                    )
                )
                for row in rows
            },
            "median_relative_error_of_prediction": np.nanmedian(error),
            "diverged": np.count_nonzero(np.asarray(result.status)),
        },
    )


def _member(
    scale: jax.Array, lines: common.Replicates
) -> tuple[jaxreg.Training, curvature.TrainingPrediction, jax.Array, jax.Array]:
    train = lines.train
    params = models.linear(2, scale=scale).init(lines.key)
    risk = jaxreg.empirical_risk(common.LINE, losses.squared)
    prediction = curvature.predict_training(
        risk,
        params,
        train,
        learning_rate=LEARNING_RATE,
        tolerance=TOLERANCE,
        steps_per_epoch=common.STEPS_PER_EPOCH,
    )
    order = lines.order[:EPOCHS]
    result = common.fit_line(
        lines.key, LEARNING_RATE, train, params=params, validation=train, order=order, epochs=EPOCHS
    )
    assert result.validation_loss is not None
    measured = training.epochs_to(result.validation_loss - prediction.minimum_loss, TOLERANCE)
    return result, prediction, prediction.loss(common.STEPS_PER_EPOCH * jnp.arange(1, EPOCHS + 1)), measured


if __name__ == "__main__":
    common.main(run, "initialisation")
