"""Which loss survives a corrupted row? The published runs, the influence of one target, clipping, and robust fits."""

import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import data, losses, plots

ROW, VALUE = 5, 10000.0
LOSSES: dict[str, Any] = {
    "squared": losses.squared,
    "absolute": losses.absolute,
    "Huber, δ = 1": losses.huber,
    "pseudo-Huber, δ = 1": losses.pseudo_huber,
    "log-cosh": losses.log_cosh,
    "quantile, q = 0.5": losses.quantile,
    "Cauchy, δ = 1": losses.cauchy,
    "Tukey, δ = 20": partial(losses.tukey, delta=20.0),
}
INFLUENCE = np.geomspace(1.0, 1e6, 19, dtype=np.float32)
INFLUENCE_SEEDS = 20
CORRUPTIONS = {"target": data.corrupt_target, "leverage": data.corrupt_leverage}
ROBUST_SEEDS = 100


HUBER, TUKEY = 1.0, 2.0


def huber_or_tukey(prediction: jax.Array, target: jax.Array, *, kind: jax.typing.ArrayLike) -> jax.Array:
    """Either loss with its usual threshold, chosen inside the program, so that one compilation serves both."""
    huber = losses.huber(prediction, target, delta=1.345)
    return jnp.where(jnp.asarray(kind) == TUKEY, losses.tukey(prediction, target), huber)


ROBUST_FITS: dict[str, tuple[Any, str]] = {  # loss and start; thresholds are in units of an estimated scale
    "least squares": ("squared", "its own"),
    "Huber from init": (partial(huber_or_tukey, kind=HUBER), "init"),
    "Tukey from least squares": (partial(huber_or_tukey, kind=TUKEY), "least squares"),
    "Tukey from init": (partial(huber_or_tukey, kind=TUKEY), "init"),
}


