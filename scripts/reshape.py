"""What happens if predictions of shape (n, 1) meet targets of shape (n,)?"""

from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import data, losses, models, objective, plots

LEARNING_RATE = 0.3
EPOCHS = 60
TABLE_ROWS, SHOWN_ROWS = 24, 200  # of the table of losses, and of predictions against targets


def run(settings: common.Settings) -> common.Answer:
    """What happens if predictions of shape (n, 1) meet targets of shape (n,)?"""
    key = settings.keys(1)[0]
    (train, _), start = common.line_data(key), common.LINE.init(jax.random.split(key)[0])
    runs = {"guarded": _fit(train, start, losses.squared), "unguarded": _fit(train, start, _unguarded)}
    predictions = {name: common.LINE.apply(one.params, train.x) for name, one in runs.items()}
    try:
        losses.squared(predictions["guarded"][:, None], train.y)
    except ValueError as error:
        message = str(error)
    else:
        raise AssertionError("the library's loss took shapes that differ")

    with common.figure(settings, "reshape_predictions") as ax:
        plots.points(train.y, predictions, xlabel="target", ylabel="prediction", ax=ax)
    with common.figure(settings, "reshape_loss") as ax:
        steps = np.arange(EPOCHS)
        series = {name: one.train_loss for name, one in runs.items()}
        plots.lines(steps, series, xlabel="epoch", ylabel="loss", yscale="log", ax=ax)

    found: dict[str, dict[str, Any]] = {
        name: {"w": one.params["w"], "b": one.params["b"], "final_loss": one.train_loss[-1]}
        for name, one in runs.items()
    }
    mean, largest = float(train.y.mean()), float(np.abs(found["unguarded"]["w"]).max())
    return common.Answer(
        measured={
            "unguarded": {**found["unguarded"], "mean_of_targets": mean},
            "guarded": {**found["guarded"], "loss_of_all_pairs": _unguarded(predictions["guarded"], train.y)[0]},
            "within_0.05": bool(largest <= 0.05 and abs(found["unguarded"]["b"] - mean) <= 0.05),
            "error": message,
        },
        knob=common.Knob(
            [
                common.Slider("epoch", "epochs of training", EPOCHS + 1, EPOCHS),
                common.Choice("run", "table of the run", {"unguarded": "unguarded", "guarded": "guarded"}),
            ],
            _knob_data(train, start, runs),
            charts=2,
        ),
        figures={
            "reshape_predictions": (
                f"After {EPOCHS} epochs: compared row by row, predictions equal their targets (the diagonal); compared "
                "all with all, each is the mean of the targets."
            ),
            "reshape_loss": "Both losses fall, and neither run warns: the guarded and the unguarded one, on all rows.",
        },
        header=("loss", "w[0]", "w[1]", "b", "final loss"),
        rows=[
            *([name, *one["w"], one["b"], one["final_loss"]] for name, one in found.items()),
            ["mean of y", 0, 0, mean, "–"],
        ],
    )


def _knob_data(train: data.Dataset, start: models.Params, runs: dict[str, jaxreg.Training]) -> dict[str, Any]:
    """Both losses are quadratics: mean products of the columns [x…, 1, y] and the start give all steps."""
    columns = np.column_stack([train.x, np.ones(len(train.y)), train.y]).astype(float)
    return {
        "products": columns.T @ columns / len(columns),
        "start": np.append(start["w"], start["b"]).astype(float),
        "rate": LEARNING_RATE,
        "loss": {name: one.train_loss for name, one in runs.items()},
        "x": common.packed(train.x[:SHOWN_ROWS]),
        "y": common.packed(train.y[:SHOWN_ROWS]),
        "table_rows": TABLE_ROWS,
    }


def _fit(train: data.Dataset, start: models.Params, loss: objective.Loss) -> jaxreg.Training:
    """Full-batch gradient descent on the exercises' line."""
    return jaxreg.train(
        common.LINE,
        loss,
        train,
        optimizer=optax.sgd(LEARNING_RATE),
        epochs=EPOCHS,
        batch_size=common.NUM_TRAIN,
        key=jax.random.key(0),  # nothing is drawn: the start is given, and a batch has all rows
        params=start,
        order="sequential",
    )


def _unguarded(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The mean over all (n, n) pairs, given to every row: what broadcasting (n, 1) against (n,) does."""
    pairs = (prediction[:, None] - target) ** 2 / 2
    return jnp.full_like(target, pairs.mean())


if __name__ == "__main__":
    common.main(run, "reshape")
