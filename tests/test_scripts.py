"""The scripts: judging, saving, refusing, and one exercise from the command line."""

import importlib.machinery
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from jaxreg._command import problems, sweep

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import _common as common  # noqa: E402
import benchmark  # noqa: E402
import interval_coverage  # noqa: E402
import kill_sweep  # noqa: E402
import last_batch  # noqa: E402
import reproduce  # noqa: E402
import reshape  # noqa: E402
from _benchmark import baseline, curves, measure, sgd  # noqa: E402
from _benchmark import fit as benchmark_fit  # noqa: E402

EXERCISES = [*reproduce.EXERCISES, "reproduce"]
STUDIES = ("divergence_atlas", "predicted_training", "range_test", "sweep")
TOOLS = ["benchmark", "certify", "fit", "gpu", "interval_coverage", "kill_sweep", "spectrum", *STUDIES]


def test_a_number_inside_its_replicates():
    row = common.judge("run", "b", 0.5, np.linspace(0, 1, 1001))
    assert row["inside"]
    np.testing.assert_allclose([row["low"], row["median"], row["high"]], [0.005, 0.5, 0.995])
    assert row["percentile"] == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize("number", [-0.1, 0.004, 0.996, 1.1])
def test_a_number_outside_its_replicates(number):
    assert not common.judge("run", "b", number, np.linspace(0, 1, 1001))["inside"]


@pytest.mark.parametrize(("lost", "inside"), [(0, False), (4, False), (5, True), (1000, True)])
def test_a_published_nan_needs_half_a_percent_of_divergence(lost, inside):
    samples = np.where(np.arange(1000) < lost, np.nan, 1.0)
    assert common.judge("run", "b", "nan", samples)["inside"] is inside


def test_every_published_number_has_a_row():
    numbers = sum(
        len(run.get("w", [])) + ("b" in run) + ("temperature" in run) + len(run.get("sizes_of_partial_batches", []))
        for run in common.PUBLISHED["runs"]
    )
    assert numbers == 30


