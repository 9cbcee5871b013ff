"""The temperature of the sky: Planck's law fitted to the spectrum of the cosmic microwave background by COBE/FIRAS."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import _common as common
import _firas
import jax

import jaxreg
from jaxreg import plots, report, uncertainty


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print the report, write the figure and the numbers; the exit code."""
    parser = common.Parser(description=__doc__)
    parser.add_argument("--start", type=float, default=10.0, help="of the fit, in kelvin (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for numbers and figure (%(default)s)")
    given = common.parsed(parser, arguments)
    try:
        if not (given.start > 0 and math.isfinite(given.start)):
            raise ValueError(f"start must be a positive temperature in kelvin, got {given.start}")
        out = common.writable_folder(given.out)
    except ValueError as error:
        return common.refuse(parser.prog, error)

    with jax.enable_x64(True):
        fit = _firas.fit(_firas.spectrum(), given.start)
        low, high = uncertainty.intervals(fit)
        with common.drawing(out, "spectrum"):
            upper, _ = plots.fit(fit, xlabel="wavenumber / (1/cm)", ylabel="intensity / (MJy/sr)")
            upper.set_title(
                f"T = {float(fit.params['temperature']):.6f} ± {float(fit.stderr['temperature']):.7f} K,"
                f"  χ² = {float(fit.chi2):.2f} for {int(fit.dof)} degrees of freedom",
                fontsize="medium",
            )
        print(report.summary(fit))
    common.save_json(
        out / "spectrum.json",
        {
            "temperature": fit.params["temperature"],
            "stderr": fit.stderr["temperature"],
            "interval_95": [low["temperature"], high["temperature"]],
            "chi2": fit.chi2,
            "dof": fit.dof,
            "status": jaxreg.Status(int(fit.status)).name,
            "num_steps": fit.num_steps,
            "start": given.start,
            "residuals_MJy_per_sr": fit.residuals,
        },
    )
    print(f"\nwritten to {out}: spectrum.json, spectrum.svg/.png")
    return 0 if int(fit.status) == jaxreg.Status.OK else 1


if __name__ == "__main__":
    sys.exit(main())