def run(settings: common.Settings) -> common.Answer:
    """Which loss survives a corrupted row? The published runs, one target, clipping, robust fits."""
    published, clean = _published(settings)
    squared, absolute = (np.median(np.asarray(clean[name]), axis=0) for name in ("squared", "absolute"))

    lines = common.line_replicates(settings, min(settings.replicates, INFLUENCE_SEEDS))
    curves, failures = {}, {}
    influence = jax.jit(_influence)
    for index, name in enumerate(LOSSES):
        error, failed = influence(index, lines)
        curves[name], failures[name] = np.median(np.asarray(error), axis=0), np.asarray(failed).mean(axis=0)
    clipping = _clipping(settings)
    robust = _robust(settings)

    with common.figure(settings, "losses_clean") as ax:
        plots.loss_curves(np.arange(1, 4), clean, ylabel="validation loss, each its own", ax=ax)
    with common.figure(settings, "losses_influence") as ax:
        lost = {name: share >= 0.5 for name, share in failures.items()}
        labels = {"xlabel": "corrupted target y[5]", "ylabel": "largest relative error of w and b"}
        plots.lines(INFLUENCE, curves, failed=lost, xscale="log", yscale="log", **labels, ax=ax)
    with common.figure(settings, "losses_clipping") as ax:
        groups = {f"{kind},\n{method}": values for (kind, method), values in clipping.items()}
        plots.comparison(groups, ylabel="largest relative error of w and b", ax=ax)

    with common.figure(settings, "losses_robust") as ax:
        shown = {name: found.error for name, found in robust.items() if name[1] != "least squares"}
        groups = {textwrap.fill(f"{kind}: {name}", 9): error for (kind, name), error in shown.items()}
        plots.comparison(groups, ylabel="largest relative error of w and b", ax=ax)

    mended = {label: float(np.mean(values < 0.01)) for label, values in clipping.items()}
    medians = {label: float(np.median(np.nan_to_num(values, nan=np.inf))) for label, values in clipping.items()}
    diverged = next(row["percentile"] for row in published if row["id"] == "squared_leverage")
    last = {name: curve[-1] for name, curve in curves.items()}
    return common.Answer(
        title="Losses",
        question="Which loss survives one corrupted row, and is clipping the gradient enough?",
        text=(
            f"With y[5] = 10⁶ the squared loss ends with an error of {last['squared']:.3g}, Huber's with "
            f"{last['Huber, δ = 1']:.2g}; row 5 scaled to high leverage makes the squared loss diverge in "
            f"{diverged:.0f} % of the seeds. Clipping the gradient stops that, but mends the fit to 1 % in "
            f"{100 * mended['target', 'clipped']:.0f} % of the seeds with the corrupted target and in "
            f"{100 * mended['leverage', 'clipped']:.0f} % with the leverage point, whose bounded pull still points the "
            "wrong way. A loss that lets go of what is far off, Tukey's with a scale estimated from the residuals and "
            f"the model's own init for a start, does so in {_percent(robust['target', 'Tukey from init'].within)} and "
            f"{_percent(robust['leverage', 'Tukey from init'].within)} with standard errors that stay right (its "
            "errors "
            f"are {robust['leverage', 'Tukey from init'].spread:.2f} of them in the root mean square); Huber's "
            f"({_percent(robust['leverage', 'Huber from init'].within)}) and a start at least squares "
            f"({_percent(robust['leverage', 'Tukey from least squares'].within)}) fail at the leverage point."
        ),
        header=("loss", *(f"error at y[5] = {value:g}" for value in INFLUENCE[::6]), "diverged at 1e6"),
        rows=[[name, *curves[name][::6], f"{100 * failures[name][-1]:.0f} %"] for name in LOSSES],
        figures={
            "losses_clean": "Squared and absolute loss side by side on clean data, learning rate 0.01.",
            "losses_influence": "Influence curves: the final error against the corrupted target.",
            "losses_clipping": "Plain and clipped training under both corruptions (squared loss, decaying rate).",
            "losses_robust": "Robust fits under both corruptions, with a scale estimated from the residuals.",
        },
        measured={
            "clean_validation_loss": {"squared": squared, "absolute": absolute},
            "influence": {"y5": INFLUENCE, "median_error": curves, "share_diverged": failures},
            "clipping": {
                f"{kind}, {method}": {
                    "share_within_1_percent": mended[kind, method],
                    "median_error": medians[kind, method],
                }
                for kind, method in clipping
            },
            "robust_fits": {
                f"{kind}, {name}": {
                    "share_within_1_percent": found.within,
                    "median_error": np.median(found.error),
                    "deviation_in_standard_errors": found.spread,
                }
                for (kind, name), found in robust.items()
            },
        },
        published=published,
    )


def _published(settings: common.Settings) -> tuple[list[dict[str, Any]], dict[str, jax.Array]]:
    """The four published runs judged, and the validation losses on clean data of squared and absolute."""
    lines = common.line_replicates(settings)
    corrupted = lines._replace(train=_corrupted(data.corrupt_leverage, lines.train))

    def fit(name: str, loss: Any, lines: common.Replicates) -> jaxreg.Training:
        run = common.published_run(name)
        reduction = run["loss"].split(", ")[1]
        return common.fit_lines(lines, run["learning_rate"], loss=loss, epochs=run["epochs"], reduction=reduction)

    side_by_side = {
        "squared": fit("squared_leverage", losses.squared, lines),
        "absolute": fit("absolute", losses.absolute, lines),
    }
    rows = common.judge_line("absolute", side_by_side["absolute"])
    for loss in (losses.absolute, losses.squared, losses.huber):
        name = f"{loss.__name__}_leverage"
        rows += common.judge_line(name, fit(name, loss, corrupted))
    epochs = common.published_run("absolute")["epochs"]
    return rows, {name: jnp.asarray(result.validation_loss)[:, :epochs] for name, result in side_by_side.items()}


@partial(jax.jit, static_argnums=0)
def _corrupted(corrupt: Callable[..., data.Dataset], train: data.Dataset) -> data.Dataset:
    """The data sets (seeds, …) with one bad row each."""
    return jax.vmap(partial(corrupt, row=ROW, value=VALUE))(train)


