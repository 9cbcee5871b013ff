"""The scripts: judging, saving, refusing, and one exercise from the command line."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
TOOLS = {"benchmark", "kill_sweep"}  # have command lines of their own
EXERCISES = sorted(file.stem for file in SCRIPTS.glob("[a-z]*.py") if file.stem not in TOOLS)
sys.path.insert(0, str(SCRIPTS))
import _common as common  # noqa: E402
import _page  # noqa: E402
import reproduce  # noqa: E402


def run_script(name, *arguments):
    command = [sys.executable, "-W", "error", str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


def test_the_command_line_refuses_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    found = run_script("reproduce", "--out", tmp_path / "file" / "report")
    assert found.returncode == 2
    assert "out must be a folder that can be written" in found.stderr
    assert "initialisation" not in found.stdout


@pytest.mark.parametrize("name", EXERCISES)
def test_every_script_has_help(name, capsys):
    module = __import__(name)
    with pytest.raises(SystemExit) as ended:
        common.parse(module.__doc__, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--out", "--seed", "--replicates"))


def test_the_main_job_knows_every_exercise():
    assert sorted(reproduce.EXERCISES) == [name for name in EXERCISES if name != "reproduce"]


def test_an_exercise_runs_alone(tmp_path):
    found = run_script("reshape", "--out", tmp_path, "--replicates", 2)
    assert found.returncode == 0, found.stderr
    assert "got (1000, 1) and (1000,)" in found.stdout
    measured = json.loads((tmp_path / "reshape.json").read_text())
    assert measured["within_0.05"] is True
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".svg", ".png"}


def test_the_page_needs_no_network_and_escapes(tmp_path):
    (tmp_path / "figure.svg").write_text("<svg/>")
    answer = common.Answer("Title", "a < b?", "yes & no", ("name", "value"), [["x", 0.5]], {"figure": "caption"}, {})
    row = common.judge("run", "b", 2.0, np.linspace(0, 1, 101))
    environment = {"versions": {"jax": "1"}, "device": "cpu", "dtype": "float32", "seed": 0, "replicates": 101}
    _page.write(tmp_path, {"title": answer}, [row], reproduce.COLUMNS, environment)
    page = (tmp_path / "index.html").read_text()
    assert "a &lt; b?" in page
    assert "yes &amp; no" in page
    assert "<strong>0 of 1</strong>" in page
    assert "class=no" in page
    assert "http" not in page
