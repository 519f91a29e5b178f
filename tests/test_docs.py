"""The guides say what the code does: generated pages are up to date, and links, commands and messages exist."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import build_site
import pytest
import spec_page
import typer.main
import yaml
from generate import PAGES
from markup import anchors, broken_links, escaped, link_targets

from advseg.jobs.cli.main import app
from advseg.platform.spec.spec_file import parse_spec

ROOT = Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*ROOT.glob("*.md"), *GUIDES]
CODE = [path for layer in ("models", "trainers", "platform", "jobs") for path in (ROOT / layer).rglob("*.py")]
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name):
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "write it by `python docs/generate.py`"


@each_text
def test_links_lead_to_files_and_headings(path):
    assert broken_links(path) == []


@pytest.mark.parametrize("target", ["nowhere.md", "there.md#nothing", "#nothing"])
def test_a_planted_broken_link_is_seen(tmp_path, target):
    (tmp_path / "there.md").write_text("# There\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n[there](there.md#there), [here](#here), `[code](no.md)`, [planted]({target})\n")
    assert broken_links(page) == [f"page.md: {target}"]


def test_links_of_pictures_and_of_linked_pictures_count_and_those_in_code_do_not():
    text = "![a](a.png) [b](b.md)\n```\n[c](c.md)\n```\n`[d](d.md)` [![e](e.png)](f.md)"
    assert set(link_targets(text)) == {"a.png", "b.md", "e.png", "f.md"}


def test_anchors_are_those_of_github():
    assert anchors("# The `spec`\n```\n# no heading\n```\n## model: a, b_c\n") == {"the-spec", "model-a-b_c"}


def test_what_looks_like_html_is_text_outside_of_code():
    assert escaped("<name> and `<name>`") == "&lt;name> and `<name>`"


def test_the_site_names_every_guide():
    location = tomllib.loads((ROOT / "docs" / build_site.CONFIG).read_text())
    named = set(re.findall(r"'([^']+\.md)'", str(location["project"]["nav"])))
    assert {str(path.relative_to(ROOT)) for path in GUIDES} <= named


def test_the_site_holds_all_that_its_pages_lead_to_and_loads_nothing_from_the_network(tmp_path):
    start = build_site.build(tmp_path / "docs")
    assert start.exists()
    assert (start.parent / "benchmarks" / "demo.png").exists()
    pages = [*start.parent.rglob("*.html")]
    assert len(pages) > len(GUIDES)
    for page in pages:
        text = page.read_text()
        assert not re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"?https?:[^>]+>", text), page.name
    for sheet in start.parent.rglob("*.css"):
        assert not re.findall(r"url\(\"?https?:[^)]+\)|@import", sheet.read_text()), sheet.name


def fenced(text: str) -> list[str]:
    return [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]


@each_text
def test_commands_that_are_shown_exist_with_their_options(path):
    for line in fenced(path.read_text()):
        if not line.startswith("advseg "):
            continue
        words = shlex.split(line, comments=True)[1:]
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def messages() -> list[str]:
    """The messages of the guide to troubles, in pieces between what differs from case to case."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    section = text.partition("\n## Messages\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.M)
    return [piece.strip() for cell in cells for code in re.findall(r"`([^`]+)`", cell) for piece in code.split("…")]


def test_the_code_says_the_messages_that_the_guide_explains():
    # A message may be written in several literals, one below another.
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in CODE))
    unknown = [piece for piece in messages() if piece not in said]
    assert len(messages()) > 40
    assert unknown == []


def test_each_report_of_the_guide_is_another_and_what_is_quoted_of_the_code_is_said_there():
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    section = text.partition("\n## Reported elsewhere\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if "](https://" in line]
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in CODE))
    quoted = [code for row in rows for code in re.findall(r"`([^`]+)`", row[2]) if "…" in code]
    assert len({row[1] for row in rows}) == len(rows) >= 40
    assert all(len(row) == 4 for row in rows)
    assert [piece for code in quoted for piece in map(str.strip, code.split("…")) if piece not in said] == []


@pytest.mark.parametrize("text", [(ROOT / "README.md").read_text(), spec_page.SPACE], ids=["README", "spec"])
def test_the_sweep_that_is_shown_is_valid(tmp_path, text):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    document = {
        "job": "sweep",
        "name": "shown",
        "dataset": {"root": str(tmp_path)},
        "model": {"architecture": "compact"},
        "trainer": {"steps": 10000, "segmenter_optimizer": {"name": "sgd"}, "augmentation": {"crop": [64, 64]}},
    }
    assert parse_spec({**document, **yaml.safe_load(block)}, source="the guide").sweep


def test_what_is_cited_is_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
