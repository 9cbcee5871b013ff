"""What an accelerator does beside the CPU of its machine: sweeps and fits timed and compared, and part of the tests.

Each platform and precision is a process of its own. First calls, with what they compile, are timed apart from second
ones. The sizes that the package chooses are timed beside smaller and larger ones. Exit code 0 if nothing failed and
both platforms computed the same numbers.
"""

import argparse
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg._command.arguments import Parser, write_any_letter
from jaxreg._command.output import save_json, table, writable_folder

ROOT = Path(__file__).parents[1]
GROUPS = ("sweeps", "fits", "sizes", "reproduce", "suite")
SUITE = "tests/test_fits.py,tests/test_sweeps.py,tests/test_training.py"
# (platform, precision) → the share of the time by whose end it begins nothing more. The accelerator comes first.
SHARES = {
    ("accelerator", "float32"): 0.4,
    ("accelerator", "float64"): 0.5,
    ("cpu", "float32"): 0.7,
    ("cpu", "float64"): 0.8,
}
SHARE_OF_REPRODUCE = 0.9
LATE = 60  # seconds more until a task that was begun is ended
MAY_DIFFER = 1e-3  # share of the numbers: where a fit takes a step more or ends in another optimum

Line = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Time everything on both platforms, print the tables, save the numbers; the exit code."""
    settings = parse(arguments)
    began = time.monotonic()
    lines: list[Line] = []
    file = settings.out / "gpu.json"
    with tempfile.TemporaryDirectory() as folder:
        for line in measured(settings, Path(folder), began + 60 * settings.minutes):
            lines.append(line)
            print(_spoken(line), file=sys.stderr, flush=True)
            save_json(file, {"lines": lines})
        compare(lines)
    save_json(file, {"lines": lines})
    print(report(lines))
    print(f"\n{time.monotonic() - began:.0f} s; written to {file}")
    return 0 if all(_good(line) for line in lines) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    write_any_letter()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the numbers (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="no task is begun later (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of members and fits (%(default)s)")
    parser.add_argument("--only", default=",".join(GROUPS), help="some of %(default)s, commas between (all)")
    parser.add_argument("--suite", default=SUITE, help="files of tests, commas between (%(default)s)")
    parser.add_argument("--replicates", type=int, default=100, help="those of reproduce.py (%(default)s)")
    given = parser.parse_args(arguments)
    given.only, given.suite = given.only.split(","), given.suite.split(",")
    try:
        for name in given.only:
            if name not in GROUPS:
                raise ValueError(f"only must be some of {', '.join(GROUPS)}, got {name!r}")
        for name in ("minutes", "scale"):
            if not 0 < getattr(given, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(given, name)}")
        given.out = writable_folder(given.out)
    except ValueError as error:
        parser.error(str(error))
    return given


def measured(settings: argparse.Namespace, folder: Path, end: float) -> Iterator[Line]:
    """All that is found, as it is found. Where JAX finds no accelerator, the first processes are the CPU's."""
    whole, accelerator = 60 * settings.minutes, "accelerator"
    for (asked, precision), share in SHARES.items():
        if asked == "cpu" and accelerator == "cpu":
            continue
        for line in _child(settings, folder, asked, precision, end - (1 - share) * whole):
            accelerator = line["platform"] if asked == "accelerator" else accelerator
            yield line
    for platform in dict.fromkeys((accelerator, "cpu")) if "reproduce" in settings.only else ():
        command = [str(ROOT / "scripts" / "reproduce.py"), "--no-cache", "--replicates", str(settings.replicates)]
        command += ["--out", str(folder / platform)]
        line, text = _command(command, platform, {}, end - (1 - SHARE_OF_REPRODUCE) * whole)
        inside = re.findall(r"^\d+ of \d+ published numbers inside.*", text, re.MULTILINE)
        line |= {"said": inside[-1]} if inside else _lost(line, text)
        about = {"platform": platform, "precision": "float32", "task": "reproduce.py", "size": settings.replicates}
        yield about | line
    if "suite" in settings.only:
        about = {"platform": accelerator, "precision": "float32", "suite": settings.suite}
        yield about | _suite(settings.suite, accelerator, end)


