"""What is missed without an optional package: one line that names the extra, and nothing else."""

import dataclasses
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import kill_sweep  # noqa: E402
from _benchmark import curves, measure, sgd  # noqa: E402

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SWEEP = jaxreg.Sweep({"rate": np.arange(3.0)}, np.zeros(3))
X = np.linspace(0.0, 1.0, 5, dtype=np.float32)
FIT = jaxreg.Fit(**{field.name: 0.0 for field in dataclasses.fields(jaxreg.Fit)})


def swept(**options: Any) -> Any:
    return jaxreg.sweep(lambda rate: rate, {"rate": jnp.arange(3.0)}, **options)


def fitted(**options: Any) -> Any:
    return jaxreg.fit_many(lambda params, x: params["a"] * x, X, np.stack([X, X]), {"a": 2.0}, **options)


@pytest.mark.parametrize(
    ("extra", "absent", "use"),
    [
        pytest.param("tables", ["pandas", "xarray"], SWEEP.to_xarray, id="to_xarray"),
        pytest.param("tables", ["pandas", "xarray"], SWEEP.to_dataframe, id="to_dataframe"),
        pytest.param("tables", ["pandas"], FIT.to_dataframe, id="fit.to_dataframe"),
        pytest.param("tables", ["xarray"], lambda: jaxreg.fit_cube(X, abs, "x"), id="fit_cube"),
        pytest.param("tables", ["pandas"], lambda: jaxreg.fit_table(X, abs, "x", "y", "by"), id="fit_table"),
        pytest.param("store", ["zarr"], lambda: jaxreg.save(FIT.without_data(), "nowhere"), id="save"),
        pytest.param("store", ["zarr"], lambda: swept(store="nowhere"), id="sweep-store"),
        pytest.param("store", ["zarr"], lambda: fitted(store="nowhere"), id="fit_many-store"),
        pytest.param("store", ["zarr"], lambda: jaxreg.store.load("nowhere"), id="load"),
        pytest.param("progress", ["tqdm"], lambda: swept(progress=True), id="sweep-progress"),
        pytest.param("progress", ["tqdm"], lambda: fitted(progress=True), id="fit_many-progress"),
    ],
)
def test_the_remedy_is_one_line(
    extra: str, absent: list[str], use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in absent:
        monkeypatch.setitem(sys.modules, package, None)
        assert any(re.match(rf"{package}\b", requirement) for requirement in EXTRAS[extra])
    with pytest.raises(ImportError) as raised:
        use()
    assert re.fullmatch(rf"[^\n]*{absent[0]}[^\n]*: pip install 'jaxreg\[{extra}\]'", str(raised.value))
    assert not Path("nowhere").exists()


def test_the_benchmarks_leave_out_and_name_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_benchmark.sgd_numba", raising=False)
    for package in ("numba", "torch", "sklearn", "lmfit", "optimistix"):
        monkeypatch.setitem(sys.modules, package, None)
    row = np.zeros((1, 1))
    line = sgd.Problem("squared", None, 1, row[0], row, row[..., None].repeat(2, 2), row, row, np.zeros(3))
    spectra = curves.Problem(curves.LAWS["planck"], row)
    makers = {
        "here": lambda: "made",
        **{maker.__name__: functools.partial(maker, line) for maker in (sgd.numba_rows, sgd.torch, sgd.scikit)},
        **{maker.__name__: functools.partial(maker, spectra) for maker in (curves.lmfit, curves.optimistix)},
    }
    made, notes = measure.competitors(makers)
    assert made == {"here": "made"}
    assert len(notes) == 5
    assert all(re.fullmatch(r"without \w+: .*: pip install 'jaxreg\[bench\]'", note) for note in notes)


def test_killing_needs_a_store(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kill_sweep.importlib.util, "find_spec", {"zarr": None}.get)
    assert kill_sweep.main([]) == 2
    assert re.fullmatch(r".*: a store needs zarr: pip install 'jaxreg\[store\]'\n", capsys.readouterr().err)


def test_every_remedy_in_the_sources_is_an_extra() -> None:
    sources = [*(ROOT / "jaxreg").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), ROOT / "README.md"]
    named = {
        extra
        for file in sources
        for extras in re.findall(r"pip install '(?:jaxreg|\.)\[([\w,]+)\]'", file.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"tables", "store", "progress", "bench"} <= named <= set(EXTRAS)


def test_no_optional_package_is_needed_to_start() -> None:
    """All modules and all scripts are imported where none of the extras is."""
    absent = ["IPython", "hypothesis", "lmfit", "nlsq", "numba", "optimistix", "pandas", "pytest", "sklearn"]
    code = f"""
import importlib, pathlib, pkgutil, sys
sys.modules.update(dict.fromkeys({[*absent, "statsmodels", "torch", "tqdm", "xarray", "zarr"]}))
import jaxreg
for module in pkgutil.walk_packages(jaxreg.__path__, "jaxreg."):
    importlib.import_module(module.name)
for file in pathlib.Path("scripts").glob("[a-z]*.py"):
    importlib.import_module(file.stem)
"""
    search = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})"
    found = subprocess.run(
        [sys.executable, "-c", f"{search}\n{code}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
