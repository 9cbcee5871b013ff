"""What is the resistance? A line with a bias by gradient descent, as published, and V = I·R by least squares."""

import _common as common
import jax
import numpy as np
import optax

import jaxreg
from jaxreg import data, losses, models, plots

RUN = common.published_run("ohm")
RESISTANCE, NOISE = RUN["true_w"][0], RUN["noise"]
LINE = models.linear(1)
OHM = models.ohm()
SHOWN, POINTS = 100, 150  # data sets behind the knob, and rows of each that are drawn
WITHIN = 1.96  # standard errors to either side hold 95 %
EDGES = np.linspace(2.8, 5.4, 131)  # of the bars


def run(settings: common.Settings) -> common.Answer:
    """What is the resistance? A line with a bias by gradient descent, as published, and V = I·R by least squares."""
    rows, epochs = jax.tree.map(np.asarray, _members(settings.keys(), common.line_replicates(settings)))
    fitted = jaxreg.fit_many(OHM, rows.x, rows.y)
    published_epoch = RUN["epochs"] - 1
    published = common.judge_line("ohm", jax.tree.map(lambda leaf: leaf[:, published_epoch], epochs))
    slopes, biases = np.asarray(epochs.params["w"])[..., 0], np.asarray(epochs.params["b"])
    slope, mean, spread = slopes[:, published_epoch], slopes.mean(axis=0), slopes.std(axis=0)
    predicted = RESISTANCE * (1 - (1 - RUN["learning_rate"]) ** (common.STEPS_PER_EPOCH * np.arange(1, len(mean) + 1)))
    estimate, stderr = np.asarray(fitted.params["resistance"]), np.asarray(fitted.stderr["resistance"])
    jaxreg.raise_if_failed(fitted)

    resistance, error = float(estimate[0]), float(stderr[0])
    with common.figure(settings, "ohm_fit") as ax:
        plots.curve(fitted[0], xlabel="current / A", ylabel="voltage / V", ax=ax)
    with common.figure(settings, "ohm_published") as ax:
        plots.distribution(
            slope,
            marks={"published": RUN["w"][0], "truth": RESISTANCE},
            xlabel="resistance by gradient descent / Ω",
            ax=ax,
        )

    return common.Answer(
        measured={
            "resistance": resistance,
            "stderr": error,
            "interval": [resistance - WITHIN * error, resistance + WITHIN * error],
            "coverage_of_95_percent_interval": np.mean(_held(fitted)),
            "least_squares": {"mean": np.mean(estimate), "spread": np.std(estimate), "mean_stderr": np.mean(stderr)},
            "gradient_descent": {
                "mean": mean[published_epoch],
                "spread": spread[published_epoch],
                "predicted": predicted[published_epoch],
            },
            "gradient_descent_after_20_epochs": {"mean": mean[-1], "spread": spread[-1]},
        },
        knob=_knob(rows, fitted, slopes, biases),
        figures={
            "ohm_published": f"{settings.replicates} data sets, each trained for {RUN['epochs']} epochs as published: "
            "they stop short of the truth.",
            "ohm_fit": f"One data set, its least squares and their 95 % band (±{3 * WITHIN * error:.2f} V at 3 A).",
        },
        header=("procedure", "mean / Ω", "spread / Ω", "standard error / Ω"),
        rows=[
            *(
                [f"line, gradient descent, {count} epochs", mean[count - 1], spread[count - 1], "–"]
                for count in (RUN["epochs"], len(mean))
            ),
            ["V = I·R, least squares", np.mean(estimate), np.std(estimate), np.mean(stderr)],
        ],
        published=published,
    )


def _knob(rows: data.Dataset, fitted: jaxreg.Fit, slopes: np.ndarray, biases: np.ndarray) -> common.Knob:
    """All data sets as bars, the first of them one by one; slopes and biases are (data sets, epochs)."""
    estimate, stderr = np.asarray(fitted.params["resistance"]), np.asarray(fitted.stderr["resistance"])
    return common.Knob(
        [
            common.Slider("epochs", "epochs of gradient descent", slopes.shape[1], RUN["epochs"] - 1),
            common.Slider("set", "data set", len(estimate[:SHOWN]), 0),
        ],
        {
            "truth": RESISTANCE,
            "published": RUN["w"][0],
            "after": RUN["epochs"],
            "rate": RUN["learning_rate"],
            "steps": common.STEPS_PER_EPOCH,
            "within": WITHIN,
            "edges": EDGES,
            "bars": [np.histogram(values, EDGES)[0] for values in (estimate, *slopes.T)],
            "mean": slopes.mean(axis=0),
            "held": int(_held(fitted).sum()),
            "replicates": len(estimate),
            "estimate": estimate[:SHOWN],
            "stderr": stderr[:SHOWN],
            "lines": common.packed(np.stack([slopes, biases], axis=-1)[:SHOWN]),
            "points": common.packed(np.stack([rows.x, rows.y], axis=1)[:SHOWN, :, :POINTS]),
        },
        charts=3,
    )


def _held(fitted: jaxreg.Fit) -> np.ndarray:
    """Whether the 95 % interval of each data set holds the truth."""
    distance = np.asarray(fitted.params["resistance"]) - RESISTANCE
    return np.abs(distance) <= WITHIN * np.asarray(fitted.stderr["resistance"])


@jax.jit
@jax.vmap
def _members(key: jax.Array, line: common.Replicates) -> tuple[data.Dataset, jaxreg.Training]:
    """A data set, and its training epoch by epoch: what one call with all epochs gives, with the parameters between.

    The rows come in the orders that are there for the line, which are those that ``train`` would draw from the key.
    """
    rows = data.ohm(jax.random.split(key)[0], common.NUM_TRAIN, RESISTANCE, noise=NOISE)

    def epoch(params: models.Params, order: jax.Array) -> tuple[models.Params, jaxreg.Training]:
        trained = jaxreg.train(
            LINE,
            losses.squared,
            rows._replace(x=rows.x[:, None]),
            optimizer=optax.sgd(RUN["learning_rate"]),
            epochs=1,
            batch_size=common.BATCH_SIZE,
            key=line.key,
            params=params,
            order=order,
        )
        return trained.params, trained

    return rows, jax.lax.scan(epoch, LINE.init(jax.random.split(line.key)[0]), line.order)[1]


if __name__ == "__main__":
    common.main(run, "ohm")
