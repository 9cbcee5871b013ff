"""Write what the pages show: numbers and figures of the nine exercises, figures of the gallery, the jobs, the tutorial.

``python docs/measure.py`` takes a minute longer than ``scripts/reproduce.py``: run it when an exercise or its numbers
change. ``python docs/measure.py gallery.md jobs/cube.md`` makes the figures of these pages alone.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "scripts"))
import _common as common  # noqa: E402
import reproduce  # noqa: E402
from blocks import blocks_of  # noqa: E402

DPI = 160  # two pixels in one of a page, for the screens that have them
COLORS = 40  # of a figure's palette: lines, their shades and the edges of letters


def main(names: list[str]) -> None:
    """Run the pages named, or everything, and replace what was written before."""
    if not names:
        exercises(HERE / "exercises" / "measured")
        jobs = (f"jobs/{page.name}" for page in sorted((HERE / "jobs").glob("*.md")))
        howto = (f"howto/{name}.md" for name in ("shared", "errors_in_x", "large_file"))
        names = ["gallery.md", "tutorial.md", *howto, *jobs]
    for name in names:
        figures(HERE / name)


def exercises(target: Path) -> None:
    """The numbers, the knobs and the figures of the exercises, which docs/conf.py makes into pages."""
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        reproduce.run(common.Settings(seed=0, replicates=1000, out=out))
        for name in ("results", "page"):
            (target / f"{name}.json").write_bytes((out / f"{name}.json").read_bytes())
        for file in out.glob("*.png"):
            shrink(file, target / file.name)


def figures(page: Path) -> None:
    """Run the page's blocks and keep the figures that they save."""
    jax.config.update("jax_enable_x64", False)  # what a page before may have switched on
    namespace: dict[str, Any] = {}
    with (
        plt.rc_context({"savefig.dpi": DPI}),
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


if __name__ == "__main__":
    main(sys.argv[1:])
