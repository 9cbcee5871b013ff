"""What becomes of the last, smaller minibatch? Its size, and the effect of keeping or dropping it."""

from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import batching, losses, plots

RUN = common.published_run("last_batch")
ROWS, EPOCHS = common.NUM_TRAIN, RUN["epochs"]
# Sizes that divide 1000 and others; 111, 333 and 999 leave a single row.
SIZES = np.array([8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 100, 111, 128, 200, 300, 333, 400, 500, 600, 999, 1000])
SEEDS = 200


def run(settings: common.Settings) -> common.Answer:
    """What becomes of the last, smaller minibatch? Its size, and the effect of keeping or dropping it."""
    lines = common.line_replicates(settings)
    sizes, loss = jax.tree.map(np.asarray, _measured(lines))
    published = [
        common.judge("last_batch", f"sizes_of_partial_batches[{epoch}]", size, [sizes[epoch]])
        for epoch, size in enumerate(RUN["sizes_of_partial_batches"])
    ]
    low, middle, high = np.quantile(loss, [0.05, 0.5, 0.95], axis=-1)
    ratio = np.quantile(loss[1] / loss[0], [0.05, 0.5, 0.95], axis=-1)
    own = int(np.argmax(SIZES == common.BATCH_SIZE))

    with common.figure(settings, "last_batch_loss") as ax:
        plots.lines(
            SIZES,
            {"kept": middle[0], "dropped": middle[1]},
            xlabel="batch size",
            ylabel=f"loss after {EPOCHS} epochs",
            xscale="log",
            yscale="log",
            ax=ax,
        )
    return common.Answer(
        measured={
            "sizes_of_partial_batches": sizes.tolist(),
            "median_loss_kept": middle[0, own],
            "median_loss_dropped": middle[1, own],
            "median_ratio": ratio[1, own],
            "share_of_seeds_where_keeping_is_better": np.mean(loss[0, own] < loss[1, own]),
            "seeds": loss.shape[-1],
            "batch_sizes": {"size": SIZES, "loss_kept": middle[0], "loss_dropped": middle[1], "ratio": ratio[1]},
        },
        knob=common.Knob(
            [
                common.Slider("size", "batch size", len(SIZES), own),
                common.Choice("remainder", "the rows left over", {"keep": "kept", "drop": "dropped"}),
            ],
            {
                "sizes": SIZES,
                "rows": ROWS,
                "epochs": EPOCHS,
                "learning_rate": RUN["learning_rate"],
                "seeds": loss.shape[-1],
                "loss": common.packed([low, middle, high]),
                "ratio": common.packed(ratio),
            },
            charts=3,
        ),
        figures={
            "last_batch_loss": f"Loss after {EPOCHS} epochs against the batch size, its last batch kept or dropped. A "
            "smaller batch means more steps per epoch; where the lines part, the size does not divide 1000."
        },
        header=("batch size", "last batch", "loss, kept", "5 %", "95 %", "loss, dropped", "dropped / kept"),
        rows=[
            [int(size), int(ROWS % size or size), *row]
            for size, *row in zip(SIZES, middle[0], low[0], high[0], middle[1], ratio[1], strict=True)
        ],
        published=published,
    )


@jax.jit
def _measured(lines: common.Replicates) -> tuple[jax.Array, jax.Array]:
    """The size of the last batch of each epoch, and ``final_losses`` of the first seeds."""
    plans = [batching.minibatches(order, common.BATCH_SIZE) for order in lines.order[0, :EPOCHS]]
    few = jax.tree.map(lambda leaf: leaf[:SEEDS], lines)
    return jnp.stack([plan.weights[-1].sum().astype(int) for plan in plans]), final_losses(few)


def final_losses(lines: common.Replicates) -> jax.Array:
    """The validation loss at the end, (kept or dropped, batch sizes, seeds).

    A batch size is a shape and so a program of its own, which compiles longer than it runs. Here one program takes all:
    row by row, the gradients of as many rows as a batch has gathered into one step.
    """

    def fit(dropped: jax.Array, size: jax.Array, lines: common.Replicates) -> jax.Array:
        steps, rest = ROWS // size, ROWS % size

        def is_last(step: jax.Array) -> jax.Array:
            return (rest > 0) & (step % (steps + 1) == steps)

        def rate(step: Any) -> jax.Array:  # what is dropped is a step of length zero
            return jnp.where(dropped & is_last(step), 0, RUN["learning_rate"])

        result = jaxreg.train(
            common.LINE,
            losses.squared,
            lines.train,
            optimizer=optax.MultiSteps(optax.sgd(rate), lambda step: jnp.where(is_last(step), rest, size)),
            epochs=EPOCHS,
            batch_size=1,
            key=lines.key,
            validation=lines.validation,
            order=lines.order[:EPOCHS],
        )
        assert result.validation_loss is not None
        return result.validation_loss[-1]

    over_seeds = jax.vmap(fit, (None, None, 0))
    over_sizes = jax.vmap(over_seeds, (None, 0, None))
    return jax.vmap(over_sizes, (0, None, None))(jnp.array([False, True]), jnp.asarray(SIZES), lines)


if __name__ == "__main__":
    common.main(run, "last_batch")
