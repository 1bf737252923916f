"""The gate for advisories: a pin that nobody has reviewed, or that has a fault which nobody has explained, does not pass."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from tests.loading import module_at

TREE = Path(__file__).parents[2]


audit = module_at(TREE / "tools" / "audit.py", "cloche_audit")

PROJECT = """
[build-system]
requires = ["builder==3.0"]
[project]
dependencies = ["wasmtime==50.0.1", "cbor2>=6.3,<7"]
[dependency-groups]
dev = ["compiler==1.2", "tester>=9"]
"""
PINS = """
[[pin]]
name = "zlib"
version = "1:1.3.1.dfsg-2"
"""


def package(name: str, version: str) -> str:
    """An entry of the list, reviewed."""
    return f"""[[package]]
names = ["{name}"]
version = "{version}"
reviewed = 2026-11-29
looked_at = "its advisories"
"""


REVIEWED = {
    "wasmtime": "50.0.1",
    "cbor2": "6.3",
    "compiler": "1.2",
    "builder": "3.0",
    "zlib": "1:1.3.1.dfsg-2",
    "expat": "2.7.1",
}
LIST = (
    "".join(package(name, version) for name, version in REVIEWED.items())
    + """
within = "zlib"
within_version = "1:1.3.1.dfsg-2"
[[advisory]]
id = "CVE-2026-27171"
package = "zlib"
title = "may loop"
affected = ["<1.3.2"]
fixed = "1.3.2"
severity = "low"
status = "not affected"
because = "it is not called"
reviewed = 2026-11-29
"""
)
ADVISORY = """
[[advisory]]
id = "GHSA-2222-3333-4444"
package = "wasmtime"
title = "escapes"
affected = ["<49.0.4", ">=50,<50.0.2"]
fixed = "50.0.2"
severity = "critical"
reviewed = 2026-11-29
"""


class Clone:
    """A checkout of two files with pins, and a list."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.project, self.pins, self.list = PROJECT, PINS, LIST

    def __call__(self, *options: str) -> tuple[int, str, str]:
        """The gate's exit code, output and errors."""
        for name, text in (
            ("pyproject.toml", self.project),
            ("wasm/pins.toml", self.pins),
            ("tools/advisories.toml", self.list),
        ):
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        code = audit.main(["--tree", str(self.root), *options])
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Clone:
    return Clone(tmp_path, capsys)


