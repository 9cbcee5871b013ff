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


def run(settings: common.Settings) -> common.Answer:
    """What is the resistance? A line with a bias by gradient descent, as published, and V = I·R by least squares."""
    rows, trained = jax.jit(jax.vmap(_member))(settings.keys())
    fitted = jaxreg.fit_many(OHM, rows.x, rows.y)
    published = common.judge_line("ohm", trained)
    slope = common.line_parameters(trained)["w[0]"]
    estimate, stderr = fitted.params["resistance"], fitted.stderr["resistance"]
    covered = np.mean(np.abs(estimate - RESISTANCE) <= 1.96 * stderr)
    jaxreg.raise_if_failed(fitted)

    one = fitted[0]
    resistance, error = float(one.params["resistance"]), float(one.stderr["resistance"])
    with common.figure(settings, "ohm_fit") as ax:
        plots.curve(one, xlabel="current / A", ylabel="voltage / V", ax=ax)
    with common.figure(settings, "ohm_published") as ax:
        plots.distribution(
            slope,
            marks={"published": RUN["w"][0], "truth": RESISTANCE},
            xlabel="resistance by gradient descent / Ω",
            ax=ax,
        )

    table = [
        ["line, SGD, 3 epochs", np.mean(slope), np.std(slope), "–"],
        ["V = I·R, least squares", np.mean(estimate), np.std(estimate), np.mean(stderr)],
    ]
    return common.Answer(
        title="Ohm's law",
        question="What is the resistance behind 1000 pairs of current and voltage, and how well is it known?",
        text=(
            f"Three epochs of gradient descent stop short of it, at {np.mean(slope):.2f} Ω in the mean of "
            f"{settings.replicates} data sets; the published 4.80 Ω is one such draw. Least squares with the one "
            f"parameter that physics asks for gives {resistance:.3f} ± {error:.3f} Ω (true: {RESISTANCE}); its "
            f"interval of 95 %, here {resistance - 1.96 * error:.3f} to {resistance + 1.96 * error:.3f} Ω, holds the "
            f"truth in {100 * covered:.1f} % of the data sets."
        ),
        header=("procedure", "mean / Ω", "spread / Ω", "standard error / Ω"),
        rows=table,
        figures={
            "ohm_fit": f"One data set, the fitted law and its 95 % band (±{3 * 1.96 * error:.2f} V at 3 A).",
            "ohm_published": "The published procedure over all seeds.",
        },
        measured={
            "resistance": resistance,
            "stderr": error,
            "interval": [resistance - 1.96 * error, resistance + 1.96 * error],
            "coverage_of_95_percent_interval": covered,
            "least_squares": {"mean": np.mean(estimate), "spread": np.std(estimate), "mean_stderr": np.mean(stderr)},
            "gradient_descent": {"mean": np.mean(slope), "spread": np.std(slope)},
        },
        published=published,
    )


def _member(key: jax.Array) -> tuple[data.Dataset, jaxreg.Training]:
    key_data, key_train = jax.random.split(key)
    rows = data.ohm(key_data, common.NUM_TRAIN, RESISTANCE, noise=NOISE)
    trained = jaxreg.train(
        LINE,
        losses.squared,
        rows._replace(x=rows.x[:, None]),
        optimizer=optax.sgd(RUN["learning_rate"]),
        epochs=RUN["epochs"],
        batch_size=common.BATCH_SIZE,
        key=key_train,
    )
    return rows, trained


if __name__ == "__main__":
    common.main(run, "ohm")
