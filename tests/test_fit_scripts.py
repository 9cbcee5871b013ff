"""certify.py and spectrum.py: numbers from outside, every kind of bad input, NIST's formats."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import _nist  # noqa: E402
import certify  # noqa: E402
import spectrum  # noqa: E402

NIST = Path(__file__).parents[2] / "shared" / "nist"

# ---- spectrum.py ----


def test_the_temperature_of_the_sky(tmp_path: Path, capsys: Any) -> None:
    """D. J. Fixsen et al. 1996: 2.725 K; the digits are those of weighted least squares by SciPy."""
    assert spectrum.main(["--out", str(tmp_path), "--start", "300"]) == 0
    found = json.loads((tmp_path / "spectrum.json").read_text())
    assert found["temperature"] == pytest.approx(2.725015, abs=5e-7)
    assert found["stderr"] == pytest.approx(7.6e-6, abs=5e-8)
    assert found["chi2"] == pytest.approx(45.10, abs=5e-3)
    assert found["dof"] == 42
    assert (tmp_path / "spectrum.svg").exists()
    assert spectrum.main(["--out", str(tmp_path), "--start", "-1"]) == 2
    assert capsys.readouterr().err.endswith(": start must be a positive temperature in kelvin, got -1.0\n")


# ---- certify.py ----

HEAD = """\
NIST/ITL StRD
Dataset Name:  {name}            ({name}.dat)

File Format:   ASCII
               Starting Values   (lines 41 to 43)
               Certified Values  (lines 41 to 48)
               Data              (lines 61 to 188)

Procedure:     Nonlinear Least Squares Regression

Description:   Made up in NIST's format.

Data:          1 Response   ( y = dialectric breakdown strength)
               2 Predictors (x1 = time; x2 = temperature)
               {num} Observations
               Average Level of Difficulty
               Generated Data

Model:         {kind} Class
               {count} Parameters (b1 to b{count})

{model}



          Starting values                  Certified Values

        Start 1     Start 2           Parameter     Standard Deviation
{rows}

Residual Sum of Squares:                    {rss:.10E}
Residual Standard Deviation:                {deviation:.10E}
Degrees of Freedom:                               {dof}
Number of Observations:                           {num}



Data:   y              {variables}
{data}
"""


def dat(
    name: str, model: str, kind: str, starts: Any, values: Any, errors: Any, variables: str, data: Any, rss: float
) -> str:
    """A file in NIST's format."""
    numbers = zip(np.transpose(starts), values, errors, strict=True)
    rows = "\n".join(
        f"  b{i} = {a:>10.6g} {b:>10.6g} {v:>21.10E} {e:>17.10E}" for i, ((a, b), v, e) in enumerate(numbers, 1)
    )
    lines = "\n".join("      " + "  ".join(f"{cell:.15E}" for cell in row) for row in data)
    dof = len(data) - len(values)
    facts = {"count": len(values), "num": len(data), "dof": dof, "rss": rss, "deviation": np.sqrt(rss / dof)}
    return HEAD.format(name=name, kind=kind, model=model, rows=rows, variables=variables, data=lines, **facts)