def test_this_tree_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Every pin is reviewed, and every advisory that concerns one is explained."""
    assert audit.main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert re.search(r"^\d+ pins, \d+ advisories: all reviewed$", said.out, re.MULTILINE)


def test_every_pin_of_this_tree_is_looked_at() -> None:
    """The gate must not overlook a file in which versions are pinned."""
    pins = audit.read_pins(TREE)
    files = tomllib.loads((TREE / "wasm/pins.toml").read_text())["pin"]
    assert {"wasmtime", "cbor2", *(pin["name"] for pin in files)} <= pins.keys()


def test_what_is_reviewed_passes_and_what_is_explained_is_shown(clone: Clone) -> None:
    code, out, err = clone()
    assert (code, err) == (0, "")
    assert out == (
        "zlib 1:1.3.1.dfsg-2: 1 known advisories, 1 not affected; 1.3.2 has fixes\n"
        "5 pins, 1 advisories: all reviewed\n"
    )  # fmt: skip
    _, out, _ = clone("--verbose")
    assert "  CVE-2026-27171 low: may loop\n    not affected, because it is not called (2026-11-29)\n" in out


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "wasmtime==50.0.1",
            "wasmtime==50.0.2",
            "wasmtime 50.0.2 was not reviewed (50.0.1 was, on 2026-11-29): look for its advisories, and update its entry",
        ),
        (
            "cbor2>=6.3",
            "cbor2>=6.2",
            "cbor2 6.2 was not reviewed (6.3 was, on 2026-11-29): look for its advisories, and update its entry",
        ),
        (
            "cbor2>=6.3,<7",
            'cbor2>=6.3,<7", "anyio>=4.4',
            "anyio 4.4 was never reviewed: look for its advisories, and enter it as a package",
        ),
        (
            "tester>=9",
            "tester==9",
            "tester 9 was never reviewed: look for its advisories, and enter it as a package",
        ),
        ('"compiler==1.2", ', "", "compiler is pinned no longer: remove its entry and its advisories"),
    ],
    ids=["another version", "a lower bound", "a new dependency", "a new tool", "a pin that is gone"],
)
def test_a_pin_that_changed_fails_until_somebody_has_looked(clone, old, new, text):
    clone.project = clone.project.replace(old, new)
    code, out, err = clone()
    assert (code, err) == (1, f"audit: {text}\n")
    assert out.endswith(": 1 things to do\n")


def test_a_library_within_a_pin_is_reviewed_with_it(clone: Clone) -> None:
    """A new CPython may bring another expat."""
    clone.pins = clone.pins.replace("1.3.1.dfsg-2", "1.3.2")
    clone.list = clone.list.replace(
        'names = ["zlib"]\nversion = "1:1.3.1.dfsg-2"', 'names = ["zlib"]\nversion = "1:1.3.2"'
    )
    code, _, err = clone()
    assert (code, err) == (
        1,
        (
            "audit: expat was reviewed as a part of zlib 1:1.3.1.dfsg-2, but 1:1.3.2 is pinned: look which version is in it "
            "now, and update its entry\n"
        ),
    )


def test_an_advisory_that_nobody_has_judged_fails_and_names_the_version_to_go_to(clone: Clone) -> None:
    clone.list += ADVISORY
    code, _, err = clone()
    assert (code, err) == (
        1,
        (
            "audit: wasmtime 50.0.1 has GHSA-2222-3333-4444 (critical: escapes), and nobody has judged what that means; "
            "bump it to 50.0.2\n"
        ),
    )


def test_an_advisory_that_affects_cloche_fails_with_its_reason(clone: Clone) -> None:
    clone.list += ADVISORY.replace('fixed = "50.0.2"', 'status = "affected"\nbecause = "a node can reach it"')
    code, _, err = clone()
    assert (code, err) == (
        1,
        (
            "audit: wasmtime 50.0.1 has GHSA-2222-3333-4444 (critical: escapes): a node can reach it; "
            "there is no fixed version yet\n"
        ),
    )


def test_an_advisory_for_other_versions_does_not_concern(clone: Clone) -> None:
    clone.list += ADVISORY.replace('">=50,<50.0.2"', '">=50.0.2,<51"')
    assert clone()[0] == 0


@pytest.mark.parametrize("status", ["patched", "not affected", "contained"])
def test_an_explained_advisory_passes(clone, status):
    clone.list += ADVISORY + f'status = "{status}"\nbecause = "reasons"\n'
    code, out, _ = clone()
    assert code == 0
    assert f"wasmtime 50.0.1: 1 known advisories, 1 {status}" in out


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[[advisory]]", "[[advisory", "advisories.toml: "),
        ("[[advisory]]", "[[advisories]]", "advisories.toml: unknown table advisories"),
        ('id = "CVE-2026-27171"\n', "", "advisory ?: id is missing"),
        ("CVE-2026-27171", "CVE-27171", "advisory CVE-27171: 'CVE-27171' is neither a CVE nor a GHSA"),
        ("CVE-2026-27171", "GHSA-1111-3333-4444", "neither a CVE nor a GHSA"),
        ('severity = "low"', 'severity = "lowest"', "advisory CVE-2026-27171: severity 'lowest' is none of unknown, low"),
        ('severity = "low"', "severity = 3", "advisory CVE-2026-27171: severity is not a str"),
        ('title = "may loop"', 'title = ""', "advisory CVE-2026-27171: title is empty"),
        ('status = "not affected"', 'status = "fine"', "advisory CVE-2026-27171: status 'fine' is none of patched"),
        ('because = "it is not called"', "", "advisory CVE-2026-27171: a status needs a reason (because)"),
        ('"<1.3.2"', '"before 1.3.2"', "advisory CVE-2026-27171: Invalid specifier: 'before 1.3.2'"),
        ('["<1.3.2"]', "[]", "advisory CVE-2026-27171: affected is empty"),
        ('["<1.3.2"]', '"<1.3.2"', "advisory CVE-2026-27171: affected is not a list"),
        ('fixed = "1.3.2"', 'fixed = "soon"', "advisory CVE-2026-27171: Invalid version: 'soon'"),
        ('package = "zlib"', 'package = "zlip"', "advisory CVE-2026-27171: package zlip has no entry of its own"),
        ('because = "it', 'becuase = "it', "advisory CVE-2026-27171: unknown key becuase"),
        ("reviewed = 2026-11-29\nlooked_at", 'reviewed = "today"\nlooked_at', "package wasmtime: reviewed is not a date"),
        ("reviewed = 2026-11-29\nlooked_at", "reviewed = 2026-11-29T10:00:00\nlooked_at", "package wasmtime: reviewed is not a date"),
        ('names = ["cbor2"]', 'names = ["wasmtime"]', "package wasmtime: comes twice"),
        ('within = "zlib"\n', "", "package expat: within and within_version belong together"),
    ],
)  # fmt: skip
def test_a_malformed_list_is_told_apart(clone, old, new, text):
    """Exit code 2: nothing was compared, so nothing can be said about the pins."""
    assert old in clone.list
    clone.list = clone.list.replace(old, new, 1)
    code, out, err = clone()
    assert (code, out) == (2, "")
    assert text in err


def test_an_advisory_comes_once_for_a_package(clone: Clone) -> None:
    clone.list += ADVISORY + ADVISORY
    code, _, err = clone()
    assert (code, err) == (2, "audit: advisory GHSA-2222-3333-4444: comes twice for wasmtime\n")


def test_a_package_has_one_pin(clone: Clone) -> None:
    clone.project = clone.project.replace("tester>=9", "compiler==1.3")
    code, _, err = clone()
    assert (code, err) == (2, "audit: compiler is pinned twice: 1.2 and 1.3\n")


@pytest.mark.parametrize(
    ("pinned", "version"),
    [
        ("1.3.1", "1.3.1"),
        ("3.13.5-2+deb13u5", "3.13.5"),
        ("19.1.7-3~deb12u1", "19.1.7"),
        ("2.9.14+dfsg-1.3~deb12u6", "2.9.14"),
        ("1.2.13.dfsg-1", "1.2.13"),
        ("1:5.4.1-1", "5.4.1"),
        ("3.1-20221030-2", "3.1.post20221030"),
        ("0.0~git20241209.574b88d-2", "0.0.dev20241209"),
    ],
)
def test_a_pin_is_compared_in_its_authors_terms(pinned, version):
    """Debian's revisions say nothing about the version of the source."""
    assert audit.upstream(pinned) == Version(version)


def test_a_pin_that_is_no_version_is_malformed() -> None:
    with pytest.raises(audit.Malformed, match=r"^pin version 'newest' cannot be read$"):
        audit.upstream("newest")
