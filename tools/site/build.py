"""Builds the documentation as a static site: ``make docs``, then open ``build/docs/index.html``.

Another folder may be named on the command line.

Nothing is run and nothing is downloaded: notebooks appear as they were committed, the explorable page is made of
recordings. Every warning is an error, a link inside the site that leads nowhere is a warning.

What Sphinx reads is a copy of the pages and notebooks beside the site (``docs-source``), laid out as in the
repository, so that the links between them hold in both.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import explorer
import nbformat
from mdit_py_plugins.anchors.index import slugify
from sphinx.cmd.build import build_main

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent
COPIED = (
    *(f"{folder}/*.{kind}" for folder in ("docs", "notebooks") for kind in ("png", "svg")),
    "docs/*.md",
    "docs/upstream/*.py",
    "notebooks/diagrams/*",
    "notebooks/recorded/*.json",
    "benchmarks/recorded/*.json",
)
ANCHOR = re.compile(r'<a id="([\w-]+)"></a>\s*#+ (.+)')
LINK = re.compile(r"\]\(((?:[\w.-]+\.ipynb)?)#([\w-]+)\)")


def anchors(notebook: Any) -> dict[str, str]:
    """What the site calls each anchor of a notebook: the words of the heading below it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return {name: slugify(re.sub(r"[`*]", "", heading)) for name, heading in ANCHOR.findall(text)}


def stage_notebooks(source: Path) -> None:
    """Copy the notebooks, with links that lead to headings, which Sphinx can check."""
    notebooks = {file.name: nbformat.read(file, as_version=4) for file in (ROOT / "notebooks").glob("*.ipynb")}
    names = {name: anchors(notebook) for name, notebook in notebooks.items()}
    (source / "notebooks").mkdir()
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":

                def to_heading(link: re.Match[str], here: str = name) -> str:
                    target = link[1] or here
                    return f"]({link[1]}#{names.get(target, {}).get(link[2], link[2])})"

                cell.source = LINK.sub(to_heading, cell.source)
            for output in cell.get("outputs", ()):
                for markdown in output.get("data", {}).keys() & {"text/markdown"}:  # which Sphinx takes as it is
                    output.data[markdown] = re.sub(r"\]\(([\w-]+)\.ipynb", r"](\1.html", output.data[markdown])
        nbformat.write(notebook, source / "notebooks" / name)


def stage(source: Path) -> None:
    """Lay out what Sphinx reads."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    stage_notebooks(source)
    for pattern in COPIED:
        for file in ROOT.glob(pattern):
            target = source / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    for file in SITE.glob("*.md"):
        shutil.copy(file, source)
    (source / "explorer_fragment.html").write_text(explorer.fragment(), encoding="utf-8")


def main() -> int:
    """Build the site; returns Sphinx's exit code."""
    output = Path(sys.argv[1] if sys.argv[1:] else ROOT / "build/docs").absolute()
    source = output.with_name(f"{output.name}-source")
    stage(source)
    shutil.rmtree(output, ignore_errors=True)
    code = build_main(["-c", str(SITE), "-b", "html", "-q", "-W", "--keep-going", str(source), str(output)])
    if code == 0:
        (output / "explorer.html").write_text(explorer.page(), encoding="utf-8")
        print(f"the site is {output / 'index.html'}; {output / 'explorer.html'} is a single file that works by itself.")
    return code


if __name__ == "__main__":
    sys.exit(main())
