"""`jaxreg fit` and `jaxreg sweep`: numbers from outside, odd columns, bad input, the cache of programs."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest

import jaxreg
from jaxreg import _command, plots
from jaxreg._command import arguments, cache, columns, fit

# Response and predictor of Misra1a (NIST, Statistical Reference Datasets; D. Misra, 1978): volume against pressure.
MISRA = """\
volume,pressure
10.07,77.6
14.73,114.9
17.94,141.1
23.93,190.8
29.61,239.9
35.18,289.0
40.02,332.8
44.82,378.4
50.76,434.8
55.05,477.3
61.01,536.8
66.40,593.1
75.47,689.1
81.78,760.0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "misra1a.csv"
    path.write_text("# Misra1a\n" + MISRA)
    return path


def test_a_fit_from_a_file_has_the_certified_numbers(table: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    options = ["--model", "b1*(1-exp[-b2*x])", "--x", "pressure", "--y", "volume", "--p0", "b1=250,b2=5e-4"]
    assert fit.main([str(table), *options, "--out", str(out)]) == 0
    found = json.loads((out / "fit.json").read_text())
    assert found["params"]["b1"] == pytest.approx(2.3894212918e02, rel=1e-9)
    assert found["stderr"]["b2"] == pytest.approx(7.2668688436e-06, rel=1e-8)
    assert found["chi2"] == pytest.approx(1.2455138894e-01, rel=1e-8)
    assert {file.name for file in out.iterdir()} == {"fit.json", "fit.svg", "fit.png"}
    shown = capsys.readouterr().out
    assert shown.startswith("OK: converged")
    assert "238.94" in shown
    assert "curvature: parameter effects" in shown


def test_named_columns_bounds_fixed_and_robust_loss(table: Path, tmp_path: Path) -> None:
    base = [str(table), "--model", "linear", "--x", "pressure", "--y", "volume", "--out", str(tmp_path / "out")]
    assert fit.main([*base, "--fixed", "b=3", "--bounds", "w=:1", "--sigma", "0.5", "--loss", "huber"]) == 0
    found = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert found["params"]["b"] == 3.0
    assert found["stderr"]["b"] == 0.0
    assert found["dof"] == 13


BAD = {
    "no file": (["{missing}"], "cannot be read: No such file or directory"),
    "no column": (["--x", "depth"], "has no column 'depth', only 'volume', 'pressure'"),
    "text in a column": (["{text}"], "line 3, column 'volume' must be a finite number, got 'high'"),
    "a short row": (["{short}"], "line 3: 2 columns wanted, got 1"),
    "an empty file": (["{empty}"], "must have a header and at least one row"),
    "an unknown function": (["--model", "a*foo(x)"], "functions must be .*, got foo at position 3"),
    "an unknown variable": (["--model", "a*z"], "must depend on x"),
    "code": (["--model", "__import__('os').getcwd()*x"], "must be arithmetic on names and numbers"),
    "an unknown model": (["--model", "lorentz"], "model must be a formula, one of linear, .*, got 'lorentz'"),
    "an unknown parameter": (["--p0", "q=1"], "p0 must name parameters of the model, a, b, got 'q'"),
    "a start of text": (["--p0", "a=z"], "p0 of a must be a finite number, got 'z'"),
    "a start without a number": (["--p0", "a"], "p0 must be written as in a=1, got 'a'"),
    "crossed bounds": (["--bounds", "a=5:1"], "bounds must be in order, got a=5:1"),
    "half a bound": (["--bounds", "a=5"], "bounds must be written as in a=0:10, got '5'"),
    "a start out of bounds": (["--bounds", "a=0:1", "--p0", "a=3"], "must be between its bounds"),
    "an unknown loss": (["--loss", "cubic"], "loss must be one of"),
    "a negative sigma": (["--sigma", "-1"], "sigma must be positive and finite, got -1.0"),
    "a level": (["--level", "95"], "level must be between 0 and 1, got 95.0"),
    "too many parameters": (
        ["--model", "a" + "".join(f"+c{i}*x**{i}" for i in range(1, 15))],
        "at least as many points",
    ),
    "an unwritable folder": (["--out", "{text}/out"], "out must be a folder that can be written"),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_writes_nothing(
    table: Path, tmp_path: Path, capsys: Any, changed: list[str], message: str
) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("missing", "text", "short", "empty")}
    files["text"].write_text("volume,pressure\n1,2\nhigh,3\n")
    files["short"].write_text("volume,pressure\n1,2\n3\n")
    files["empty"].write_text("")
    changed = [part.format(**files) if part.startswith("{") else part for part in changed]
    positional = [changed[0]] if changed[0].endswith(".csv") else [str(table)]
    rest = changed[1:] if changed[0].endswith(".csv") else changed
    out = tmp_path / "out"
    options = {"--model": "a + b*x", "--x": "pressure", "--y": "volume", "--out": str(out)}
    options |= dict(zip(rest[::2], rest[1::2], strict=True))
    assert fit.main([*positional, *(word for pair in options.items() for word in pair)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err)
    assert not out.exists()


def test_missing_arguments_are_one_line(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        fit.main(["a.csv"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- names of columns and parameters ----

SIX = "0,1\n1,3\n2,5\n3,7\n4,9\n5,11\n"  # 2x + 1


@pytest.fixture
def fitted(tmp_path: Path) -> Any:
    """Fit a file of this text; the numbers that were written."""

    def run(text: str | bytes, *options: str, model: str = "linear", x: str = "t", y: str = "v") -> Any:
        (tmp_path / "table.csv").write_bytes(text.encode() if isinstance(text, str) else text)
        out = tmp_path / "out"
        asked = [str(tmp_path / "table.csv"), "--model", model, "--x", x, "--y", y, "--out", str(out), *options]
        assert fit.main(asked) == 0
        assert {file.name for file in out.iterdir()} == {"fit.json", "fit.svg", "fit.png"}
        return json.loads((out / "fit.json").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize(("x", "y"), [("w", "b"), ("b", "w"), ("t", "b"), ("x", "y")])
def test_columns_called_like_the_parameters_of_a_line(fitted: Any, capsys: Any, x: str, y: str) -> None:
    found = fitted(f"{x},{y}\n{SIX}", x=x, y=y)
    np.testing.assert_allclose([found["params"]["w"], found["params"]["b"]], [2, 1], rtol=1e-12)
    shared = ", ".join(name for name in ("b", "w") if name in (x, y))
    assert bool(shared) is (f"parameters, not the columns of these names: {shared}" in capsys.readouterr().out)


def test_a_column_that_is_not_asked_for_is_a_parameter(fitted: Any, capsys: Any) -> None:
    rows = SIX.replace("\n", ",7,8\n")
    found = fitted("t,v,a,b\n" + rows, model="a*x+b")
    np.testing.assert_allclose([found["params"]["a"], found["params"]["b"]], [2, 1], rtol=1e-12)
    assert "columns: x is 't', y is 'v'\nparameters, not the columns of these names: a, b" in capsys.readouterr().out


AMBIGUOUS = {
    "a column beside x": (
        "a",
        "a*x+b",
        "one name for the column 'a', got a and x: if one of them is a parameter, give",
    ),
    "one of two beside its number": ("a,t", "a*x1+b*t", "one name for the column 'a', got a and x1"),
    "numbers the other way round": ("x2,x1", "a*x1 + b", "one column for each name, got x1 for two of --x: rename"),
    "x of several": ("t,a", "x*t+a", "must have t, a for the columns of --x, got x too"),
    "a number too many": ("t,a", "c*x1+d*x2+f*x3", "must have x1, x2 for the columns of --x, got x3 too"),
    "a column without a name in it": ("t", "a*z+b", "must depend on x, which is the column 't', got"),
}


@pytest.mark.parametrize(("x", "model", "message"), AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_name_that_may_be_a_column_or_a_parameter_is_refused(
    tmp_path: Path, capsys: Any, x: str, model: str, message: str
) -> None:
    (tmp_path / "table.csv").write_text("t,a,x1,x2,v\n1,2,3,4,5\n2,3,4,5,6\n")
    asked = [str(tmp_path / "table.csv"), "--model", model, "--x", x, "--y", "v", "--out", str(tmp_path / "out")]
    assert fit.main(asked) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("x", "y"), [("$t$, 2 $", "a_{$"), ("t/\\$", "$\\frac{$"), ("Zeit\nin s", "Ω²")])
def test_odd_names_of_columns_are_only_names(fitted: Any, x: str, y: str) -> None:
    found = fitted(f'"{x}","{y}"\n{SIX}', x=x, y=y)
    assert found["params"]["w"] == pytest.approx(2, rel=1e-12)
    assert found["columns"] == {"x": [x], "y": y}


def test_numbers_are_written_before_the_figure(fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(plots, "fit")
    with pytest.raises(AttributeError):
        fitted("t,v\n" + SIX)
    assert json.loads((tmp_path / "out" / "fit.json").read_text())["params"]["w"] == pytest.approx(2, rel=1e-12)


def test_equal_names_of_columns_are_refused_where_they_matter(fitted: Any, tmp_path: Path, capsys: Any) -> None:
    rows = SIX.replace("\n", ",7,8\n")
    assert fitted("t,v,u,u\n" + rows)["params"]["w"] == pytest.approx(2, rel=1e-12)
    (tmp_path / "table.csv").write_text("t,v,t,u\n" + rows)
    asked = [str(tmp_path / "table.csv"), "--model", "linear", "--x", "t", "--y", "v", "--out", str(tmp_path / "out")]
    assert fit.main(asked) == 2
    assert "has 2 columns 't': give each a name of its own" in capsys.readouterr().err


# ---- cells ----

CELLS = {
    "empty cells": "t,v,u\n0,1,\n1,3,a\n,2,b\n2,5,c\n3,7,d\n 4, 9, e\n5,11,f\n6, NA,g\n,,\n",
    "decimal commas": "t;v\n0,0;1,0\n1;3,0\n2;5\n3;7\n;2,5\n4;9\n5;1,1e1\n7;\n",
    "tabs of Windows": "t\tv\r\n0\t1\r\n1\t3\r\n2\t5\r\n3\t7\r\n4\t9\r\n5\t11\r\n6\t\r\n\t1\r\n".encode("utf-16"),
    "letters of Windows": ("t,v,µ\n" + SIX.replace("\n", ",ä\n") + "6,,ä\nNaN,1,ä\n").encode("cp1252"),
    "a cell of two lines": "t,v,u\n" + SIX.replace("\n", ',"a,\nb"\n') + "6,,c\n,1,d\n",
}


@pytest.mark.parametrize("text", CELLS.values(), ids=CELLS.keys())
def test_what_a_cell_may_hold(fitted: Any, capsys: Any, text: str | bytes) -> None:
    found = fitted(text)
    np.testing.assert_allclose([found["params"]["w"], found["params"]["b"]], [2, 1], rtol=1e-12)
    shown = capsys.readouterr().out
    assert "left out for an empty cell: 2 of 8 rows" in shown
    assert ("read as decimal points" in shown) is (";" in str(text))


def test_a_comma_that_may_be_anything_is_no_decimal_point(tmp_path: Path) -> None:
    for text, line in (('t,v\n"1,234",1\n', 2), ("t;v\n1.5;1\n1,234;1\n", 3)):
        (tmp_path / "table.csv").write_text(text)
        with pytest.raises(ValueError, match=f"line {line}, column 't' must be a finite number, got '1,234'"):
            columns.read(tmp_path / "table.csv").column("t")


def test_a_file_of_excel(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "table.xlsx"
    rows = [[0, 1], [1, 3], [2, 5], [None, 2], [3, 7], [4, 9], [5, 11.0]]
    pandas.DataFrame(rows, columns=["t", "v"]).to_excel(file, index=False)
    asked = [str(file), "--model", "linear", "--x", "t", "--y", "v", "--out", str(tmp_path / "out")]
    assert fit.main(asked) == 0
    assert "left out for an empty cell: 1 of 7 rows" in capsys.readouterr().out
    pandas.DataFrame([["t", "t"], [1, "high"]]).to_excel(file, index=False, header=False)
    with pytest.raises(ValueError, match="has 2 columns 't'"):
        columns.read(file).column("t")


def test_a_table_of_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``read_parquet`` gives it."""
    frame = pandas.DataFrame({"t": pandas.array([1, None, 3], "Int64"), "v": [1.5, 2.5, np.nan], "u": ["1", "a", "3"]})
    monkeypatch.setattr(pandas, "read_parquet", lambda _: frame)
    table = columns.read(tmp_path / "table.parquet")
    assert table.complete(["t", "v"]).rows == [(2, [1, 1.5, "1"])]
    assert (table.labels("u"), table.complete(["v"]).labels("u")) == (["1", "a", "3"], ["1", "a"])
    assert table.complete(["t"]).labels("u") == [1, 3]
    of_names = columns.Table(table.path, ["u"], [(2, ["007"]), (3, ["7"])])
    assert (of_names.labels("u"), of_names._replace(rows=of_names.rows[1:]).labels("u")) == (["007", "7"], [7])
    with pytest.raises(ValueError, match="line 3, column 'u' must be a finite number, got 'a'"):
        table.column("u")


@pytest.mark.parametrize(("file", "package"), [("a.xlsx", "openpyxl"), ("a.parquet", "pyarrow")])
def test_a_package_that_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, file: str, package: str
) -> None:
    for name in (package, "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / file).write_text("")
    asked = [str(tmp_path / file), "--model", "linear", "--x", "t", "--y", "v", "--out", str(tmp_path / "out")]
    assert fit.main(asked) == 2
    shown = capsys.readouterr().err
    assert f"needs pandas and {package}: pip install pandas {package}" in shown
    assert shown.count("\n") == 1


# ---- groups ----

PLATE = """\
well;day;t;v;s
B1;10;0;1,0;0,1
A1;2;0;2;0,1
A1;2;1;4,5;0,2
A1;2;2;5;0,1
A1;2;3;8;0,3
B1;10;1;0,5;0,1
B1;10;2;0;0,2
B1;10;;0;0,2
B1;10;3;-0,2;0,1
B1;10;4;-1,5;0,1
"""


@pytest.mark.parametrize("by", ["well", "day"])
def test_a_fit_of_each_group(tmp_path: Path, capsys: Any, by: str) -> None:
    (tmp_path / "plate.csv").write_text(PLATE)
    asked = [str(tmp_path / "plate.csv"), "--model", "linear", "--x", "t", "--y", "v", "--sigma", "s", "--by", by]
    assert fit.main([*asked, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "fits.json").read_text())["fits"]
    read = pandas.read_csv(tmp_path / "out" / "fits.csv")
    assert [row[by] for row in rows] == read[by].to_list() == {"well": ["A1", "B1"], "day": [2, 10]}[by]
    sets = [([0, 1, 2, 3], [2, 4.5, 5, 8], [0.1, 0.2, 0.1, 0.3]), ([0, 1, 2, 3, 4], [1, 0.5, 0, -0.2, -1.5],
            [0.1, 0.1, 0.2, 0.1, 0.1])]  # fmt: skip
    for row, (t, v, s) in zip(rows, sets, strict=True):
        (w, b), covariance = np.polyfit(t, v, 1, w=1 / np.array(s), cov=True)
        found = [row[name] for name in ("w", "b", "w_stderr", "b_stderr")]
        np.testing.assert_allclose(found, [w, b, *np.sqrt(np.diag(covariance))], rtol=1e-9)
        assert (row["dof"], row["status"]) == (len(t) - 2, "OK")
    np.testing.assert_allclose(read["w"], [row["w"] for row in rows], rtol=1e-12)
    shown = capsys.readouterr().out
    assert "2 fits: 2 OK\ncolumns: x is 't', y is 'v'\nleft out for an empty cell: 1 of 10 rows" in shown


def test_a_group_that_cannot_be_fitted_costs_no_other(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "plate.csv").write_text(PLATE + "C1;11;1;1;0,1\n")
    asked = [str(tmp_path / "plate.csv"), "--model", "linear", "--x", "t", "--y", "v", "--by", "well"]
    assert fit.main([*asked, "--p0", "w=1", "--fixed", "b=0", "--out", str(tmp_path / "out")]) == 0
    assert "start: b = 0, w = 1" in capsys.readouterr().out
    assert fit.main([*asked, "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().out
    assert "3 fits: 2 OK, 1 INVALID_INPUT" in shown
    assert re.search(r"C1 +nan +nan +nan +nan .* INVALID_INPUT", shown)
    assert json.loads((tmp_path / "out" / "fits.json").read_text())["fits"][2]["w"] == "nan"
    assert fit.main([*asked[:-1], "plate", "--out", str(tmp_path / "out")]) == 2
    assert "has no column 'plate', only 'well', 'day'" in capsys.readouterr().err


# ---- a model of one's own ----

OWN = """\
from jaxreg import models

def line(params, x):
    return params["slope"] * x + params["offset"]

def broken(params, x):
    return params["slope"] * y

model = models.expression("w*x + b")
"""


def test_a_function_or_a_model_of_a_file(fitted: Any, tmp_path: Path) -> None:
    own = tmp_path / "own_model.py"
    own.write_text(OWN)
    found = fitted("t,v\n" + SIX, "--p0", "slope=1,offset=0", "--fixed", "offset=1", model=f"{own}:line")
    assert found["params"] == {"offset": 1.0, "slope": pytest.approx(2, rel=1e-12)}
    found = fitted("t,v\n" + SIX, model=f"{own}:model")
    assert found["params"] == pytest.approx({"b": 1.0, "w": 2.0}, rel=1e-12)


NOT_OWN = {
    "no start": (
        "own_model.py:line",
        "",
        "p0 must name every parameter of .*own_model.py:line, as in a=1,b=2, got none",
    ),
    "no such name": ("own_model.py:curve", "", "own_model.py has no function or Model 'curve'"),
    "no such file": ("other.py:line", "", "model must be in a file that there is, got .*other.py"),
    "an error in the function": (
        "own_model.py:broken",
        "slope=1",
        "own_model.py, line 7: NameError: name 'y' is not def",
    ),
    "an error in the file": ("bad.py:line", "", "bad.py: SyntaxError: "),
}


@pytest.mark.parametrize(("model", "p0", "message"), NOT_OWN.values(), ids=NOT_OWN.keys())
def test_a_bad_model_of_a_file_is_one_line(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, model: str, p0: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_model.py").write_text(OWN)
    Path("bad.py").write_text("line = (")
    asked = [str(table), "--model", model, "--p0", p0, "--x", "pressure", "--y", "volume"]
    assert fit.main([*asked, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1


# ---- the command ----


def test_the_command_has_a_version_and_two_commands(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        _command.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{jaxreg.__version__}\n")
    for command in ("fit", "sweep"):
        with pytest.raises(SystemExit) as ended:
            _command.main([command, "--help"])
        assert ended.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.startswith(f"usage: jaxreg {command} ")
        assert f"compiled programs in {cache.folder()}, and" in shown
    asked = ["sweep", "--learning-rate", "2:1:5", "--out", str(tmp_path / "out")]
    assert _command.main(asked) == 2
    assert capsys.readouterr().err.startswith("jaxreg sweep: learning-rate must rise from LOW to HIGH")
    with pytest.raises(SystemExit) as ended:
        _command.main(["fitt"])
    assert ended.value.code == 2
    assert re.fullmatch(r"jaxreg: .*invalid choice: 'fitt'.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(("platform", "told", "encoding"), [("win32", None, "utf-8"), ("win32", "cp1252", "cp1252"),
                                                            ("linux", None, "cp1252")])  # fmt: skip
def test_output_on_windows_is_utf_8(
    monkeypatch: pytest.MonkeyPatch, platform: str, told: str | None, encoding: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    if told:
        monkeypatch.setenv("PYTHONIOENCODING", told)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    arguments.write_any_letter()
    assert (sys.stdout.encoding, sys.stdout.errors) == (encoding, "replace")


# ---- the cache of programs ----

OPTIONS = ("compilation_cache_dir", "enable_compilation_cache", "persistent_cache_min_compile_time_secs",
           "persistent_cache_min_entry_size_bytes")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """JAX that nobody has told of a cache, in a home that is empty."""
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in OPTIONS}
    jax.config.update("jax_enable_compilation_cache", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", ".cache/jaxreg"), ("darwin", "Library/Caches/jaxreg"), ("win32", "AppData/Local/jaxreg")],
)
def test_programs_are_kept_in_the_users_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("LOCALAPPDATA", str(home / "AppData" / "Local"))
    cache.switch_on()
    assert jax.config.jax_compilation_cache_dir == str(home / folder)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert (home / folder).is_dir()


@pytest.mark.parametrize("why", ["a file in its place", "no absolute path", "told by the user", "switched off"])
def test_a_cache_that_cannot_be_or_is_not_wanted_costs_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    told = None
    if why == "a file in its place":
        (home / ".cache").write_text("")
    elif why == "no absolute path":
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    elif why == "told by the user":
        told = str(home / "own")
        jax.config.update("jax_compilation_cache_dir", told)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    before = sorted(home.rglob("*"))
    cache.switch_on()
    assert jax.config.jax_compilation_cache_dir == told
    assert sorted(home.rglob("*")) == before


def test_the_cache_forgets_what_was_not_used_for_longest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 250)
    folder = home / ".cache" / "jaxreg"
    folder.mkdir(parents=True)
    for used, name in enumerate(["b", "c", "a"]):
        (folder / f"{name}-cache").write_bytes(bytes(100))
        os.utime(folder / f"{name}-cache", (used, 0))
    cache.switch_on()
    assert sorted(file.name for file in folder.iterdir()) == ["a-cache", "c-cache"]


def test_the_second_process_compiles_nothing(home: Path) -> None:
    code = (
        "import argparse, sys, jax; from jaxreg._command.arguments import parsed; "
        "parsed(argparse.ArgumentParser(), sys.argv[1:]); found = []; "
        "jax.monitoring.register_event_listener(lambda name, **_: found.append(name)); "
        "jax.jit(lambda x: 2 * x)(1.0); print('/jax/compilation_cache/cache_hits' in found)"
    )
    environment = os.environ | {"HOME": str(home), "JAX_ENABLE_COMPILATION_CACHE": "true"}

    def run(*options: str) -> str:
        command = [sys.executable, "-W", "error", "-c", code, *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert [run("--no-cache"), run(), run()] == ["False", "False", "True"]
