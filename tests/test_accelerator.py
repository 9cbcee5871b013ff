"""gpu.py: on the CPU alone, what it makes of two platforms, and of what fails or has no time."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import gpu  # noqa: E402
from _benchmark import accelerator  # noqa: E402


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "gpu.json").read_text())["lines"]


def test_without_an_accelerator_it_times_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    tests = tmp_path / "test_two.py"
    tests.write_text("def test_good():\n    pass\n\n\ndef test_bad():\n    raise KeyError\n")
    asked = ["--scale", "1e-4", "--only", "sweeps,fits,suite", "--suite", str(tests), "--out", str(tmp_path)]
    assert gpu.main(asked) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("no accelerator found: CPU alone\n")
    assert "1 passed, 1 failed" in shown
    found = lines_of(tmp_path)
    assert found[-1]["lost"] == [next(name for name in found[-1]["lost"] if name.endswith("test_two.py::test_bad"))]
    timed = [line for line in found if "task" in line]
    assert [(line["size"], line["precision"]) for line in timed if "fits" in line["task"]] == [
        (100, "float32"),
        (10, "float32"),
        (100, "float64"),
        (10, "float64"),
    ]
    assert {line["size"] for line in timed if "sweep" in line["task"]} == {100, 1000}
    assert all(line["platform"] == "cpu" and line["seconds"] > 0 and line["failed"] == 0 for line in timed)


def test_without_time_it_begins_nothing_and_says_what(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpu.main(["--minutes", "1e-9", "--out", str(tmp_path)]) == 0
    left = [line for line in lines_of(tmp_path) if "machine" not in line]
    assert all(line["left"] for line in left)
    tasks = {line.get("task") for line in left}
    assert tasks == {task.name for task in accelerator.TASKS} | {"reproduce.py", None}
    assert capsys.readouterr().out.count("left out for want of time") == len(left)


def line_of(platform: str, seconds: float, values: np.ndarray, folder: Path) -> dict[str, Any]:
    file = folder / f"{platform}.npz"
    np.savez(file, values=values, unit=np.full_like(values, 0.1))
    where = {"platform": platform, "precision": "float32", "task": "fits", "size": 4, "failed": 0}
    return where | {"seconds": seconds, "compilation": 1.0, "tolerance": 1e-3, "file": str(file)}


@pytest.mark.parametrize(("away", "differ", "code"), [(0.5e-4, 0.0, 0), (2e-4, 0.25, 1), (np.nan, 0.25, 1)])
def test_two_platforms_are_set_beside_each_other(away, differ, code, tmp_path, monkeypatch, capsys):
    """Numbers of 1 ± 0.1: a thousandth of that is 1e-4."""
    values = np.array([[1.0, 1.0, 1.0, np.nan]])
    both = [
        line_of("gpu", 2.0, values + np.array([away, 0, 0, 0]), tmp_path),
        line_of("cpu", 8.0, values, tmp_path),
    ]
    machines = [
        {"platform": name, "precision": "float32", "machine": accelerator.measure.machine() | {"device": name}}
        for name in ("gpu", "cpu")
    ]
    monkeypatch.setattr(gpu, "measured", lambda *_: iter(machines + both))
    assert gpu.main(["--out", str(tmp_path)]) == code
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fits"))
    assert row.split() == ["fits", "4", "float32", "8", "1", "0", "2", "1", "0", "4", f"{differ:.5g}"]
    assert lines_of(tmp_path)[2]["differ"] == differ


def test_with_an_accelerator_both_run_the_exercises_and_it_the_tests(tmp_path, monkeypatch, capsys):
    """An accelerator's process and the commands are made up; what is asked of them, and what becomes of it, is not."""
    environments = []

    def child(_settings, _folder, asked, precision, _end):
        platform = "gpu" if asked == "accelerator" else "cpu"
        about = accelerator.measure.machine() | {"device": platform}
        yield {"platform": platform, "precision": precision, "machine": about}

    def command(command, platform, more, _end):
        environments.append((platform, gpu._environment(platform, **more)))
        said = "t.py::a PASSED [1%]" if "pytest" in command else "30 of 30 published numbers inside"
        return {"seconds": {"gpu": 2.0, "cpu": 3.0}[platform]}, said

    monkeypatch.setattr(gpu, "_child", child)
    monkeypatch.setattr(gpu, "_command", command)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert gpu.main(["--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("reproduce.py"))
    assert row.split() == ["reproduce.py", "100", "float32", "3", "2", "1.5"]
    assert "1 passed" in shown
    assert [(platform, one.get("JAX_PLATFORMS")) for platform, one in environments] == [
        ("gpu", None),
        ("cpu", "cpu"),
        ("gpu", None),
    ]
    assert environments[-1][1]["XLA_FLAGS"] == ""


def test_every_size_is_tried_and_put_back():
    for one in accelerator.SIZES:
        assert all(getattr(one.module, name) >= 1 for name in one.constants)
    first = accelerator.SIZES[0]
    chosen = getattr(first.module, first.constants[0])
    asked = {"groups": ["sizes"], "x64": False, "scale": 1e-4, "folder": ""}
    found = [about | run() for about, run in accelerator.tasks(asked) if about["choice"] == first.name]
    assert [line["value"] for line in found] == [chosen // 4, chosen, 4 * chosen, 16 * chosen]
    assert all(line["seconds"] > 0 for line in found)
    assert getattr(first.module, first.constants[0]) == chosen


def test_a_task_that_fails_hides_no_other(monkeypatch, capsys):
    def broken(size):
        raise MemoryError(f"no room for {size}")

    def good(size):
        return lambda: accelerator.Found(np.ones((1, size)), np.ones((1, size)))

    tasks = [accelerator.Task("fits", "broken", (10,), broken), accelerator.Task("fits", "good", (20,), good)]
    monkeypatch.setattr(accelerator, "TASKS", tasks)
    monkeypatch.setattr(accelerator, "_timed", lambda task, count, _: {"found": task.make(count)().values.size})
    asked = {"groups": ["fits"], "x64": False, "scale": 1, "folder": "", "seconds": 60}
    monkeypatch.setattr(sys, "argv", ["accelerator", json.dumps(asked)])
    accelerator.serve()
    _, first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"] == "MemoryError: no room for 10"
    assert second["found"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "sweeps,fit"], "only must be some of sweeps, fits, sizes, reproduce, suite, got 'fit'"),
        (["--minutes", "0"], "minutes must be a positive number, got 0.0"),
        (["--scale", "nan"], "scale must be a positive number, got nan"),
    ],
)
def test_it_refuses_before_any_work(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main([*options, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