def test_json_holds_numbers_that_are_not_finite_as_text(tmp_path):
    common.save_json(tmp_path / "a.json", {"x": [math.nan, np.float32(1.5)], "y": math.inf, "z": np.array(True)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": ["nan", 1.5], "y": "inf", "z": True}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=f"out must be a folder that can be written, got {file}"):
        common.writable_folder(file / "report")


def test_a_terminal_of_few_letters_ends_no_script():
    """As Windows' cp1252, which has ² but not χ."""
    command = [sys.executable, "-c", "import _common; print('χ² = 1')"]
    environment = os.environ | {"PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}", "PYTHONIOENCODING": "cp1252"}
    found = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert found.stdout.decode("cp1252").strip() == "?² = 1"


def test_the_command_line_refuses_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-W", "error", str(SCRIPTS / "reproduce.py"), "--out", str(tmp_path / "file" / "report")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "out must be a folder that can be written" in found.stderr
    assert "initialisation" not in found.stdout


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--replicates", "0", "replicates must be at least 1, got 0"),
        ("--seed", str(2**32), "seed must be between 0 and 2³² - 1, got 4294967296"),
        ("--seed", "-1", "seed must be between 0 and 2³² - 1, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused_and_leave_nothing(option, value, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        common.parse("", ["--out", str(tmp_path / "report"), option, value])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_fewer_lines_are_the_first_of_many():
    many, few = (common.line_replicates(common.Settings(0, count, Path()), 3) for count in (5, 3))
    np.testing.assert_array_equal(many.train.y, few.train.y)


@pytest.mark.parametrize("name", [*EXERCISES, *STUDIES])
def test_every_script_has_help(name, capsys):
    module = sweep if name == "sweep" else __import__(name)
    with pytest.raises(SystemExit) as ended:
        module.parser().parse_args(["--help"]) if name in STUDIES else common.parse(module.__doc__, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--out", "--seed", "--replicates"))


def test_the_main_job_knows_every_exercise():
    assert sorted(EXERCISES + TOOLS) == sorted(file.stem for file in SCRIPTS.glob("[a-z]*.py"))


def test_no_script_hides_a_package():
    """A script's folder comes first where packages are looked for: numba takes whatever ``coverage`` it finds there."""
    elsewhere = [folder for folder in sys.path if folder != str(SCRIPTS)]
    scripts = {file.stem for file in SCRIPTS.iterdir()}
    assert not {name for name in scripts if importlib.machinery.PathFinder.find_spec(name, elsewhere)}


def test_batches_gathered_row_by_row_are_batches():
    lines = common.line_replicates(common.Settings(0, 2, Path()))
    gathered = jax.jit(last_batch.final_losses)(lines)[:, list(last_batch.SIZES).index(32)]
    for remainder, loss in zip(("keep", "drop"), gathered, strict=True):
        run = common.fit_lines(lines, 0.03, epochs=3, remainder=remainder)
        np.testing.assert_allclose(loss, run.validation_loss[:, -1], rtol=2e-5)


def test_an_exercise_runs_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reshape.py", "--out", str(tmp_path), "--replicates", "2"])
    with jax.numpy_rank_promotion("allow"):  # it is about shapes that broadcast
        common.main(reshape.run, "reshape")
    assert "got (1000, 1) and (1000,)" in capsys.readouterr().out
    measured = json.loads((tmp_path / "reshape.json").read_text())
    assert measured["within_0.05"] is True
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".svg", ".png"}


def run_study(name, *arguments):
    """A study's script in this process."""
    module = sweep if name == "sweep" else __import__(name)
    return problems.main(module.study, module.parser(), name, [*map(str, arguments)])


@pytest.fixture
def csv(tmp_path):
    """Sixty rows of y = 2 a - 3 b + 1, and one with an empty cell."""
    a, b = np.random.default_rng(0).normal(size=(2, 60))
    rows = [
        f"{first!r}, {second!r},{2 * first - 3 * second + 1!r}"
        for first, second in zip(a.tolist(), b.tolist(), strict=True)
    ]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["a, b,y", *rows, "1,,2", ""]))
    return file


def test_a_sweep_over_a_csv(csv, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("--data", csv, "--x", "a,b", "--y", "y", "--batch-size", "20,60", "--epochs", 40, "--seeds", 3)
    assert run_study("sweep", *arguments, "--learning-rate", "0.01:30:20", "--out", out) == 0
    shown = capsys.readouterr().out
    assert "linear on rows.csv, 60 rows (1 more with an empty cell), sgd, 40 epochs: 120 members" in shown
    rows = json.loads((out / "sweep.json").read_text())["combinations"]
    assert [row["batch_size"] for row in rows] == [20, 60]
    # Full-batch descent grows from 2/λmax on; the grid steps by 1.52.
    assert 1 <= rows[1]["edge"] / rows[1]["critical_learning_rate"] < 1.53
    assert 0 < rows[1]["share_failed"] < 1
    with np.load(out / "sweep.npz") as file:
        arrays = dict(file)
    assert arrays["final_loss"].shape == arrays["status"].shape == (1, 2, 1, 20, 3)
    best = np.unravel_index(np.nanargmin(arrays["final_loss"]), (1, 2, 1, 20, 3))
    np.testing.assert_allclose(arrays["params.w"][best], [2.0, -3.0], atol=1e-4)
    assert {file.name for file in out.glob("*.svg")} == {f"sweep_squared_batch_{size}_init_1.svg" for size in (20, 60)}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (
            "divergence_atlas",
            ("--batch-size", 1000, "--loss", "squared", "--init-scale", "1", "--steps", 100),
            "failed",
        ),
        ("predicted_training", ("--batch-size", 1000, "--epochs", 5, "--learning-rate", "0.1,0.5"), "largest miss"),
        ("range_test", ("--batch-size", 500, "--steps", 10), "usable for 90 % of 2 seeds"),
    ],
)
def test_a_study_runs_alone(name, arguments, said, tmp_path, capsys):
    assert run_study(name, "--model", "ohm", "--seeds", 2, "--out", tmp_path / "out", *arguments) == 0
    assert said in capsys.readouterr().out
    assert {file.suffix for file in (tmp_path / "out").iterdir()} >= {".json", ".svg", ".png"}
    json.loads((tmp_path / "out" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--data", "none.csv", "--x", "a", "--y", "y"),
            "none.csv cannot be read: No such file",
        ),
        (("--x", "a"), "data, x and y go together"),
        (
            ("--learning-rate", "1:2"),
            r"learning-rate must be LOW:HIGH:COUNT\[:log|lin\] with a COUNT of at least 2, got '1:2'",
        ),
        (("--learning-rate", "2:1:5"), "learning-rate must rise from LOW to HIGH"),
        (("--learning-rate", "0:1:5"), "learning-rate must be positive to be spaced by logarithms"),
        (("--learning-rate", "1,two"), "learning-rate must be a finite number, got 'two'"),
        (("--loss", "hubr"), "loss must be one of squared, absolute, .*, got 'hubr'"),
        (("--loss", "squared:2"), "loss squared has no threshold"),
        (("--loss", "absolute"), "learning-rate must be given for a loss without curvature"),
        (("--batch-size", "1001"), "batch-size must be whole numbers from 1 to 1000, got '1001'"),
        (("--epochs", "0"), "epochs must be whole numbers from 1"),
        (("--seeds", "0"), "seeds must be at least 1, got 0"),
        (("--chunk-size", "0"), "chunk_size must be at least 1, got 0"),
    ],
)
def test_a_sweep_refuses_in_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    assert run_study("sweep", "--out", tmp_path / "out", *arguments) == 2
    shown = capsys.readouterr()
    assert re.search(message, shown.err)
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert not (tmp_path / "out").exists()


