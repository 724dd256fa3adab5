"""What the notebooks share: the glossary and the diagrams."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = {heading.replace(" ", "-") for heading in re.findall(r"^### (.+)$", GLOSSARY, flags=re.MULTILINE)}


def text_of(notebook):
    return "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_to_the_glossary_leads_to_a_term(notebook):
    assert set(re.findall(r"\(\.\./docs/glossary\.md#([\w-]+)\)", text_of(notebook))) <= TERMS


def test_a_term_says_where_upstream_explains_it_or_is_a_word_of_this_course():
    entries = re.split(r"^### ", GLOSSARY, flags=re.MULTILINE)[1:]
    assert len(entries) == len(TERMS), "a term stands twice"
    for entry in entries:
        assert 40 < len(entry.split("\n[")[0]) < 600, "two or three sentences"
        assert all(link.startswith("https://") for link in re.findall(r"\]\((.*?)\)", entry))


def test_the_diagrams_are_those_that_their_script_draws():
    for name, content in runpy.run_path(str(ROOT / "docs" / "diagrams.py"))["diagrams"]().items():
        assert (ROOT / "notebooks" / "diagrams" / name).read_text(encoding="utf-8") == content
        assert "<title>" in content
