"""How hot is it? A temperature from a spectrum: as published, properly with its gain, and from the real sky."""

from functools import partial
from typing import Any

import _common as common
import _firas
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import batching, data, losses, models, plots

RUN = common.published_run("planck")
TRUTH, START, EPOCHS = RUN["true_temperature"], RUN["initial_temperature"], RUN["epochs"]
FIRST, LAST, STEP = RUN["wavelength_nm"]
NUM_TRAIN = 1000  # of the wavelengths: the published run's
PUBLISHED_MODEL = models.planck(temperature=START)
MODEL = models.planck(gain=True)
NOISE = 0.01
SHOWN = (4000.0, 5000.0)
STARTS, NUM_STARTS = (300.0, 50000.0), 50
KELVINS, GAINS = np.arange(2900, 6101, 20), np.arange(500, 2001, 5) / 1000  # of the knob


def run(settings: common.Settings) -> common.Answer:
    """How hot is it? A temperature from a spectrum: as published, properly with its gain, and from the real sky."""
    with jax.enable_x64(True):
        starts = np.geomspace(*STARTS, NUM_STARTS)
        kelvins = np.array([*SHOWN, *[TRUTH] * settings.replicates])
        x, drawn = jax.jit(jax.vmap(_spectrum))(settings.keys(len(kelvins)), kelvins)[:2]
        x, (shown, spectra) = np.asarray(x[0]), np.split(np.asarray(drawn), [len(SHOWN)])
        alone = jaxreg.fit_many(PUBLISHED_MODEL, x[:NUM_TRAIN], spectra[:, :NUM_TRAIN], residuals=False)
        jaxreg.raise_if_failed(alone)
        bias = float(np.median(alone.params["temperature"])) - TRUTH
        assert MODEL.guess is not None
        guesses = jax.jit(jax.vmap(MODEL.guess, (None, 0)))(x, spectra)
        first, fits = _proper(
            x, np.concatenate([spectra[:1]] * NUM_STARTS + [spectra]), np.append(starts, guesses["temperature"])
        )
        fit, tried, many = fits[0], fits[:NUM_STARTS], fits[NUM_STARTS:]
        sky = _firas.fit(_firas.spectrum())
        jaxreg.raise_if_failed(sky)

    epochs, failed = map(np.asarray, _published(settings.keys(), spectra[0].astype(np.float32)))
    temperature = np.where(failed, np.nan, epochs[:, -1])[:-1]
    median = float(np.nanmedian(temperature))
    error = fit.stderr["temperature"]
    deviation = (many.params["temperature"] - TRUTH) / many.stderr["temperature"]
    return common.Answer(
        measured={
            "published_procedure": {
                "median": median,
                "bias": median - TRUTH,
                "diverged": np.count_nonzero(failed[:-1]),
                "bias_of_least_squares_with_temperature_alone": bias,
            },
            "temperature": fit.params["temperature"],
            "temperature_stderr": error,
            "gain": fit.params["gain"],
            "gain_stderr": fit.stderr["gain"],
            "chi2": fit.chi2,
            "dof": fit.dof,
            "num_starts": NUM_STARTS,
            "starts": starts,
            "steps_from_each_start": first.num_steps[:NUM_STARTS],
            "spread_over_starts_in_standard_errors": np.ptp(tried.params["temperature"]) / error,
            "replicates_within_4_standard_errors": float(np.mean(np.abs(deviation) < 4)),
            "root_mean_square_deviation_in_standard_errors": np.sqrt(np.mean(deviation**2)),
            "firas": {
                "temperature": sky.params["temperature"],
                "stderr": sky.stderr["temperature"],
                "chi2": sky.chi2,
                "dof": sky.dof,
            },
        },
        knob=_knob(x, spectra[0], first[0], fit, epochs[-1]),
        figures=_figures(settings, x, shown, temperature, sky),
        header=("spectrum and procedure", "temperature / K", "error / K", "gain", "error", "χ²", "degrees of freedom"),
        rows=[
            ["published: T alone, SGD", f"{median:.2f}", *"–––––"],
            _row("T and gain, least squares", fit, 2),
            _row("COBE/FIRAS, weighted", sky, 7),
        ],
        published=[common.judge("planck", "temperature", RUN["temperature"], temperature)],
    )


def _wavelength() -> jax.Array:
    return 1e-9 * jnp.arange(FIRST, LAST + STEP, STEP, dtype=float)


