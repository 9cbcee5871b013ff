"""How hot is it? A temperature from a spectrum: as published, properly with its gain, and from the real sky."""

from functools import partial

import _common as common
import _firas
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxreg
from jaxreg import data, losses, models, plots

RUN = common.published_run("planck")
TRUTH = RUN["true_temperature"]
FIRST, LAST, STEP = RUN["wavelength_nm"]
PUBLISHED_MODEL = models.planck(temperature=RUN["initial_temperature"])
MODEL = models.planck(gain=True)
NOISE = 0.01
SHOWN = (4000.0, 5000.0)
STARTS, NUM_STARTS = (300.0, 50000.0), 50


def run(settings: common.Settings) -> common.Answer:
    """How hot is it? A temperature from a spectrum: as published, properly with its gain, and from the real sky."""
    trained = jax.jit(jax.vmap(_published_member))(settings.keys())
    failed = np.asarray(trained.status) != jaxreg.Status.OK
    temperature = np.where(failed, np.nan, np.asarray(trained.params["temperature"]))
    published = [common.judge("planck", "temperature", RUN["temperature"], temperature)]

    with jax.enable_x64(True):
        starts = np.geomspace(*STARTS, NUM_STARTS)
        kelvins = np.array([*SHOWN, *[TRUTH] * settings.replicates])
        x, drawn = jax.jit(jax.vmap(_spectrum))(settings.keys(len(kelvins)), kelvins)[:2]
        x, (shown, spectra) = np.asarray(x[0]), np.split(np.asarray(drawn), [len(SHOWN)])
        alone = jaxreg.fit_many(PUBLISHED_MODEL, x[:1000], spectra[:, :1000], residuals=False)
        jaxreg.raise_if_failed(alone)
        bias = float(np.median(alone.params["temperature"])) - TRUTH
        assert MODEL.guess is not None
        guesses = jax.jit(jax.vmap(MODEL.guess, (None, 0)))(x, spectra)
        first, fits = _proper(
            x, np.concatenate([spectra[:1]] * NUM_STARTS + [spectra]), np.append(starts, guesses["temperature"])
        )
        fit, tried, many = fits[0], fits[:NUM_STARTS], fits[NUM_STARTS:]
        num_steps = first.num_steps[:NUM_STARTS]
        sky = _firas.fit(_firas.spectrum())
        jaxreg.raise_if_failed(sky)
        figures = _figures(settings, x, shown, fit, num_steps, starts, temperature, sky)

    value, error = float(fit.params["temperature"]), float(fit.stderr["temperature"])
    gain, gain_error = float(fit.params["gain"]), float(fit.stderr["gain"])
    spread = np.ptp(tried.params["temperature"]) / error
    deviation = (many.params["temperature"] - TRUTH) / many.stderr["temperature"]
    sky_value, sky_error = float(sky.params["temperature"]), float(sky.stderr["temperature"])
    within_four = float(np.mean(np.abs(deviation) < 4))
    return common.Answer(
        title="Planck's law",
        question="How hot is a body of 5020 K, seen by an instrument with an unknown gain? And the sky?",
        text=(
            f"As published, the gain is forced into the temperature: {np.nanmedian(temperature):.0f} K in the "
            f"median, {np.nanmedian(temperature) - TRUTH:+.0f} K from the truth; a longer run would not mend it, for "
            f"least squares with the temperature alone is off by {bias:+.0f} K too. With temperature and gain fitted "
            f"together, 1 % of noise leaves {value:.2f} ± {error:.2f} K, the same from each of {len(starts)} starts "
            f"between 300 K and 50,000 K (they differ by {spread:.1g} standard errors); over {settings.replicates} "
            f"spectra the truth lies within 4 standard errors in {100 * within_four:.1f} %. The sky, as COBE/FIRAS "
            f"saw it, is at {sky_value:.6f} ± {sky_error:.7f} K, χ² = {float(sky.chi2):.2f} for {int(sky.dof)} "
            "degrees of freedom."
        ),
        header=("spectrum and procedure", "temperature / K", "standard error / K", "gain", "standard error"),
        rows=[
            ["published: T alone, SGD", np.nanmedian(temperature), "–", "–", "–"],
            ["T and gain, least squares", f"{value:.2f}", f"{error:.2f}", f"{gain:.5f}", f"{gain_error:.5f}"],
            ["COBE/FIRAS, weighted", f"{sky_value:.6f}", f"{sky_error:.7f}", "–", "–"],
        ],
        figures=figures,
        measured={
            "published_procedure": {
                "median": np.nanmedian(temperature),
                "diverged": np.count_nonzero(failed),
                "bias_of_least_squares_with_temperature_alone": bias,
            },
            "temperature": value,
            "temperature_stderr": error,
            "gain": gain,
            "gain_stderr": gain_error,
            "starts": starts,
            "steps_from_each_start": num_steps,
            "spread_over_starts_in_standard_errors": spread,
            "replicates_within_4_standard_errors": within_four,
            "root_mean_square_deviation_in_standard_errors": np.sqrt(np.mean(deviation**2)),
            "firas": {
                "temperature": sky_value,
                "stderr": sky_error,
                "chi2": sky.chi2,
                "dof": sky.dof,
            },
        },
        published=published,
    )


