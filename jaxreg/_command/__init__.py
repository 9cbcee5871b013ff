"""The command ``jaxreg``: a fit or a sweep of a file's columns, without a line of Python. The scripts call it too."""

import argparse
import importlib
from collections.abc import Sequence

from jaxreg._command.arguments import Parser
from jaxreg._version import __version__

_EPILOG = "jaxreg fit --help and jaxreg sweep --help say more."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; the exit code."""
    parser = Parser(prog="jaxreg", description="Regression from the command line.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "command", choices=("fit", "sweep"), help="a curve to columns, or trainings over their settings"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    given = parser.parse_args(arguments)
    command = importlib.import_module(f"jaxreg._command.{given.command}")
    ended: int = command.main(given.arguments, prog=f"jaxreg {given.command}")
    return ended