@jax.jit
def _published(keys: jax.Array, shown: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The temperatures before and after each epoch, and whether it failed: of each seed, then of the shown spectrum."""
    keys = jax.vmap(jax.random.split)(jnp.append(keys, keys[:1]))

    def drawn(key: jax.Array) -> jax.Array:
        return data.planck(key, _wavelength(), TRUTH, gain_spread=0.05).y

    spectra = jax.vmap(drawn)(keys[:, 0]).at[-1].set(shown)
    return jax.vmap(_published_member)(keys[:, 1], spectra[:, :NUM_TRAIN])


def _published_member(key: jax.Array, spectrum: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The published training, epoch by epoch to see where each leads; plain SGD keeps nothing from one to the next."""
    order_of = batching.epoch_order("reshuffled", NUM_TRAIN, jax.random.split(key)[1])  # as ``train`` does

    def epoch(params: models.Params, index: jax.Array) -> tuple[models.Params, tuple[jax.Array, jax.Array]]:
        result = jaxreg.train(
            PUBLISHED_MODEL,
            losses.squared,
            data.Dataset(_wavelength()[:NUM_TRAIN], spectrum),
            optimizer=optax.sgd(RUN["learning_rate"]),
            epochs=1,
            batch_size=common.BATCH_SIZE,
            key=key,
            params=params,
            order=order_of(index),
        )
        return result.params, (result.params["temperature"], result.status != jaxreg.Status.OK)

    _, (after, failed) = jax.lax.scan(epoch, PUBLISHED_MODEL.init(key), jnp.arange(EPOCHS))
    return jnp.insert(after, 0, START), failed.any()


def _spectrum(key: jax.Array, kelvin: jax.Array) -> data.Dataset:
    return data.planck(key, _wavelength(), kelvin, gain_spread=0.05, noise=NOISE)


def _proper(x: np.ndarray, y: np.ndarray, starts: np.ndarray) -> tuple[jaxreg.Fit, jaxreg.Fit]:
    """Temperature and gain of each spectrum, first with equal weights."""
    # The noise is relative, so its sigma needs the curve: a first fit gives it.
    fit = partial(jaxreg.fit_many, MODEL, x, y, p0_each=True, absolute_sigma=True)
    first = fit({"temperature": starts, "gain": np.ones_like(starts)}, sigma=np.ones_like(y))
    second = fit(first.params, sigma=NOISE * (y - first.residuals))
    jaxreg.raise_if_failed(first)
    jaxreg.raise_if_failed(second)
    return first, second


def _knob(x: np.ndarray, y: np.ndarray, first: jaxreg.Fit, fit: jaxreg.Fit, epochs: np.ndarray) -> common.Knob:
    """The spectrum; the law, χ² and the steps of a fit from anywhere are computed from it where they are looked at."""

    def numbers(params: Any) -> dict[str, float]:
        return {name: float(value) for name, value in params.items()}

    return common.Knob(
        [
            common.Slider("temperature", "temperature", len(KELVINS), int(np.flatnonzero(KELVINS == START)[0])),
            common.Slider("gain", "gain", len(GAINS), int(np.flatnonzero(GAINS == 1)[0])),
        ],
        {
            "kelvins": KELVINS,
            "gains": GAINS,
            "wavelengths": x,
            "radiances": y,
            "noise": NOISE,  # of the curve of these, as the fit was weighted
            "weights": numbers(first.params),
            "fit": {**numbers(fit.params), "chi2": float(fit.chi2), "dof": int(fit.dof)},
            "stderr": numbers(fit.stderr),
            "epochs": epochs,
        },
        charts=2,
    )


def _row(name: str, fit: jaxreg.Fit, digits: int) -> list[str]:
    temperature, gain = (
        [f"{float(part[parameter]):.{places}f}" for part in (fit.params, fit.stderr)]
        if parameter in fit.params
        else "––"
        for parameter, places in (("temperature", digits), ("gain", 5))
    )
    return [name, *temperature, *gain, f"{float(fit.chi2):.2f}", str(int(fit.dof))]


def _figures(
    settings: common.Settings,
    x: np.ndarray,
    shown: np.ndarray,
    temperature: np.ndarray,
    sky: jaxreg.Fit,
) -> dict[str, str]:
    spectra = {f"{kelvin:.0f} K": spectrum * 1e-12 for kelvin, spectrum in zip(SHOWN, shown, strict=True)}
    with common.figure(settings, "planck_spectra") as ax:
        plots.points(1e9 * x, spectra, xlabel="wavelength / nm", ylabel="radiance / (kW/(m² sr nm))", ax=ax)
    with common.figure(settings, "planck_published") as ax:
        marks = {"published": RUN["temperature"], "truth": TRUTH}
        plots.distribution(temperature, marks=marks, xlabel="temperature / K", ax=ax)
    with common.figure(settings, "planck_sky") as ax:
        rows, across = sky.problem.terms[0], "wavenumber / (1/cm)"
        plots.points(rows.x, {"COBE/FIRAS": rows.y}, xlabel=across, ylabel="", ax=ax)
        law = {"Planck's law, fitted": rows.y - sky.residuals}
        plots.lines(rows.x, law, xlabel=across, ylabel="intensity / (MJy/sr)", ax=ax)
    return {
        "planck_spectra": "Spectra of 4000 K and 5000 K with 1 % of noise: the hotter body is brighter, and the "
        "peak of its spectrum lies at shorter wavelengths.",
        "planck_published": "The published procedure over all seeds.",
        "planck_sky": "The cosmic microwave background (COBE/FIRAS, 43 points) and Planck's law.",
    }


if __name__ == "__main__":
    common.main(run, "planck")
