"""What becomes of the last, smaller minibatch? Its size, and the effect of keeping or dropping it."""

import _common as common
import numpy as np

from jaxreg import batching, plots

RUN = common.published_run("last_batch")


def run(settings: common.Settings) -> common.Answer:
    """What becomes of the last, smaller minibatch? Its size, and the effect of keeping or dropping it."""
    lines = common.line_replicates(settings)
    plans = [batching.minibatches(order, common.BATCH_SIZE) for order in np.asarray(lines.order[0])[: RUN["epochs"]]]
    sizes = [int(plan.weights[-1].sum()) for plan in plans]
    published = [
        common.judge("last_batch", f"sizes_of_partial_batches[{epoch}]", size, [sizes[epoch]])
        for epoch, size in enumerate(RUN["sizes_of_partial_batches"])
    ]
    kept, dropped = (_loss(lines, **options) for options in ({}, {"remainder": "drop"}))
    ratio = dropped / kept
    fewer = 1 - common.NUM_TRAIN // common.BATCH_SIZE / common.STEPS_PER_EPOCH
    better = np.mean(kept < dropped)

    with common.figure(settings, "last_batch_loss") as ax:
        groups = {"kept (32 steps)": kept, "dropped (31 steps)": dropped}
        plots.comparison(groups, ylabel="validation loss after 3 epochs", ax=ax)
    with common.figure(settings, "last_batch_ratio") as ax:
        plots.distribution(ratio, marks={"no difference": 1.0}, xlabel="loss, dropped / kept, same seed", ax=ax)
    return common.Answer(
        title="The last batch",
        question="1000 rows do not divide by 32: what becomes of the rest, and does it matter?",
        text=(
            f"Each epoch ends with a batch of {sizes[0]} rows. Kept, it is one more step, with a mean over its own "
            f"rows; dropped, an epoch has {100 * fewer:.1f} % fewer steps. At 3 epochs, with the loss still falling, "
            f"the loss of the same seed is {np.median(ratio):.3f} times as large without it (median), and keeping it "
            f"is better in {100 * better:.0f} % of the seeds."
        ),
        header=("remainder", "steps per epoch", "loss: median", "5 %", "95 %"),
        rows=[
            ["kept", 32, np.median(kept), *np.percentile(kept, [5, 95])],
            ["dropped", 31, np.median(dropped), *np.percentile(dropped, [5, 95])],
        ],
        figures={
            "last_batch_loss": "Validation loss with the last batch kept and dropped.",
            "last_batch_ratio": "Their ratio, seed by seed.",
        },
        measured={
            "sizes_of_partial_batches": sizes,
            "median_loss_kept": np.median(kept),
            "median_loss_dropped": np.median(dropped),
            "median_ratio": np.median(ratio),
            "share_of_seeds_where_keeping_is_better": better,
        },
        published=published,
    )


def _loss(lines: common.Replicates, **options: str) -> np.ndarray:
    """The validation loss at the end, NaN for what diverged."""
    result = common.fit_lines(lines, RUN["learning_rate"], epochs=RUN["epochs"], **options)
    return np.asarray(result.validation_loss)[:, -1]


if __name__ == "__main__":
    common.main(run, "last_batch")
