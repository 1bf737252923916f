"""Compares every pinned version with the known advisories in tools/advisories.toml, and says what to bump.

It looks nothing up: somebody reads the sources of advisories and writes down what was found, and this gate makes sure that
nobody forgets. A pin that is new or changed fails until its package has been reviewed again.

Exit codes: 0, every pin is reviewed and every advisory that concerns it is explained; 1, something is left to do; 2, the
list is malformed.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

TREE = Path(__file__).resolve().parents[1]
SEVERITIES = ("unknown", "low", "medium", "high", "critical")
STATUSES = {
    "patched": "the pinned sources carry the fix",
    "not affected": "Cloche has no use of the faulty part",
    "contained": "a node may be harmed by its own input, inside its sandbox and its limits; the host is not",
    "affected": "the host, or another node, may be harmed",
}
_ID = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(-[23456789cfghjmpqrvwx]{4}){3}")


class Malformed(Exception):
    """The list of advisories, or a pin, is not what it has to be; the message says where."""


@dataclass(frozen=True)
class Review:
    """A package whose advisories somebody has read.

    Attributes:
        name: of the package.
        version: the pinned version that was reviewed, in the pin's own spelling.
        reviewed: when.
        within: for a library inside another package's sources: that package and its version.
    """

    name: str
    version: str
    reviewed: datetime.date
    within: tuple[str, str] | None


@dataclass(frozen=True)
class Advisory:
    """One known fault.

    Attributes:
        id: CVE or GHSA.
        package: that has it.
        title: what it is.
        affected: sets of versions; a version in any of them has the fault.
        fixed: the version to go to; "" if there is none yet.
        severity: as published, one of SEVERITIES; "unknown" if the reviewer did not see it.
        status: what it means for Cloche, one of STATUSES; "" if nobody has judged it yet.
        because: the reason for the status.
        reviewed: when it was judged.
    """

    id: str
    package: str
    title: str
    affected: tuple[SpecifierSet, ...]
    fixed: str
    severity: str
    status: str
    because: str
    reviewed: datetime.date

    def concerns(self, version: Version) -> bool:
        """Whether a version has the fault."""
        return any(each.contains(version, prereleases=True) for each in self.affected)


@dataclass(frozen=True)
class Known:
    """The list of advisories, checked."""

    reviews: dict[str, Review]
    advisories: list[Advisory]


def upstream(version: str) -> Version:
    """A pin's version in the terms of its authors: without Debian's epoch, revision and repacking.

    Raises:
        Malformed: it is no version.
    """
    text = version.split(":", 1)[-1]
    text = re.sub(r"-[^-]*$", "", text)
    text = re.sub(r"~git(\d+).*", r".dev\1", text)
    text = re.sub(r"[.+]dfsg.*", "", text)
    try:
        return Version(text)
    except InvalidVersion as error:
        raise Malformed(f"pin version {version!r} cannot be read") from error


def read_list(path: Path) -> Known:
    """Read and check the list.

    Raises:
        Malformed: it cannot be read, or an entry lacks something, has something unknown, or contradicts another.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Malformed(f"{path.name}: {error}") from error
    if unknown := found.keys() - {"package", "advisory"}:
        raise Malformed(f"{path.name}: unknown table {min(unknown)}")
    reviews: dict[str, Review] = {}
    for entry in found.get("package", []):
        for review in _reviews(entry):
            if review.name in reviews:
                raise Malformed(f"package {review.name}: comes twice")
            reviews[review.name] = review
    advisories = [_advisory(entry, reviews) for entry in found.get("advisory", [])]
    seen: set[tuple[str, str]] = set()
    for advisory in advisories:
        if (advisory.id, advisory.package) in seen:
            raise Malformed(f"advisory {advisory.id}: comes twice for {advisory.package}")
        seen.add((advisory.id, advisory.package))
    return Known(reviews, advisories)


