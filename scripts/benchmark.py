"""Benchmarks: the same problem on jaxreg and on what others would use, in one run, every ratio beside its target.

``python scripts/benchmark.py sweep`` needs no more than jaxreg, ``fit`` SciPy too; competitors that are not installed
are left out and named (``pip install '.[bench]'``; the C limit needs a compiler).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import _common as common
from _benchmark import fit, measure, sweep

COMMANDS = {"fit": fit, "sweep": sweep}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the exit code is 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, description=module.__doc__, help=(module.__doc__ or "").splitlines()[0])
        command.add_argument("--out", type=Path, default=Path("report"), help="folder for the numbers (%(default)s)")
        command.add_argument("--repeats", type=int, default=30, help="timed calls of each competitor (%(default)s)")
        module.add_arguments(command)
    settings = parser.parse_args(arguments)
    try:
        if settings.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {settings.repeats}")
        folder = common.writable_folder(settings.out)
    except ValueError as error:
        parser.error(str(error))
    cases = COMMANDS[settings.command].run(settings)
    file = folder / f"benchmark_{settings.command}.json"
    common.save_json(file, measure.as_json(cases))
    print(measure.report(cases, COMMANDS[settings.command].UNIT))
    print(f"\n{measure.described(measure.machine())}\nwritten to {file}")
    return 0 if all(one.met for case in cases.values() for one in case.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
