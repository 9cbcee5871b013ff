"""Which loss survives a corrupted row? The published runs, the influence of one target, clipping, and robust fits."""

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import _bad_row
import _common as common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _bad_row import CORRUPTIONS

import jaxreg
from jaxreg import data, losses, models, plots

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
INFLUENCE_SEEDS, SEEDS = 20, 100
MEMBERS = 400  # trained together
ROBUST_FITS = {  # kind and threshold, in units of a scale that is estimated from the residuals
    "least squares": _bad_row.SQUARED,
    "Huber from init": (_bad_row.HUBER, 1.345),
    "Tukey from init": (_bad_row.TUKEY, 4.685),
}


def run(settings: common.Settings) -> common.Answer:
    """Which loss survives a corrupted row? The published runs, one target, clipping, robust fits."""
    lines = common.line_replicates(settings)
    corrupted, start = _prepared(lines)
    published, clean = _published(lines, corrupted["leverage"])
    few = common.line_replicates(settings, min(settings.replicates, SEEDS))
    curves, failures = _influence(few)
    clipping, robust = _clipping(few), _robust(corrupted, start)
    turned = _bad_row.fits(settings.seed)

    with common.figure(settings, "losses_line") as ax:
        _bad_row.draw(turned, ax)
    error = "largest relative error of w and b"
    with common.figure(settings, "losses_influence") as ax:
        lost = {name: share >= 0.5 for name, share in failures.items()}
        labels = {"xlabel": "corrupted target y[5]", "ylabel": error}
        plots.lines(INFLUENCE, curves, failed=lost, xscale="log", yscale="log", **labels, ax=ax)
    with common.figure(settings, "losses_robust", size=(7.4, 4.6)) as ax:
        fitted = {(kind, name.split()[0]): found.error for (kind, name), found in robust.items() if "init" in name}
        groups = {
            f"{method}\n{kind}": (clipping | fitted)[kind, method]
            for kind, method in itertools.product(CORRUPTIONS, ("plain", "clipped", "Huber", "Tukey"))
        }
        plots.comparison(groups, ylabel=error, ax=ax)

    return common.Answer(
        header=("loss", *(f"error at y[5] = {value:g}" for value in INFLUENCE[::6]), "diverged at 1e6"),
        rows=[[name, *curves[name][::6], f"{100 * failures[name][-1]:.0f} %"] for name in LOSSES],
        knob=_bad_row.knob(turned),
        figures={
            "losses_line": "One bad target, y = 100, and the line that each loss finds.",
            "losses_influence": "Training with each loss: the final error against the corrupted target.",
            "losses_robust": (
                "Both corruptions: trained with the squared loss, plain and with the gradient clipped, and fitted with "
                "Huber's and Tukey's."
            ),
        },
        measured={
            "clean_validation_loss": {name: np.median(values, axis=0) for name, values in clean.items()},
            "influence": {"y5": INFLUENCE, "median_error": curves, "share_diverged": failures},
            "clipping": {
                f"{kind}, {method}": {
                    "share_within_1_percent": np.mean(values < 0.01),
                    "median_error": np.median(np.nan_to_num(values, nan=np.inf)),
                }
                for (kind, method), values in clipping.items()
            },
            "robust_fits": {
                f"{kind}, {name}": {
                    "share_within_1_percent": found.within,
                    "median_error": np.median(found.error),
                    "deviation_in_standard_errors": found.spread,
                }
                for (kind, name), found in robust.items()
            },
            "recovered_by_tukey": min(robust[kind, "Tukey from init"].within for kind in CORRUPTIONS),
            "squared_diverges": next(row["percentile"] for row in published if row["id"] == "squared_leverage") / 100,
            "one_feature": _bad_row.measured(turned),
        },
        published=published,
    )


@jax.jit
@jax.vmap
def _prepared(lines: common.Replicates) -> tuple[dict[str, data.Dataset], models.Params]:
    """Each seed's rows under both corruptions, and the model's own init."""
    corrupted = {kind: corrupt(lines.train, ROW, VALUE) for kind, corrupt in CORRUPTIONS.items()}
    return corrupted, common.LINE.init(lines.key)


