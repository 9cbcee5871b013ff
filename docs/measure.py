"""Write what the pages show: text, tables and figures of the nine exercises, figures of the tutorial and the jobs.

``python docs/measure.py`` takes as long as ``scripts/reproduce.py``. Run it when an exercise or its numbers change.
"""

import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "scripts"))
import _common as common  # noqa: E402
import reproduce  # noqa: E402
from blocks import blocks_of  # noqa: E402

COLORS = 40  # of a figure's palette: lines, their shades and the edges of letters


def main() -> None:
    """Run everything and replace what was written before."""
    exercises(HERE / "exercises" / "measured")
    for page in (HERE / "tutorial.md", *sorted((HERE / "jobs").glob("*.md"))):
        figures(page)


def exercises(target: Path) -> None:
    """A page and figures for each exercise, and the table of published numbers."""
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    published = []
    with tempfile.TemporaryDirectory() as folder:
        settings = common.Settings(seed=0, replicates=1000, out=Path(folder))
        for name in reproduce.EXERCISES:
            print(name, flush=True)
            answer = importlib.import_module(name).run(settings)
            published += answer.published
            _keep(target / f"{name}.md", _page(name, answer, settings))
            for figure in answer.figures:
                shrink(settings.out / f"{figure}.png", target / f"{figure}.png")
    rows = [[row[column] for column in reproduce.COLUMNS] for row in published]
    inside = sum(row["inside"] for row in published)
    _keep(
        target / "published.md",
        f"{inside} of {len(published)} published numbers lie between the 0.5 and 99.5 percentiles of "
        f"{settings.replicates} replicates.\n\n{_table(reproduce.COLUMNS, rows)}",
    )


def figures(page: Path) -> None:
    """Run the page's blocks and keep the figures that they save."""
    namespace: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        for block in blocks_of(page):
            if block.language == "python":
                exec(block.text, namespace)
        for file in Path(folder).glob("*.png"):
            shrink(file, page.parent / file.name, colors=256)  # there are maps among them


def shrink(file: Path, target: Path, colors: int = COLORS) -> None:
    """A figure as a PNG with a palette, a third of the size."""
    with Image.open(file) as image:
        image.convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(target, optimize=True)


def _keep(file: Path, text: str) -> None:
    file.write_text(f"<!-- Written by docs/measure.py -->\n\n{text}\n")


def _page(name: str, answer: common.Answer, settings: common.Settings) -> str:
    figures = "".join(
        f"```{{figure}} /exercises/measured/{figure}.png\n:alt: {caption}\n\n{caption}\n```\n\n"
        for figure, caption in answer.figures.items()
    )
    device = jax.devices()[0].device_kind
    ran = (
        f"Printed and drawn by `python scripts/{name}.py`: {settings.replicates} replicates, seed {settings.seed}, "
        f"float32, jax {jax.__version__}, {device.upper()}."
    )
    return f"{answer.text}\n\n{_table(answer.header, answer.rows)}\n\n{figures}{ran}"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [
        header,
        ["---"] + ["--:"] * (len(header) - 1),
        *([common.text(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
