"""What happens if predictions of shape (n, 1) meet targets of shape (n,)?"""

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import losses, objective, plots

LEARNING_RATE = 0.3
EPOCHS = 60


def run(settings: common.Settings) -> common.Answer:
    """What happens if predictions of shape (n, 1) meet targets of shape (n,)?"""
    train, _ = common.line_data(settings.keys(1)[0])
    one = _fit(settings.keys(1)[0], _unguarded)
    guarded = _fit(settings.keys(1)[0], losses.squared)
    try:
        losses.squared(common.LINE.apply(one.params, train.x)[:, None], train.y)
    except ValueError as error:
        message = str(error)
    else:
        raise AssertionError("the library's loss took shapes that differ")

    with common.figure(settings, "reshape_loss") as ax:
        plots.training(one, label="unguarded", index=1, ax=ax)
        plots.training(guarded, label="guarded", index=0, ax=ax)
    predictions = {
        "unguarded": common.LINE.apply(one.params, train.x),
        "guarded": common.LINE.apply(guarded.params, train.x),
    }
    with common.figure(settings, "reshape_predictions") as ax:
        plots.points(train.y, predictions, xlabel="target", ylabel="prediction", ax=ax)

    mean = float(train.y.mean())
    w, b = np.asarray(one.params["w"]), float(one.params["b"])
    largest = float(np.abs(w).max())
    return common.Answer(
        title="Reshape",
        question="What happens if predictions of shape (n, 1) meet targets of shape (n,)?",
        text=(
            "Left unguarded, every prediction is compared with every target. Training converges without a word to "
            f"|w| = {largest:.1g} and b = {b:.4f}, the mean of the targets ({mean:.4f}), and its loss stays at "
            f"{float(one.train_loss[-1]):.3g} where the guarded run reaches {float(guarded.train_loss[-1]):.2g}. The "
            f"library refuses: “{message}”."
        ),
        header=("loss", "w[0]", "w[1]", "b", "final loss"),
        rows=[
            ["unguarded", w[0], w[1], b, one.train_loss[-1]],
            ["guarded", *guarded.params["w"], guarded.params["b"], guarded.train_loss[-1]],
            ["mean of y", 0, 0, mean, "–"],
        ],
        figures={
            "reshape_loss": "Loss of full-batch training with the unguarded and the guarded loss.",
            "reshape_predictions": "Prediction against target at the end of both.",
        },
        measured={
            "unguarded": {"w": w, "b": b, "mean_of_targets": mean, "final_loss": one.train_loss[-1]},
            "guarded": {**guarded.params, "final_loss": guarded.train_loss[-1]},
            "within_0.05": bool(largest <= 0.05 and abs(b - mean) <= 0.05),
            "error": message,
        },
    )


def _fit(key: jax.Array, loss: objective.Loss) -> jaxreg.Training:
    """Full-batch gradient descent on the exercises' line."""
    train, _ = common.line_data(key)
    return jaxreg.train(
        common.LINE,
        loss,
        train,
        optimizer=optax.sgd(LEARNING_RATE),
        epochs=EPOCHS,
        batch_size=common.NUM_TRAIN,
        key=key,
        validation=train,
    )


def _unguarded(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The mean over all (n, n) pairs, given to every row: what broadcasting (n, 1) against (n,) does."""
    pairs = (prediction[:, None] - target) ** 2 / 2
    return jnp.full_like(target, pairs.mean())


if __name__ == "__main__":
    common.main(run, "reshape")