def _published(lines: common.Replicates, leverage: data.Dataset) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The four published runs judged, and the validation losses on clean data of squared and absolute."""

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
        rows += common.judge_line(name, fit(name, loss, lines._replace(train=leverage)))
    epochs = common.published_run("absolute")["epochs"]
    return rows, {name: np.asarray(result.validation_loss)[:, :epochs] for name, result in side_by_side.items()}


def _influence(lines: common.Replicates) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """For each loss, the median final error and the share of the seeds that diverged, against the corrupted target."""
    curves, failures = {}, {}
    seeds = range(min(len(lines.train.y), INFLUENCE_SEEDS))
    members = [Member(*one) for one in itertools.product(seeds, INFLUENCE, [False], [np.inf])]
    for index, name in enumerate(LOSSES):
        error, failed = (leaf.reshape(len(seeds), -1) for leaf in _trained(lines, index, 0.3, members))
        curves[name], failures[name] = np.median(error, axis=0), failed.mean(axis=0)
    return curves, failures


def _clipping(lines: common.Replicates) -> dict[tuple[str, str], np.ndarray]:
    """Final errors of squared loss, the gradient of each minibatch clipped to length 1 or not; NaN if diverged."""
    seeds = range(len(lines.train.y))
    members = [Member(seed, VALUE, *how) for *how, seed in itertools.product([False, True], [np.inf, 1.0], seeds)]
    error, failed = _trained(lines, 0, 0.1, members)
    errors = np.where(failed, np.nan, error).reshape(-1, len(seeds))
    return dict(zip(itertools.product(CORRUPTIONS, ["plain", "clipped"]), errors, strict=True))


class Member(NamedTuple):
    """What is trained."""

    seed: Any
    value: Any  # the target of the bad row
    leverage: Any  # whether its features are bad too
    length: Any  # to which the gradient of a minibatch is clipped


def _trained(lines: common.Replicates, loss: int, rate: float, members: Iterable[Member]) -> Iterable[np.ndarray]:
    """Final errors of the members, and whether they diverged; as many at a time as one compilation serves."""
    asked = jax.tree.map(lambda *leaves: np.array(leaves), *members)
    found = _settled(lines, loss, rate, jax.tree.map(lambda leaf: np.resize(leaf, MEMBERS), asked))
    return (np.asarray(leaf)[: len(asked.seed)] for leaf in found)


@jax.jit
@partial(jax.vmap, in_axes=(None, None, None, 0))
def _settled(
    lines: common.Replicates, index: jax.Array, rate: jax.Array, member: Member
) -> tuple[jax.Array, jax.Array]:
    mine = jax.tree.map(lambda leaf: leaf[member.seed], lines)
    target, leverage = (corrupt(mine.train, ROW, member.value) for corrupt in CORRUPTIONS.values())

    def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
        # Chosen inside the program, so that one compilation serves all losses.
        return jax.lax.switch(index, list(LOSSES.values()), prediction, target)

    # The rate falls by a fifth each epoch, so that all losses come to rest.
    descent = optax.sgd(optax.exponential_decay(rate, common.STEPS_PER_EPOCH, 0.8))
    result = jaxreg.train(
        common.LINE,
        loss,
        jax.tree.map(partial(jnp.where, member.leverage), leverage, target),
        optimizer=optax.chain(optax.clip_by_global_norm(member.length), descent),
        epochs=common.MOST_EPOCHS,
        batch_size=common.BATCH_SIZE,
        key=mine.key,
        order=mine.order,
    )
    return common.relative_error(result.params), result.status != jaxreg.Status.OK


class RobustFits(NamedTuple):
    """Fits of the line to each seed's corrupted rows."""

    error: np.ndarray  # (seeds,), the largest relative error of w and b
    within: float  # share of the fits that converged with an error below 1 %
    spread: float  # root mean square of (estimate - truth) / standard error, 1 if the standard errors are right


def _robust(corrupted: Mapping[str, data.Dataset], start: models.Params) -> dict[tuple[str, str], RobustFits]:
    """Fits of the first seeds under both corruptions: ``ROBUST_FITS``, and Tukey's from least squares."""
    rows, init = jax.tree.map(lambda leaf: np.asarray(leaf[:SEEDS], float), (dict(corrupted), start))
    first = {(kind, name): (rows[kind], init, *how) for kind in CORRUPTIONS for name, how in ROBUST_FITS.items()}
    with jax.enable_x64(True):
        fits = _fits(first)
        squares = {kind: fits[kind, "least squares"].params for kind in CORRUPTIONS}
        tukey = ROBUST_FITS["Tukey from init"]
        fits |= _fits({(kind, "Tukey from least squares"): (rows[kind], squares[kind], *tukey) for kind in CORRUPTIONS})
    return {name: _judged(one) for name, one in fits.items()}


def _fits(asked: Mapping[tuple[str, str], tuple[Any, ...]]) -> dict[tuple[str, str], jaxreg.Fit]:
    """All seeds of the rows, start, kind and threshold that are asked for, fitted together."""
    (x, y, _), p0 = jax.tree.map(lambda *leaves: np.concatenate(leaves), *((one[0], one[1]) for one in asked.values()))
    kinds, thresholds = zip(*(one[2:] for one in asked.values()), strict=True)
    seeds = len(y) // len(asked)
    each = {"x": x, "y": y, "p0": p0, "kind": np.repeat(kinds, seeds), "delta": np.repeat(thresholds, seeds)}
    fits = _bad_row.fitted(common.LINE, each, scale="mad")
    return {name: fits[place * seeds : (place + 1) * seeds] for place, name in enumerate(asked)}


def _judged(fits: jaxreg.Fit) -> RobustFits:
    truth = np.append(common.TRUE_W, common.TRUE_B)
    found, errors = (np.column_stack([one["w"], one["b"]]) for one in (fits.params, fits.stderr))
    error = np.abs(found / truth - 1).max(axis=1)
    ended = fits.status == jaxreg.Status.OK
    spread = np.sqrt(np.nanmean(((found - truth) / errors) ** 2))
    return RobustFits(error, float(np.mean(ended & (error < 0.01))), float(spread))


if __name__ == "__main__":
    common.main(run, "losses")
