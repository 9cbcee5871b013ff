"""The spectrum of the cosmic microwave background as COBE/FIRAS measured it, and Planck's law in its units."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxreg
from jaxreg import models
from jaxreg._command import columns

FILE = Path(__file__).parent / "firas_monopole.csv"


class Spectrum(NamedTuple):
    """43 points of the monopole, with the standard deviation of each."""

    wavenumber: jax.Array  # 1/cm
    intensity: jax.Array  # MJy/sr
    sigma: jax.Array  # MJy/sr


def spectrum() -> Spectrum:
    """Read the table."""
    table = columns.read(FILE)
    names = ("wavenumber_per_cm", "intensity_MJy_per_sr", "sigma_kJy_per_sr")
    wavenumber, intensity, sigma = (jnp.asarray(table.column(name)) for name in names)
    return Spectrum(wavenumber, intensity, 1e-3 * sigma)


def radiance(params: models.Params, wavenumber: jax.Array) -> jax.Array:
    """Planck's law for a wavenumber in 1/cm, in MJy/sr: B_ν = B_λ λ²/c, and 1 MJy = 1e-20 W/(m² Hz)."""
    wavelength = 1e-2 / wavenumber
    return 1e20 * models.planck_radiance(wavelength, params["temperature"]) * wavelength**2 / models.SPEED_OF_LIGHT


def fit(rows: Spectrum, start: float = 10.0) -> jaxreg.Fit:
    """The temperature, by weighted least squares from a start in kelvin."""
    first = {"temperature": jnp.asarray(start, rows.intensity.dtype)}
    return jaxreg.curve_fit(radiance, rows.wavenumber, rows.intensity, first, sigma=rows.sigma, absolute_sigma=True)
