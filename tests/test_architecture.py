"""The house: imports point down only, importing does nothing, everything public is documented by a running example."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxreg"
FLOORS = [
    ["_cache"],
    ["_version", "_trace", "_jaxprs", "_members", "_names", "_shapes", "uncertainty._quantiles"],
    ["_jit", "_points", "_tables"],
    ["results", "status", "_checks", "_pickling", "_linear_algebra", "curvature._lanczos", "models._expressions"],
    ["_blocks._devices", "_blocks._processes", "_blocks._progress"],
    ["_blocks._threads"],
    ["_blocks", "covariance._factors", "covariance._rows", "likelihoods", "models._model"],
    ["covariance._estimate", "losses._functions"],
    ["covariance", "losses._kinds"],
    ["losses"],
    ["models._laws", "models._curves", "models._formula"],
    ["models"],
    ["data"],
    ["objective._risk", "batching"],
    ["objective"],
    # Many members in one program, and what they have finished, on disk.
    ["store._trees"],
    ["store._description"],
    ["store._blocks"],
    ["store._filling"],
    ["store._creation"],
    ["store._opening"],
    ["store"],
    ["sweeps._study", "sweeps._tiles"],
    ["sweeps._programs"],
    ["sweeps._values"],
    ["sweeps._sweep"],
    ["sweeps"],
    # One run of training, one fit, one Hessian.
    ["training._scalars"],
    ["training._minibatch_risk"],
    ["training._train"],
    ["training"],
    ["curvature._derivatives"],
    ["curvature._spectrum"],
    ["curvature._descent"],
    ["curvature"],
    ["gradient_noise"],
    ["problems._form", "problems._losses"],
    ["problems._errors"],
    ["problems._starts"],
    ["problems._arguments", "problems._ties"],
    ["problems._priors"],
    ["problems._sums"],
    ["problems._problem"],
    ["problems"],
    ["least_squares._errors_in_x"],
    ["least_squares._limits", "least_squares._table", "least_squares._layout", "least_squares._flat_term"],
    ["least_squares._triangles", "least_squares._true_x"],
    ["least_squares._look"],
    ["least_squares._flat_problem"],
    ["least_squares._flattening"],
    ["least_squares._same_data"],
    ["least_squares._fit"],
    ["least_squares._optimum"],
    ["least_squares._step"],
    ["least_squares._levenberg_marquardt"],
    ["least_squares._kinks"],
    ["least_squares._plain", "least_squares._result"],
    ["least_squares._steps"],
    ["least_squares._quantile_regression"],
    ["least_squares._solver", "least_squares._watched"],
    ["least_squares._chunks", "least_squares._passes"],
    ["least_squares._tall"],
    ["least_squares._in_chunks"],
    ["least_squares._verbs"],
    ["least_squares"],
    ["compat"],
    ["global_fits._problem"],
    ["global_fits._fit"],
    ["global_fits._view", "global_fits._errors"],
    ["global_fits._result", "global_fits._derivatives"],
    ["global_fits._solver"],
    ["global_fits._driver"],
    ["global_fits"],
    # What repeats them: over data sets, over learning rates, with parameters held.
    ["fits._programs", "fits._sets"],
    ["fits._shared"],
    ["fits._batch"],
    ["fits._fit_many"],
    ["fits"],
    ["labelled._own"],
    ["labelled._groups", "labelled._cube"],
    ["labelled"],
    ["files"],
    ["studies._runs"],
    ["studies._atlas", "studies._prediction", "studies._range_test"],
    ["studies"],
    ["uncertainty._followed"],
    ["uncertainty._linear", "uncertainty._refits"],
    ["uncertainty._edge", "uncertainty._together"],
    ["uncertainty._profile", "uncertainty._bootstrap", "uncertainty._nonlinearity"],
    ["uncertainty._derived"],
    ["uncertainty"],
    # What shows them.
    ["plots._style", "report._fits", "comparison._goodness"],
    ["report._studies", "report._global_fits"],
    ["comparison._comparison"],
    ["comparison"],
    ["report._results"],
    ["report._shown", "report._summary"],
    ["report"],
    ["plots._training", "plots._sweeps", "plots._fits", "plots._profiles", "plots._series"],
    ["plots._studies"],
    ["plots"],
    ["__init__"],
    # What calls them from a terminal.
    ["_command.output", "_command.figures", "_command.model"],
    ["_command.cache"],
    ["_command.arguments"],
    ["_command.columns"],
    ["_command.question", "_command.problems"],
    ["_command.groups"],
    ["_command.fit"],
    ["_command.sweep"],
    ["_command"],
    ["__main__"],
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
FILES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
MODULES = list(FILES)


def public(module):
    """What a module shows: what is written in it, and of its own private parts what it lists."""
    loaded = importlib.import_module(f"jaxreg.{module}")
    for name, thing in vars(loaded).items():
        home = getattr(thing, "__module__", None) or ""
        listed = name in getattr(loaded, "__all__", ()) and home.startswith(f"jaxreg.{module}._")
        if not name.startswith("_") and callable(thing) and (home == f"jaxreg.{module}" or listed):
            yield pytest.param(thing, id=f"{module}.{name}")


PUBLIC = [
    case for module in MODULES if not any(part.startswith("_") for part in module.split(".")) for case in public(module)
]


def imported(module):
    """The modules of the package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.removeprefix("jaxreg.") for name in node.names if name.name.startswith("jaxreg")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxreg":
            inner = node.module.removeprefix("jaxreg").lstrip(".")
            named = {f"{inner}.{name.name}".lstrip(".") for name in node.names}
            found |= named & FILES.keys() or {inner}
    return found


def test_every_module_has_its_floor():
    assert set(MODULES) == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    assert all(FLOOR_OF[lower] < FLOOR_OF[module] for lower in imported(module))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short(module):
    assert len(FILES[module].read_text().splitlines()) <= 305


def test_importing_sets_nothing_and_draws_nothing():
    code = (
        "import sys, jax; before = dict(jax.config.values); import jaxreg; "
        "assert 'matplotlib' not in sys.modules; assert dict(jax.config.values) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("thing", PUBLIC)
def test_everything_public_has_a_docstring(thing):
    assert inspect.getdoc(thing)


@pytest.mark.parametrize("thing", [case for case in PUBLIC if inspect.isfunction(case.values[0])])
def test_every_public_function_has_an_example(thing):
    drawn = thing.__module__.startswith("jaxreg.plots.")  # tests/test_plots.py shows it
    assert drawn or ">>>" in inspect.getdoc(thing)
