"""A fit of each group of rows, as a table."""

import argparse
from pathlib import Path
from typing import Any

from jaxreg import _tables
from jaxreg._command.output import save_json, table
from jaxreg._command.question import Question
from jaxreg.labelled import fit_table
from jaxreg.status import Status, is_optimum

_MOST_ROWS = 50  # on a screen


def fitted(question: Question, given: argparse.Namespace) -> Any:
    """The table of fits."""
    rows = question.table
    sigma = given.sigma if given.sigma in rows.names else question.options["sigma"]
    names = [*question.columns, given.y, *([sigma] if isinstance(sigma, str) else [])]
    numbers = {name: rows.column(name) for name in names}
    frame = _tables.pandas().DataFrame(numbers | {name: rows.labels(name) for name in question.by})
    x = question.columns[0] if len(question.columns) == 1 else question.columns
    options = question.options | {"sigma": sigma}
    return fit_table(frame, question.model, x, given.y, question.by, p0=question.start, **options)


def told(fits: Any, question: Question, given: argparse.Namespace, out: Path) -> int:
    """Write the table and print it; the exit code."""
    fits.to_csv(out / "fits.csv", encoding="utf-8")
    flat = fits.reset_index()
    written = {"model": given.model, "columns": {"x": question.columns, "y": given.y, "by": question.by}}
    written |= {"notes": question.notes, "options": question.options | {"sigma": given.sigma}}
    save_json(out / "fits.json", written | {"fits": flat.to_dict("records")})
    print(table(list(flat.columns), flat.head(_MOST_ROWS).to_dict("split")["data"]))
    counts = ", ".join(f"{count} {status}" for status, count in fits.status.value_counts().items())
    print("\n" + "\n".join([f"{len(fits)} fits: {counts}", *question.notes]))
    print(f"\nwritten to {out}: fits.csv, fits.json")
    return 0 if all(is_optimum(Status[status]) for status in fits.status) else 1