def test_a_sweep_names_line_and_column_of_a_bad_cell(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_text("a,y\n1,2\n3,x\n")
    assert run_study("sweep", "--data", file, "--x", "a", "--y", "y", "--out", tmp_path / "out") == 2
    assert "line 3, column 'y' must be a finite number, got 'x'" in capsys.readouterr().err
    assert run_study("sweep", "--data", file, "--x", "a,b", "--y", "y", "--out", tmp_path / "out") == 2
    assert "has no column 'b', only 'a', 'y'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ranges_of_numbers():
    np.testing.assert_allclose(problems.numbers("rate", "1:100:3:log"), [1, 10, 100], rtol=1e-6)
    np.testing.assert_allclose(problems.numbers("rate", "1:3:3:lin"), [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(problems.numbers("rate", "3, 1,2"), [1, 2, 3])
    assert problems.losses_named("huber:0.5")[0].keywords == {"delta": 0.5}


def descent(given):
    """The problem's minibatch SGD in float64, written out: params (p, members) and losses (steps, members)."""
    params, history = np.outer(given.start, np.ones(len(given.rates))), []
    for x, y, weight in zip(given.x.astype(float), given.y.astype(float), given.weight, strict=True):
        columns = np.column_stack([x, np.ones(len(y))])
        residual = columns @ params - y[:, None]
        clipped = np.clip(residual, -1, 1)
        slope, loss = {
            "squared": (residual, residual**2 / 2),
            "huber": (clipped, clipped * (residual - clipped / 2)),
            "absolute": (np.sign(residual), np.abs(residual)),
        }[given.loss]
        share = weight / weight.sum()
        history.append(share @ loss)
        params = params - given.rates * ((columns * share[:, None]).T @ slope)
    return params, np.array(history)


@pytest.mark.parametrize("loss", list(sgd.LOSSES))
def test_the_c_limit_descends(loss):
    """75 members: a vector that is not full, a block that is not full. Tolerances: float32; see _benchmark/sweep.py."""
    given = sgd.problem(loss, 75)
    try:
        made = sgd.c(given)
    except measure.AbsentError as error:
        pytest.skip(str(error))
    for found, wanted in zip(made.numbers(made.run()), descent(given), strict=True):
        measure.close(loss, found, wanted, tolerance=2e-5, share=0.95 if loss == "absolute" else 1.0)


def test_the_benchmark_checks_times_and_judges(tmp_path, capsys):
    asked = ["--case", "squared,retrace", "--only", "plain,sweep", "--members", "40", "--repeats", "2"]
    assert benchmark.main(["sweep", *asked, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "plain, sweep compute the same parameters and losses to 2e-06" in shown
    measured = json.loads((tmp_path / "benchmark_sweep.json").read_text())
    assert set(measured["cases"]["squared"]["timings"]) == {"plain", "sweep"}
    assert len(measured["cases"]["squared"]["timings"]["sweep"]["seconds"]) == 2
    assert [one["met"] for one in measured["cases"]["retrace"]["targets"]] == [True]
    assert measured["machine"]["versions"]["jax"]


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """``benchmark.py sweep`` on a ratio that is given, with a baseline of its own: the exit code."""
    monkeypatch.setattr(baseline, "FILE", tmp_path / "baseline.json")

    def main(*options, value, at_least=False):
        one = measure.Verdict("case", "one / other", value, value, value, limit=1.0, at_least=at_least)
        alone = measure.single("case", "seconds", 9.0, 1.0)  # no ratio: not compared
        case = measure.Case({}, {}, [one, alone], [])
        monkeypatch.setattr(benchmark.sweep, "run", lambda _: {"case": case})
        return benchmark.main(["sweep", "--out", str(tmp_path), *options])

    return main


@pytest.mark.parametrize(("at_least", "slower"), [(False, 1.4), (True, 1 / 1.4)])
def test_a_ratio_is_compared_with_its_baseline(measured, capsys, at_least, slower):
    measured("--save", value=2.0, at_least=at_least)
    kept = json.loads(baseline.FILE.read_text())["sweep"]
    assert kept["ratios"] == {"case: one / other": 2.0}
    assert kept["machine"]["versions"]["jax"]
    assert measured("--compare", value=2.0, at_least=at_least) == 0
    assert "SLOWER" not in capsys.readouterr().out
    assert measured("--compare", value=2.0 * slower, at_least=at_least) == 1
    assert re.search(r"case: one / other .* 2 +1\.4 +SLOWER", capsys.readouterr().out)
    assert measured("--compare", value=2.0 / slower, at_least=at_least) == 0
    assert measured("--compare", value=math.nan, at_least=at_least) == 1


def test_only_what_is_alike_is_compared(measured, capsys):
    with pytest.raises(SystemExit):
        measured("--compare", value=1.0)
    assert "there is no baseline of sweep in" in capsys.readouterr().err
    measured("--save", value=1.0)
    with pytest.raises(SystemExit):
        measured("--compare", "--members", "40", value=1.0)
    assert "the baseline of sweep is of members 10240, got 40" in capsys.readouterr().err


@pytest.mark.parametrize(("members", "others"), [(10240, {"sgd: a / b": 3.0}), (40, {})])
def test_a_saved_case_leaves_the_others_of_its_size(measured, members, others):
    kept = {"members": 10240, "ratios": {"sgd: a / b": 3.0, "case: one / other": 2.0}}
    baseline.FILE.write_text(json.dumps({"sweep": kept}))
    measured("--save", "--members", str(members), value=1.0)
    assert json.loads(baseline.FILE.read_text())["sweep"]["ratios"] == others | {"case: one / other": 1.0}


@pytest.mark.parametrize("command", benchmark.COMMANDS)
def test_the_baseline_knows_every_case_that_is_compared(command):
    module, kept = benchmark.COMMANDS[command], json.loads(baseline.FILE.read_text())[command]
    cases = {what.split(":")[0] for what in kept["ratios"]}
    without = {"sweep": {"published", "retrace"}, "fit": {"first", "retrace", "isolation", "precision"}}[command]
    assert cases == set(module.CASES) - without
    assert all(value > 0 for value in kept["ratios"].values())


def test_the_benchmark_times_nothing_that_computes_other_numbers():
    timed = []

    def check(results):
        measure.close("b's params", results["b"], results["a"], tolerance=1e-6)

    with pytest.raises(AssertionError, match=r"b's params differ: 50\.0 % of the members agree"):
        measure.interleaved(
            {"a": lambda: np.ones((3, 2)), "b": lambda: timed.append(1) or np.array([[1, 1], [1, 1], [1, np.nan]])},
            5,
            check,
        )
    assert len(timed) == 1


def test_a_target_is_met_or_missed():
    timings = {
        "one": measure.Timing(9.0, [2.0, 4.0], [3.0, 2.0]),
        "other": measure.Timing(5.0, [1.0, 1.0], [1.0, 1.0]),
    }
    verdict = measure.ratio("case", timings, "one", "other", 2.0)
    assert (verdict.value, verdict.of_medians, verdict.of_work, verdict.met) == (2.0, 3.0, 2.0, True)
    assert not verdict._replace(limit=1.9).met
    assert verdict._replace(limit=1.9, at_least=True).met
    assert timings["one"].compilation == 6.0


@pytest.mark.parametrize("name", list(curves.LAWS))
def test_the_laws_to_be_fitted_are_the_same_for_all(name):
    law = curves.LAWS[name]
    params = list(law.draw(np.random.default_rng(0), 1)[:, 0])
    assert list(law.start) == sorted(law.start)
    with jax.enable_x64(True):
        named = dict(zip(law.start, params, strict=True))
        # Between the fifth power of a root and the power of the whole lie some roundings.
        np.testing.assert_allclose(law.curve(law.x, *params), law.model.apply(named, law.x), rtol=1e-13)
        slope = jax.tree.leaves(jax.jacfwd(law.model.apply)(named, law.x))
        np.testing.assert_allclose(law.slope(law.x, *params), np.stack(slope, axis=1), rtol=1e-11)


def test_the_benchmark_of_fits_checks_times_and_streams(tmp_path, capsys):
    asked = ["--case", "planck", "--only", "fit_many,scipy", "--sets", "30", "--repeats", "1"]
    assert benchmark.main(["fit", *asked, "--out", str(tmp_path)]) in (0, 1)  # so few are no matter of speed
    shown = capsys.readouterr().out
    assert "fit_many and scipy agree, data sets: 30" in shown
    assert "ns/fit" in shown
    case = json.loads((tmp_path / "benchmark_fit.json").read_text())["cases"]["planck"]
    assert set(case["timings"]) == {"fit_many", "scipy"}
    (target,) = case["targets"]
    times = {name: timing["minimum"] for name, timing in case["timings"].items()}
    assert target["value"] == pytest.approx(times["scipy"] / times["fit_many"])
    assert (target["limit"], target["met"]) == (30, target["value"] >= 30)
    np.save(tmp_path / "spectra.npy", curves.drawn("planck", 30))
    with jax.enable_x64(True):
        file = str(tmp_path / "spectra.npy")
        seconds, work = benchmark_fit._answer("streamed", file=file, sets=30, stored=True)
    assert 0 < seconds < 60
    assert work > 0


@pytest.mark.parametrize(("params", "stderr", "what"), [(1.01, 1.0, "parameters"), (1.0, 1.001, "standard errors")])
def test_the_benchmark_of_fits_times_nothing_that_finds_other_numbers(params, stderr, what):
    first = np.ones((2, 3)), np.ones((2, 3))
    other = np.ones((2, 2)), np.ones((2, 2))
    assert "data sets: 2" in curves.agreements("case", {"one": first, "other": other})[0]
    other[0][1, 1], other[1][1, 1] = params, stderr
    with pytest.raises(AssertionError, match=rf"case: other's {what} differ: 50\.0 % of the members"):
        curves.agreements("case", {"one": first, "other": other})


def test_a_benchmark_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["sweep", "--case", "squared,cubed"])
    assert "cubed is none of squared, huber" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["fit", "--sets", "7"])
    assert "sets must be a whole number of at least 8, got '7'" in capsys.readouterr().err


def test_coverage_counts_the_intervals_that_hold_the_truth(tmp_path, capsys, monkeypatch):
    """Against SciPy's fits and quantiles of the same data."""
    case = interval_coverage.CASES["Planck"]
    monkeypatch.setattr(interval_coverage, "CASES", {"Planck": case})
    # The standard error of a coverage near 95 % is 1.5 points with 200 data sets, and 68.3 % has 3.3.
    kinds = tuple(case.kinds[0]._replace(bound=13, wanted=wanted) for wanted in ("holds", "fails"))
    monkeypatch.setitem(interval_coverage.CASES, "Planck", case._replace(kinds=kinds))
    assert interval_coverage.main(["--sets", "200", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"holds +met", shown)
    assert re.search(r"fails +MISSED", shown)
    assert {file.name for file in tmp_path.iterdir()} == {
        "interval_coverage.json",
        "interval_coverage.svg",
        "interval_coverage.png",
    }
    holds, fails = json.loads((tmp_path / "interval_coverage.json").read_text())["outcomes"]
    assert (holds["met"], fails["met"], holds["num_failed"]) == (True, False, 0)

    apply = jax.jit(case.model.apply)

    def curve(x, temperature, gain):
        return np.asarray(apply({"temperature": temperature, "gain": gain}, x))

    with jax.enable_x64(True):
        sets = interval_coverage.simulated(case, 200, jax.random.split(jax.random.key(0), 1)[0])
        truth = np.array([case.truth[row["parameter"]] for row in holds["parameters"]])
        sigma = 0.01 * curve(case.x, *truth)
        fits = [scipy.optimize.curve_fit(curve, case.x, y, truth, sigma) for y in sets]
    away = np.array([abs(found - truth) / np.sqrt(np.diag(matrix)) for found, matrix in fits])
    for level in (0.683, 0.95):
        share = 100 * (away <= scipy.stats.t.ppf(0.5 + level / 2, 62)).mean(axis=0)
        np.testing.assert_allclose([row["percent"][f"{100 * level:.1f}"] for row in holds["parameters"]], share)


@pytest.mark.parametrize(
    ("wanted", "within", "met"),
    [("holds", (True, True), True), ("holds", (True, False), False), ("fails", (True, False), True),
     ("fails", (True, True), False), ("shown", (True, False), True)],
)  # fmt: skip
def test_coverage_is_judged_by_what_is_wanted(wanted, within, met):
    kind = interval_coverage.Kind("classic", {}, wanted, 0.7, (95.0,))
    rows = [interval_coverage.Row("a", {95.0: 95.0}, 1.0, one) for one in within]
    assert interval_coverage.Outcome("case", kind, rows, 10, 0, 0.0).met is met


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--sets", "0", "sets must be at least 1"), ("--seed", "-1", "seed must be between")],
)
def test_coverage_refuses_numbers_out_of_range(option, value, message, tmp_path, capsys):
    assert interval_coverage.main([option, value, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_killed_sweep_loses_nothing(tmp_path):
    outcome = kill_sweep.killed(1, 8, 0, tmp_path)
    assert outcome.kills == 1
    assert outcome.sweeps * 8 == outcome.chunks


def test_a_chunk_that_is_lost_or_written_again_is_noticed(tmp_path):
    folder = tmp_path / kill_sweep.MARKS
    folder.mkdir(parents=True)
    (folder / "0").write_text("1")
    marks = kill_sweep.Marks(tmp_path)
    assert marks.look() == 1
    assert marks.look() == 0
    (folder / "new").write_text("1")
    (folder / "new").rename(folder / "0")
    with pytest.raises(AssertionError, match="chunk 0 was finished and was computed again"):
        marks.look()
    (folder / "0").unlink()
    with pytest.raises(AssertionError, match="chunk 0 was finished and is lost"):
        marks.look()
