"""Benchmarks: the same problem on jaxreg and on what others would use, in one run, every ratio beside its target.

Competitors that are not installed are left out and named (``pip install '.[bench]'``; the C limit needs a compiler).
``--compare`` sets the ratios beside those in _benchmark/baseline.json, which ``--save`` writes: minutes on a quiet
machine, ``python scripts/benchmark.py sweep --repeats 15 --save`` and the same with ``fit``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import _common as common
from _benchmark import baseline, fit, measure, sweep

COMMANDS = {"fit": fit, "sweep": sweep}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the exit code is 1 if a target was missed or, compared with a baseline, a ratio got worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        command.add_argument("--out", type=Path, default=Path("report"), help="folder for the numbers (%(default)s)")
        command.add_argument("--repeats", type=int, default=30, help="timed calls of each competitor (%(default)s)")
        baseline.add_arguments(command)
        module.add_arguments(command)
    settings = parser.parse_args(arguments)
    module = COMMANDS[settings.command]
    size = module.SIZE, getattr(settings, module.SIZE)
    try:
        if settings.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {settings.repeats}")
        before = baseline.load(settings.command, size) if settings.compare else None
        folder = common.writable_folder(settings.out)
    except ValueError as error:
        parser.error(str(error))
    cases = module.run(settings)
    file = folder / f"benchmark_{settings.command}.json"
    common.save_json(file, measure.as_json(cases))
    print(measure.report(cases, module.UNIT))
    print(f"\n{measure.described(measure.machine())}\nwritten to {file}")
    if before is not None:
        changes = baseline.compare(cases, before["ratios"])
        print(f"\n{baseline.report(changes, before)}")
        return 1 if any(one.slower for one in changes) else 0
    if settings.save:
        baseline.save(settings.command, size, cases)
        print(f"baseline of {settings.command} written to {baseline.FILE}")
    return 0 if all(one.met for case in cases.values() for one in case.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