def _influence(index: jax.Array, lines: common.Replicates) -> tuple[jax.Array, jax.Array]:
    """Final error and divergence (seeds, values) with the target of row 5 corrupted, for one of the losses."""

    def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
        # Chosen inside the program, so that one compilation serves all losses.
        return jax.lax.switch(index, list(LOSSES.values()), prediction, target)

    def member(value: jax.Array, lines: common.Replicates) -> jaxreg.Training:
        train = data.corrupt_target(lines.train, ROW, value)
        return _settle(lines, train, optax.sgd(_decay(0.3)), loss)

    result = jax.vmap(jax.vmap(member, (0, None)), (None, 0))(jnp.asarray(INFLUENCE), lines)
    return common.relative_error(result.params), result.status != jaxreg.Status.OK


def _clipping(settings: common.Settings) -> dict[tuple[str, str], np.ndarray]:
    """Final errors of squared loss, the gradient of each minibatch clipped to length 1 or not; NaN if diverged."""
    lines = common.line_replicates(settings, min(settings.replicates, 100))
    fit = jax.jit(jax.vmap(_clipped_error, (None, 0, 0)))
    errors = {}
    for kind, corrupt in CORRUPTIONS.items():
        train = _corrupted(corrupt, lines.train)
        for method, length in {"plain": np.inf, "clipped": 1.0}.items():
            errors[kind, method] = np.asarray(fit(length, lines, train))
    return errors


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


class RobustFits(NamedTuple):
    """Fits of the line to each seed's corrupted rows."""

    error: np.ndarray  # (seeds,), the largest relative error of w and b
    within: float  # share of the fits that converged with an error below 1 %
    spread: float  # root mean square of (estimate - truth) / standard error, 1 if the standard errors are right


def _robust(settings: common.Settings) -> dict[tuple[str, str], RobustFits]:
    """Fits of all seeds under both corruptions, by each of ``ROBUST_FITS``."""
    lines = common.line_replicates(settings, min(settings.replicates, ROBUST_SEEDS))
    inits = jax.jit(jax.vmap(common.LINE.init))(lines.key)
    found = {}
    with jax.enable_x64(True):
        for kind, corrupt in CORRUPTIONS.items():
            rows = _corrupted(corrupt, lines.train)
            x, y = np.asarray(rows.x, float), np.asarray(rows.y, float)
            starts = {"its own": None, "init": jax.tree.map(lambda leaf: np.asarray(leaf, float), inits)}
            for name, (loss, start) in ROBUST_FITS.items():
                p0, scale = starts[start], None if loss == "squared" else "mad"
                fits = jaxreg.fit_many(
                    common.LINE, x, y, p0, p0_each=p0 is not None, loss=loss, scale=scale, residuals=False
                )
                found[kind, name] = _judged(fits)
                if loss == "squared":
                    starts["least squares"] = fits.params
    return found


def _judged(fits: jaxreg.Fit) -> RobustFits:
    error = np.asarray(common.relative_error(fits.params))
    truth = {"w": common.TRUE_W, "b": common.TRUE_B}
    deviations = [np.ravel((fits.params[name] - truth[name]) / fits.stderr[name]) for name in truth]
    ended = fits.status == jaxreg.Status.OK
    return RobustFits(
        error, float(np.mean(ended & (error < 0.01))), float(np.sqrt(np.nanmean(np.concatenate(deviations) ** 2)))
    )


def _clipped_error(length: jax.Array, lines: common.Replicates, train: data.Dataset) -> jax.Array:
    optimizer = optax.chain(optax.clip_by_global_norm(length), optax.sgd(_decay(0.1)))
    result = _settle(lines, train, optimizer, losses.squared)
    return jnp.where(result.status == jaxreg.Status.OK, common.relative_error(result.params), jnp.nan)


def _decay(rate: float) -> optax.Schedule:
    """A learning rate that falls by a fifth each epoch, so that all losses come to rest."""
    return optax.exponential_decay(rate, common.STEPS_PER_EPOCH, 0.8)


def _settle(
    lines: common.Replicates, train: data.Dataset, optimizer: optax.GradientTransformation, loss: Any
) -> jaxreg.Training:
    return jaxreg.train(
        common.LINE,
        loss,
        train,
        optimizer=optimizer,
        epochs=common.MOST_EPOCHS,
        batch_size=common.BATCH_SIZE,
        key=lines.key,
        order=lines.order,
    )


if __name__ == "__main__":
    common.main(run, "losses")