def _wavelength() -> jax.Array:
    return 1e-9 * jnp.arange(FIRST, LAST + STEP, STEP, dtype=float)


def _published_member(key: jax.Array) -> jaxreg.Training:
    key_data, key_train = jax.random.split(key)
    train, validation = data.split(data.planck(key_data, _wavelength(), TRUTH, gain_spread=0.05), 1000)
    return jaxreg.train(
        PUBLISHED_MODEL,
        losses.squared,
        train,
        optimizer=optax.sgd(RUN["learning_rate"]),
        epochs=RUN["epochs"],
        batch_size=common.BATCH_SIZE,
        key=key_train,
        validation=validation,
    )


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


def _figures(
    settings: common.Settings,
    x: np.ndarray,
    shown: np.ndarray,
    fit: jaxreg.Fit,
    num_steps: jax.typing.ArrayLike,
    starts: np.ndarray,
    temperature: np.ndarray,
    sky: jaxreg.Fit,
) -> dict[str, str]:
    nanometres = 1e9 * x
    spectra = {f"{kelvin:.0f} K": spectrum * 1e-12 for kelvin, spectrum in zip(SHOWN, shown, strict=True)}
    across = "wavelength / nm"
    with common.figure(settings, "planck_spectra") as ax:
        plots.points(nanometres, spectra, xlabel=across, ylabel="radiance / (kW/(m² sr nm))", ax=ax)
    with common.figure(settings, "planck_published") as ax:
        marks = {"published": RUN["temperature"], "truth": TRUTH}
        plots.distribution(temperature, marks=marks, xlabel="temperature / K", ax=ax)
    with common.figure(settings, "planck_residuals") as ax:
        over_nanometres = fit.replace(problem=fit.problem.replace(x=nanometres))  # of which residuals alone are drawn
        plots.residuals(over_nanometres, xlabel=across, ax=ax)
    with common.figure(settings, "planck_starts") as ax:
        steps = {"temperature and gain": num_steps}
        plots.lines(starts, steps, xlabel="start / K", ylabel="steps to the optimum", xscale="log", ax=ax)
    with common.figure(settings, "planck_sky") as ax:
        plots.curve(sky, xlabel="wavenumber / (1/cm)", ylabel="intensity / (MJy/sr)", ax=ax)
    with common.figure(settings, "planck_sky_residuals") as ax:
        plots.residuals(sky, xlabel="wavenumber / (1/cm)", ax=ax)
    return {
        "planck_spectra": "Spectra of 4000 K and 5000 K with 1 % of noise.",
        "planck_published": "The published procedure over all seeds.",
        "planck_residuals": "Residuals of temperature and gain fitted together.",
        "planck_starts": "Steps of that fit from each start.",
        "planck_sky": "The cosmic microwave background (COBE/FIRAS, 43 points) and Planck's law; the band is thinner "
        "than its line.",
        "planck_sky_residuals": "Its residuals.",
    }


if __name__ == "__main__":
    common.main(run, "planck")
