"""The reference is complete: every public name, option, limit, error and grant has its place on a page."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import cloche
from cloche.cli._app import app
from cloche.pipeline import manifest
from tests.loading import module_at

TREE = Path(__file__).parents[2]
REFERENCE = TREE / "docs" / "reference"
VERBS = [
    ["run"],
    ["replay"],
    ["plan"],
    ["debug"],
    ["check"],
    ["bench"],
    ["top"],
    ["image", "build"],
    ["image", "prepare"],
    ["image", "prune"],
    ["image", "verify"],
    ["image", "info"],
]


generated = module_at(TREE / "tools" / "docs_reference.py", "docs_reference")


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table, its head left out."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[2:]]


def names_in(page: str) -> set[str]:
    """What stands in code on a page."""
    return set(re.findall(r"`(\w+)`", (REFERENCE / page).read_text("utf-8")))


def test_every_verb_is_on_the_page() -> None:
    """A new verb that this test does not know would not be compared with its help."""
    assert re.findall(r"^## `cloche (.+)`$", generated.command_line(), re.MULTILINE) == [
        " ".join(verb) for verb in VERBS
    ]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_page_has_the_options_that_the_help_has(verb: list[str]) -> None:
    """The page is made of typer's declarations, the help by typer itself."""
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300", "NO_COLOR": "1"})
    helped = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"\x1b\[[0-9;]*m", "", shown.output)))
    name = " ".join(["cloche", *verb])
    section = generated.command_line().split(f"## `{name}`\n")[1].split("\n## ")[0]
    options = {word for row in cells(section) for word in re.findall(r"--[a-z-]+", row[0])}
    mentioned = {word for row in cells(section) for word in re.findall(r"--[a-z-]+", row[2])}
    assert options <= helped
    assert helped - {"--help"} - mentioned <= options


def test_an_option_shows_its_value_and_its_default() -> None:
    """As a reader would type it."""
    run, _, others = generated.command_line().partition("## `cloche check`")
    rows = {row[0]: row[1:] for row in cells(run)}
    assert rows["`--deadline SECONDS|none`"] == ["`2`", "Longest time that one call may take."]
    assert rows["`--isolation none|process`"][0] == "`none`"
    assert rows["`--quiet`, `-q`"] == ["", "Only errors."]
    assert "`--input FILE`" in others


def test_every_limit_has_its_range() -> None:
    """Found by the check that `Limits` itself makes."""
    rows = {re.sub(r"<.*?>|`", "", row[0]): row[1:] for row in cells(generated.limits())}
    assert list(rows) == [field.name for field in fields(cloche.Limits)]
    assert rows["deadline_s"][:2] == ["2 s", "0.001 s to 365 days"]
    assert rows["memory_bytes"][:2] == ["256 MiB", "32 MiB to 4 GiB"]
    assert rows["request_bytes"][:2] == ["64 MiB", "1 KiB to below 4 GiB"]
    assert rows["fuel"][:2] == ["no limit", "1 to 2^63 - 1"]
    assert all(row[2] for row in rows.values())


def test_the_page_says_what_happens_beyond_every_limit() -> None:
    """That table is written by hand."""
    assert {field.name for field in fields(cloche.Limits)} - {"log_level"} <= names_in("limits.md")


def test_every_error_says_what_becomes_of_the_node() -> None:
    rows = [(re.findall(r"`(\w+)`", row[0])[0], row[1], row[2]) for row in cells(generated.errors())]
    assert {name for name, _, _ in rows} == set(cloche.errors.__all__)
    for name, afterwards, text in rows:
        assert (afterwards == "broken, or recovered") == issubclass(getattr(cloche, name), cloche.BrokenInstanceError)
        assert text.endswith("."), name


def test_every_grant_is_on_its_page() -> None:
    """With the page that says how to use it."""
    assert {field.name for field in fields(cloche.Grants)} <= names_in("grants.md")


def test_the_schema_of_manifests_is_the_one_that_is_checked() -> None:
    """Others validate with the published file. `python tools/docs_reference.py` writes it anew."""
    published = json.loads((REFERENCE / "manifest-v1.schema.json").read_text("utf-8"))
    assert published == manifest.Manifest.model_json_schema()


def test_every_field_of_a_manifest_is_on_its_page() -> None:
    """In the table of its object, with what it says."""
    page = generated.manifest()
    models = [
        kind
        for kind in vars(manifest).values()
        if isinstance(kind, type) and issubclass(kind, manifest.Manifest.__base__)
    ]
    names = {field.alias or name for kind in models for name, field in kind.model_fields.items()}
    rows = [row for table in page.split("## ")[1:] for row in cells(table)]
    assert len(names) > 40
    assert {row[0].strip("`") for row in rows} == names
    assert all(row[3].endswith(".") for row in rows), [row for row in rows if not row[3].endswith(".")]
    assert "## `nodes[].capabilities.gpu`" in page


def test_every_public_name_is_in_the_reference() -> None:
    """Each has its docstring on one of the pages; `cloche.errors` brings all of its own."""
    pages = "\n".join(page.read_text("utf-8") for page in REFERENCE.glob("*.md"))
    shown = set(re.findall(r"^::: cloche\.(\w+)$", pages, re.MULTILINE))
    assert set(cloche.__all__) - {"__version__"} - set(cloche.errors.__all__) <= shown
    assert "errors" in shown


def test_links_to_the_api_work_on_a_forge_too() -> None:
    """mkdocs knows ``[Node][cloche.Node]`` as well, which a forge shows as it stands."""
    pages = {page: page.read_text("utf-8") for page in (TREE / "docs").rglob("*.md")}
    assert [page.name for page, text in pages.items() if re.search(r"\]\[cloche", text)] == []


@pytest.mark.parametrize("kind", [cloche.Node, cloche.Pool])
def test_every_awaited_twin_is_on_the_page_about_awaiting(kind: type) -> None:
    """`ainitialize`, `acleanup` and `aclose` were not, once."""
    twins = {name for name in vars(kind) if name[0] == "a" and hasattr(kind, name[1:])}
    assert len(twins) >= 3
    assert twins <= set(re.findall(r"\.(a\w+)\(", (TREE / "docs" / "how-to" / "async.md").read_text("utf-8")))


def test_the_glossary_is_in_the_order_of_the_alphabet() -> None:
    """Else nobody finds anything in it."""
    entries = re.findall(r"^## (.+)$", (REFERENCE / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert entries == sorted(entries, key=str.casefold)


def test_a_docstring_that_names_a_page_links_to_it() -> None:
    """In the source it is a path, which a reader of the site cannot open."""
    pages = SimpleNamespace(
        get_file_from_path=lambda path: (
            SimpleNamespace(url_relative_to=lambda _: "../how-to/services.html")
            if path == "how-to/services.md"
            else None
        )
    )
    page = SimpleNamespace(file=None)
    shown = generated.on_page_content("See docs/how-to/services.md, not docs/gone.md.", page, pages)
    assert shown == 'See <a href="../how-to/services.html">docs/how-to/services.md</a>, not docs/gone.md.'


def test_a_mistake_in_a_hook_is_an_error() -> None:
    """A part that nobody makes would leave a hole in the page."""
    assert generated.on_page_markdown("a\n\n<!-- reference: limits -->\n").startswith("a\n\n| limit | default |")
    with pytest.raises(KeyError, match="nothing"):
        generated.on_page_markdown("<!-- reference: nothing -->")