def _take(entry: Any, where: str, wanted: dict[str, type], optional: dict[str, type]) -> None:
    """Check an entry's keys and their types."""
    if not isinstance(entry, dict):
        raise Malformed(f"{where}: not a table")
    for key, kind in (wanted | optional).items():
        if key not in entry:
            if key in wanted:
                raise Malformed(f"{where}: {key} is missing")
        elif type(entry[key]) is not kind:  # a datetime is no date here
            raise Malformed(f"{where}: {key} is not a {kind.__name__}")
        elif key in wanted and not entry[key]:
            raise Malformed(f"{where}: {key} is empty")
    if unknown := entry.keys() - wanted.keys() - optional.keys():
        raise Malformed(f"{where}: unknown key {min(unknown)}")


def _reviews(entry: Any) -> Iterator[Review]:
    names: Any = entry.get("names") if isinstance(entry, dict) else None
    where = f"package {names[0]}" if isinstance(names, list) and names else "package"
    _take(
        entry,
        where,
        {"names": list, "version": str, "reviewed": datetime.date, "looked_at": str},
        {"within": str, "within_version": str},
    )
    if not all(isinstance(name, str) for name in names):
        raise Malformed(f"{where}: names are not all texts")
    within = None
    if "within" in entry or "within_version" in entry:
        if "within" not in entry or "within_version" not in entry:
            raise Malformed(f"{where}: within and within_version belong together")
        within = entry["within"], entry["within_version"]
    for name in names:
        yield Review(name, entry["version"], entry["reviewed"], within)


def _advisory(entry: Any, reviews: dict[str, Review]) -> Advisory:
    where = f"advisory {entry.get('id', '?')}" if isinstance(entry, dict) else "advisory"
    _take(
        entry,
        where,
        {"id": str, "package": str, "title": str, "affected": list, "severity": str, "reviewed": datetime.date},
        {"aliases": list, "fixed": str, "status": str, "because": str},
    )
    for name in (entry["id"], *entry.get("aliases", [])):
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise Malformed(f"{where}: {name!r} is neither a CVE nor a GHSA")
    if entry["severity"] not in SEVERITIES:
        raise Malformed(f"{where}: severity {entry['severity']!r} is none of {', '.join(SEVERITIES)}")
    status, because = entry.get("status", ""), entry.get("because", "")
    if status and status not in STATUSES:
        raise Malformed(f"{where}: status {status!r} is none of {', '.join(STATUSES)}")
    if status and not because:
        raise Malformed(f"{where}: a status needs a reason (because)")
    if entry["package"] not in reviews:
        raise Malformed(f"{where}: package {entry['package']} has no entry of its own")
    try:
        affected = tuple(SpecifierSet(each) for each in entry["affected"])
        fixed = entry.get("fixed", "")
        if fixed:
            Version(fixed)
    except (InvalidSpecifier, InvalidVersion, TypeError, AttributeError) as error:
        raise Malformed(f"{where}: {error}") from error
    return Advisory(
        entry["id"], entry["package"], entry["title"], affected, fixed, entry["severity"], status, because,
        entry["reviewed"],
    )  # fmt: skip


