"""Downloads pins into the cache and verifies them. Nothing else in the build touches the network.

Debian's files come from the mirrors that apt is set up with, PyPI's from the index that pip is set up with. A file
whose sha256 is not the pinned one is never kept.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

from imagebuild.pins import Pin

TIMEOUT_S = 120


class FetchError(Exception):
    """A pinned file cannot be fetched. The message says which addresses were tried, and what to do."""


def fetch(pins: Iterable[Pin], folder: Path) -> list[Pin]:
    """Make sure that every pin lies in `folder`, verified.

    Returns:
        The optional pins that could not be fetched.

    Raises:
        FetchError: a pin that is not optional could not be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [pin for pin in pins if not is_good(folder / pin.filename, pin)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda pin: (pin, _get(pin, folder)), wanted))
    if failed := [f"{pin.name} ({pin.source}): {why}" for pin, why in results if why and not pin.optional]:
        raise FetchError("cannot fetch\n  " + "\n  ".join(failed))
    return [pin for pin, why in results if why]


def is_good(path: Path, pin: Pin) -> bool:
    """Whether the file is there and has the pinned sha256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256
    except FileNotFoundError:
        return False


def _get(pin: Pin, folder: Path) -> str:
    """Download one file. Returns why that failed, or an empty text."""
    part = folder / f"{pin.filename}.{os.getpid()}.part"
    problems: list[str] = []
    try:
        for url in _addresses(pin, problems):
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, part.open("wb") as file:
                    while block := reply.read(1 << 20):
                        file.write(block)
            except (OSError, HTTPException) as error:
                problems.append(f"{url}: {error}")
                continue
            if is_good(part, pin):
                part.replace(folder / pin.filename)
                return ""
            problems.append(f"{url}: wrong sha256, expected {pin.sha256}")
    except FetchError as error:
        problems.append(str(error))
    finally:
        part.unlink(missing_ok=True)
    return "; ".join(problems) or "no index or mirror knows it"


def _addresses(pin: Pin, problems: list[str]) -> Iterator[str]:
    kind, _, where = pin.source.partition(":")
    if kind == "debian":
        for mirror in apt_mirrors():
            yield f"{mirror}/pool/main/{urllib.parse.quote(where)}"
        return
    project, filename = where.split("/")
    for index in pip_indexes():
        page = f"{index.rstrip('/')}/{project}/"
        request = urllib.request.Request(
            page, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                listing = reply.read().decode("utf-8")
        except (OSError, HTTPException, ValueError) as error:
            problems.append(f"{page}: {error}")
            continue
        yield from (urllib.parse.urljoin(page, link) for link in links(listing, filename))


def links(listing: str, filename: str) -> list[str]:
    """Where a project's page of a package index (PEP 503, PEP 691) says that a file is."""
    try:
        return [file["url"] for file in json.loads(listing)["files"] if file["filename"] == filename]
    except ValueError:
        found = (html.unescape(link) for link in re.findall(r"""<a\s[^>]*?href=["']([^"']+)["']""", listing))
        return [
            link for link in found if urllib.parse.unquote(urllib.parse.urlsplit(link).path).endswith(f"/{filename}")
        ]


@lru_cache(1)
def apt_mirrors() -> tuple[str, ...]:
    """Debian mirrors: $CLOCHE_DEBIAN_MIRRORS (separated by spaces), else apt's own list."""
    if own := os.environ.get("CLOCHE_DEBIAN_MIRRORS", "").split():
        return tuple(mirror.rstrip("/") for mirror in own)
    try:
        command = ["apt-get", "indextargets", "--format", "$(SITE)"]
        sites = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise FetchError(
            f"apt-get names no Debian mirror ({error}); set CLOCHE_DEBIAN_MIRRORS to the address of one"
        ) from error
    if not sites:
        raise FetchError("apt is set up with no mirror; set CLOCHE_DEBIAN_MIRRORS to the address of one")
    return tuple(dict.fromkeys(site.rstrip("/") for site in sites))


@lru_cache(1)
def pip_indexes() -> tuple[str, ...]:
    """Package indexes: those that pip is set up with, or pip's default."""
    listing = _pip("config", "list")
    settings: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        settings[key.rsplit(".", 1)[-1]] = value.strip().strip("'\"")
    default = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    first = settings.get("index-url") or _python(default)
    more = settings.get("extra-index-url", "").replace("\\n", " ").split()
    return tuple(dict.fromkeys(index for index in [first, *more] if index.startswith(("http:", "https:"))))


def _pip(*arguments: str) -> str:
    return _run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _python(code: str) -> str:
    return _run([sys.executable, "-c", code]).strip()


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise FetchError(f"pip is needed to find the package index: {error.stderr.strip()[-300:]}") from error