def least_squares(apply: Any, start: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """SciPy's answer: parameters, standard errors, residual sum of squares."""
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    found = scipy.optimize.least_squares(lambda b: apply(b) - y, start, jac="3-point", x_scale="jac", **tight)
    rss = 2 * found.cost
    covariance = np.linalg.inv(found.jac.T @ found.jac) * rss / (len(y) - len(start))
    return found.x, np.sqrt(np.diagonal(covariance)), rss


def nelson() -> str:
    time, temperature = (axis.ravel() for axis in np.meshgrid([1.0, 2, 4, 8, 16, 32, 48, 64], [180.0, 225, 250, 275]))
    noise = 0.1 * np.random.default_rng(0).normal(size=32)
    logarithm = 2.59 - 5.6e-9 * time * np.exp(0.0577 * temperature) + noise
    y = np.exp(logarithm)

    def apply(b: np.ndarray) -> np.ndarray:
        return b[0] - b[1] * time * np.exp(-b[2] * temperature)

    values, errors, rss = least_squares(apply, (2.59, 5.6e-9, -0.0577), np.log(y))
    model = "               log[y] = b1 - b2*x1 * exp[-b3*x2]  +  e"
    starts = [(2, 0.0001, -0.01), (2.5, 0.000000005, -0.05)]
    data = np.stack([y, time, temperature], axis=1)
    return dat("Nelson", model, "Exponential", starts, values, errors, "x1            x2", data, rss)


def enso() -> str:
    x = np.arange(1.0, 169.0)
    truth = np.array([10.5, 3.1, 0.5, 44.3, -1.6, 0.5, 26.9, 0.2, 1.5])

    def apply(b: np.ndarray) -> np.ndarray:
        waves = b[0] + b[1] * np.cos(2 * np.pi * x / 12) + b[2] * np.sin(2 * np.pi * x / 12)
        waves = waves + b[4] * np.cos(2 * np.pi * x / b[3]) + b[5] * np.sin(2 * np.pi * x / b[3])
        return waves + b[7] * np.cos(2 * np.pi * x / b[6]) + b[8] * np.sin(2 * np.pi * x / b[6])

    y = apply(truth) + 0.5 * np.random.default_rng(1).normal(size=168)
    values, errors, rss = least_squares(apply, truth, y)
    model = (
        "               y = b1 + b2*cos( 2*pi*x/12 ) + b3*sin( 2*pi*x/12 ) \n"
        "                      + b5*cos( 2*pi*x/b4 ) + b6*sin( 2*pi*x/b4 )\n"
        "                      + b8*cos( 2*pi*x/b7 ) + b9*sin( 2*pi*x/b7 )  + e"
    )
    starts = [(11, 3, 0.5, 40, -0.7, -1.3, 25, -0.3, 1.4), (10, 3, 0.5, 44, -1.5, 0.5, 26, -0.1, 1.5)]
    return dat("ENSO", model, "Miscellaneous", starts, values, errors, "x", np.stack([y, x], axis=1), rss)


def test_a_transformed_response_several_predictors_and_many_lines(tmp_path: Path, capsys: Any) -> None:
    """The notation of Nelson and ENSO, with data made up here and fitted by SciPy."""
    (tmp_path / "Nelson.dat").write_text(nelson())
    (tmp_path / "ENSO.dat").write_text(enso())
    # Ten digits of the file and SciPy's numerical Jacobian leave eight and six.
    options = ["--digits", "6", "--error-digits", "4", "--out", str(tmp_path / "out")]
    assert certify.main(["--data", str(tmp_path), *options]) == 0
    shown = capsys.readouterr().out
    assert "4 of 4 runs passed, float64" in shown
    assert len(json.loads((tmp_path / "out" / "certify.json").read_text())["runs"]) == 4


def test_constants_are_read_and_positions_of_lines_do_not_matter() -> None:
    model = "     pi = 3.141592653589793238462643383279E0\n     y =  b1 - b2*x - arctan[b3/(x-b4)]/pi  +  e"
    x = np.arange(10.0)
    text = dat(
        "Roszman1", model, "Miscellaneous", np.ones((2, 4)), np.ones(4), np.ones(4), "x", np.stack([x, x], 1), 1.0
    )
    problem = _nist._from_dat(text.replace("\n\n\n", "\n").replace("Starting values", "Starting Values"))
    assert list(problem.params) == ["b1", "b2", "b3", "b4"]
    found = problem.model.apply({"b1": 1.0, "b2": 2.0, "b3": 3.0, "b4": -1.0}, np.float32([2.0]))
    np.testing.assert_allclose(found, 1 - 4 - np.arctan(1.0) / np.pi, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Model:", "Modell:", "no line like"),
        ("b2*x1", "q*x1", "names must be x1, x2, b1, b2, b3, got q"),
        ("b1 =          2", "b1 =", "3 numbers|4 numbers wanted"),
        ("Data:   y", "Data:   z", "no line like"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, capsys: Any, old: str, new: str, message: str) -> None:
    text = nelson()
    assert old in text
    (tmp_path / "Nelson.dat").write_text(text.replace(old, new))
    assert certify.main(["--data", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert re.search(f"Nelson.dat is not a NIST reference data set: .*({message})", shown)
    assert shown.count("\n") == 1


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert certify.main(["--data", str(tmp_path)]) == 2
    assert "data must be a folder of NIST's .dat or .json files" in capsys.readouterr().err


def test_digits() -> None:
    assert certify.right_digits({"a": 1.0001, "b": 2.0}, {"a": 1.0, "b": 2.0}) == pytest.approx(4, abs=1e-3)
    assert certify.right_digits({"a": 1e-6}, {"a": 0.0}) == pytest.approx(6)
    assert certify.right_digits({"a": 1.0}, {"a": 1.0}) == 11
    assert certify.right_digits({"a": np.nan}, {"a": 1.0}) == 0


here = pytest.mark.skipif(not NIST.is_dir(), reason=f"NIST's files are not at {NIST}")


@here
@pytest.mark.usefixtures("x64")
def test_every_file_is_read_with_its_certified_answer() -> None:
    problems = [_nist.read(file) for file in sorted(NIST.iterdir())]
    assert len(problems) >= 15
    for problem in problems:
        residual = problem.y - np.asarray(problem.model.apply(problem.params, problem.x))
        deviation = np.sqrt(np.sum(residual**2) / (len(problem.y) - len(problem.params)))
        # NIST gives eleven digits of each; Longley's parameters cancel five of them, Wampler1 is exact.
        assert deviation == pytest.approx(problem.residual_deviation, rel=1e-5, abs=1e-9), problem.name
        assert all(start is None or set(start) == set(problem.params) for start in problem.starts)
        assert problem.exact is (problem.name == "Wampler1")


@here
def test_reference_sets_are_solved_from_both_starts_with_the_default_options(tmp_path: Path, capsys: Any) -> None:
    for name in ("BoxBOD.dat", "Longley.json"):
        (tmp_path / name).write_text((NIST / name).read_text())
    assert certify.main(["--data", str(tmp_path)]) == 0
    assert "3 of 3 runs passed" in capsys.readouterr().out
    assert certify.main(["--data", str(tmp_path), "--digits", "11.5"]) == 1