def read_pins(tree: Path) -> dict[str, str]:
    """Every version that this tree decides: name -> version.

    These are the pins of the image (wasm/pins.toml), the exact requirements of pyproject.toml, and the lowest versions that
    the library's own dependencies may have.

    Raises:
        Malformed: one of the files cannot be read.
    """
    try:
        project = tomllib.loads((tree / "pyproject.toml").read_text("utf-8"))
        files = tomllib.loads((tree / "wasm" / "pins.toml").read_text("utf-8"))["pin"]
        pins = {str(pin["name"]): str(pin["version"]) for pin in files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Malformed(f"the pins cannot be read: {error!r}") from error
    own = [Requirement(text) for text in project["project"].get("dependencies", [])]
    groups = [
        *project["project"].get("optional-dependencies", {}).values(),
        *project.get("dependency-groups", {}).values(),
    ]
    others = [Requirement(text) for group in groups for text in group if isinstance(text, str)]
    others += [Requirement(text) for text in project.get("build-system", {}).get("requires", [])]
    for requirement in own + others:
        for each in requirement.specifier:
            if each.operator in ("==", "===") or (each.operator in (">=", "~=") and requirement in own):
                name = requirement.name
                if pins.get(name, each.version) != each.version:
                    raise Malformed(f"{name} is pinned twice: {pins[name]} and {each.version}")
                pins[name] = each.version
    return pins


@dataclass(frozen=True)
class Explained:
    """An advisory that concerns a pin, and why it does no harm."""

    advisory: Advisory
    version: str


def audit(pins: dict[str, str], known: Known) -> tuple[list[str], list[Explained]]:
    """Compare pins with what is known.

    Returns:
        what is left to do, and what was found and explained.
    """
    findings: list[str] = []
    explained: list[Explained] = []
    for name, version in sorted(pins.items()):
        if (review := known.reviews.get(name)) is None:
            findings.append(f"{name} {version} was never reviewed: look for its advisories, and enter it as a package")
        elif review.version != version:
            findings.append(
                f"{name} {version} was not reviewed ({review.version} was, on {review.reviewed}): "
                f"look for its advisories, and update its entry"
            )
    for review in known.reviews.values():
        if review.within is None:
            if review.name not in pins:
                findings.append(f"{review.name} is pinned no longer: remove its entry and its advisories")
        elif pins.get(review.within[0]) != review.within[1]:
            findings.append(
                f"{review.name} was reviewed as a part of {review.within[0]} {review.within[1]}, but "
                f"{pins.get(review.within[0], 'nothing')} is pinned: look which version is in it now, and update its entry"
            )
    for advisory in known.advisories:
        review = known.reviews[advisory.package]
        pinned = review.version if review.within else pins.get(advisory.package)
        if pinned is None or not advisory.concerns(upstream(pinned)):
            continue
        if advisory.status in ("", "affected"):
            remedy = f"bump it to {advisory.fixed}" if advisory.fixed else "there is no fixed version yet"
            why = f": {advisory.because}" if advisory.because else ", and nobody has judged what that means"
            findings.append(
                f"{advisory.package} {pinned} has {advisory.id} ({advisory.severity}: {advisory.title}){why}; {remedy}"
            )
        else:
            explained.append(Explained(advisory, pinned))
    return findings, explained


def _report(explained: list[Explained], verbose: bool) -> Iterator[str]:
    """One line for each package with explained advisories, and with `verbose` one for each advisory."""
    packages: dict[str, list[Explained]] = {}
    for each in explained:
        packages.setdefault(each.advisory.package, []).append(each)
    for name, found in sorted(packages.items()):
        counts = [
            f"{sum(e.advisory.status == s for e in found)} {s}"
            for s in STATUSES
            if any(e.advisory.status == s for e in found)
        ]
        open_ = [e.advisory for e in found if e.advisory.status != "patched"]
        fixed = max((a.fixed for a in open_ if a.fixed), key=Version, default="")
        unfixed = sum(not a.fixed for a in open_)
        advice = f"; {fixed} has fixes" if fixed else ""
        advice += f"; {unfixed} without a fixed version" if unfixed else ""
        yield f"{name} {found[0].version}: {len(found)} known advisories, {', '.join(counts)}{advice}"
        if verbose:
            for e in found:
                yield f"  {e.advisory.id} {e.advisory.severity}: {e.advisory.title}"
                yield f"    {e.advisory.status}, because {e.advisory.because} ({e.advisory.reviewed})"


def main(arguments: list[str] | None = None) -> int:
    """Run the gate; answers the exit code."""
    parser = argparse.ArgumentParser(description="Compare the pins with the known advisories.")
    parser.add_argument("--tree", type=Path, default=TREE, help="the checkout to look at")
    parser.add_argument(
        "--list", type=Path, help="the list of advisories; default: tools/advisories.toml of the checkout"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show every advisory that concerns a pin, with its reason"
    )
    options = parser.parse_args(arguments)
    try:
        known = read_list(options.list or options.tree / "tools" / "advisories.toml")
        pins = read_pins(options.tree)
        findings, explained = audit(pins, known)
    except Malformed as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    for line in _report(explained, options.verbose):
        print(line)
    for finding in findings:
        print(f"audit: {finding}", file=sys.stderr)
    print(
        f"{len(pins)} pins, {len(known.advisories)} advisories: "
        + (f"{len(findings)} things to do" if findings else "all reviewed")
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