def _child(settings: argparse.Namespace, folder: Path, asked: str, precision: str, end: float) -> Iterator[Line]:
    """The lines of a process of ``_benchmark.accelerator``."""
    own = folder / f"{asked} {precision}"
    own.mkdir()
    question = {
        "x64": precision == "float64",
        "seconds": end - time.monotonic(),
        "scale": settings.scale,
        "groups": settings.only,
        "folder": str(own),
    }
    command = [sys.executable, "-m", "_benchmark.accelerator", json.dumps(question)]
    platform = asked
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment(asked)) as process:
        assert process.stdout is not None
        late = threading.Timer(question["seconds"] + LATE, process.kill)
        late.start()
        for text in process.stdout:
            if text.startswith("{"):  # libraries of an accelerator may print too
                line = json.loads(text)
                platform = line.get("platform", platform)
                yield line | {"platform": platform, "precision": precision}
        late.cancel()
    if process.returncode:
        yield {"platform": platform, "precision": precision, "error": f"the process ended with {process.returncode}"}


def _environment(platform: str, **more: str) -> dict[str, str]:
    path = [str(ROOT / "scripts"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    chosen = {"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {}
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "JAX_ENABLE_COMPILATION_CACHE": "false"} | chosen | more


def _command(command: list[str], platform: str, more: dict[str, str], end: float) -> tuple[Line, str]:
    """The seconds of a Python command, ended where its time is, and what it printed."""
    began = time.monotonic()
    if began >= end:
        return {"left": True}, ""
    run = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=_environment(platform, **more),
    )
    try:
        text, _ = run.communicate(timeout=end - began)
    except subprocess.TimeoutExpired:
        run.kill()
        return {"unfinished": True, "seconds": time.monotonic() - began}, run.communicate()[0]
    return {"seconds": time.monotonic() - began}, text


def _suite(files: list[str], platform: str, end: float) -> Line:
    """How the tests of some files end; those that were run where their time is too short for all."""
    absent = [
        name
        for name in ("pytest", "xdist", "hypothesis", "jaxtyping", "beartype")
        if importlib.util.find_spec(name) is None
    ]
    if absent:
        return {"error": f"there is no {', '.join(absent)}: pip install 'jaxreg[test]'"}
    # Without the options for XLA's CPU that the tests set where none are.
    line, text = _command(["-m", "pytest", "-n", "0", "-v", *files], platform, {"XLA_FLAGS": ""}, end)
    ends = re.findall(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", text, re.MULTILINE)
    line["ends"] = dict(Counter(word for _, word in ends))
    line["lost"] = [name for name, word in ends if word in ("FAILED", "ERROR")]
    line["text"] = text[-20_000:] if line["lost"] else ""
    return line if ends else line | _lost(line, text)


def _lost(line: Line, text: str) -> Line:
    """What is wrong with a command that did not say what it should, unless it had too little time."""
    said = text.strip().splitlines() or ["it printed nothing"]
    return {} if {"left", "unfinished"} & line.keys() else {"error": said[-1], "text": text[-20_000:]}


def compare(lines: list[Line]) -> None:
    """Set beside each number of an accelerator what share of the CPU's differs from it."""
    files = {_key(line): line for line in lines if "file" in line}
    for line in files.values():
        cpu = files.get(("cpu", *_key(line)[1:]))
        if line["platform"] != "cpu" and cpu is not None:
            line["differ"] = differing(line["file"], cpu["file"], line["tolerance"])
    for line in files.values():
        del line["file"]


def differing(file: str, other: str, tolerance: float) -> float:
    """The share of a file's numbers that are further from those of another than a tolerance, in its units."""
    with np.load(file) as found, np.load(other) as wanted:
        near = np.abs(found["values"] - wanted["values"]) <= tolerance * wanted["unit"]
        both_lost = np.isnan(found["values"]) & np.isnan(wanted["values"])
    return float(np.mean(~(near | both_lost)))


def _key(line: Line) -> tuple[Any, ...]:
    return line["platform"], line["precision"], line.get("task"), line.get("size")


def report(lines: Sequence[Line]) -> str:
    """The tables, what was left out and what went wrong."""
    machines = {line["platform"]: line["machine"] for line in lines if "machine" in line}
    other = next((name for name in machines if name != "cpu"), None)
    parts = [_described(machines) if other else "no accelerator found: CPU alone\n" + _described(machines)]
    timed = [line for line in lines if "task" in line and "seconds" in line]
    parts.append(_timings([line for line in timed if "choice" not in line], ["cpu", *([other] if other else [])]))
    parts.append(_choices([line for line in timed if "choice" in line and line["platform"] == (other or "cpu")]))
    noted = {"suite", "said", "left", "unfinished", "error"}
    parts.append("\n".join(_spoken(line) for line in lines if noted & line.keys()))
    return "\n\n".join(part for part in parts if part)


def _described(machines: dict[str, Line]) -> str:
    about = next(iter(machines.values()), None)
    if about is None:
        return "no process began"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version != "absent")
    devices = ", ".join(machine["device"] for machine in machines.values())
    return f"{about['processor']}, {about['cores']} cores; {devices}; {versions}"


def _timings(timed: Sequence[Line], platforms: Sequence[str]) -> str:
    """A row for each task, size and precision; of two platforms the ratio of their seconds, and whether they agree."""
    by_key = {_key(line): line for line in timed}
    header = ["task", "size", "precision"]
    header += [f"{name} {what}" for name in platforms for what in ("s", "compile s", "failed")]
    rows = []
    for key in dict.fromkeys(key[1:] for key in by_key):
        both = [by_key.get((name, *key), {}) for name in platforms]
        cells = [one.get(what, "") for one in both for what in ("seconds", "compilation", "failed")]
        if len(both) == 2:
            cells += [both[0]["seconds"] / both[1]["seconds"] if all(both) else "", both[1].get("differ", "")]
        rows.append([key[1], key[2], key[0], *cells])
    header += [f"cpu / {platforms[1]}", "differ"] if len(platforms) == 2 else []
    return table(header, rows) if rows else ""


def _choices(timed: Sequence[Line]) -> str:
    """A row for each value of a size that the package chooses."""
    header = ("size that is chosen", "task", "members", "value", "s", "ns/member", "")
    rows = [
        [
            f"{line['choice']} ({line['constants'][0]})",
            line["task"],
            line["size"],
            line["value"],
            line["seconds"],
            1e9 * line["seconds"] / line["size"],
            "chosen" if line["factor"] == 1 else "",
        ]
        for line in timed
    ]
    return table(header, rows) if rows else ""


def _spoken(line: Line) -> str:
    """A line of what was found."""
    where = f"{line['platform']}, {line['precision']}"
    if "machine" in line:
        return f"{where}: {line['machine']['device']}"
    what = " ".join(str(line[name]) for name in ("choice", "factor", "task", "size", "suite") if name in line)
    if "left" in line:
        return f"{where}: left out for want of time: {what}"
    if "error" in line:
        return f"{where}: FAILED: {what}: {line['error'].splitlines()[0]}"
    if "suite" in line:
        counts = ", ".join(f"{count} {word.lower()}" for word, count in line["ends"].items())
        what = "\n".join([f"{what}: {counts}", *line["lost"]])
    unfinished = ", ended for want of time" if "unfinished" in line else ""
    return f"{where}: {what}: {line['seconds']:.3g} s{unfinished}{': ' + line['said'] if 'said' in line else ''}"


def _good(line: Line) -> bool:
    return "error" not in line and not line.get("lost") and line.get("differ", 0.0) <= MAY_DIFFER


if __name__ == "__main__":
    sys.exit(main())
