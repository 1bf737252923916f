"""What is downloaded is what was pinned, or it is not kept."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from imagebuild import fetch
from imagebuild.pins import Pin

BODY = b"the file"


def pin(source: str, body: bytes = BODY, *, optional: bool = False) -> Pin:
    return Pin("thing", "1", source, hashlib.sha256(body).hexdigest(), "source", "MIT", optional)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Debian mirror and a package index on this machine; the folder that they serve."""
    root = tmp_path / "served"
    (root / "pool/main/t/thing").mkdir(parents=True)
    (root / "pool/main/t/thing/thing_1.deb").write_bytes(BODY)
    (root / "simple/thing").mkdir(parents=True)
    (root / "thing-1.whl").write_bytes(BODY)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    address = f"http://127.0.0.1:{server.server_port}"
    files = [{"filename": "thing-1.whl", "url": "../../thing-1.whl"}]
    (root / "simple/thing/index.html").write_text(json.dumps({"files": files}), "utf-8")
    monkeypatch.setenv("CLOCHE_DEBIAN_MIRRORS", f"{address}/absent {address}")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    monkeypatch.setenv("no_proxy", "*")
    fetch.apt_mirrors.cache_clear()
    fetch.pip_indexes.cache_clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root
    server.shutdown()
    thread.join()
    server.server_close()
    fetch.apt_mirrors.cache_clear()
    fetch.pip_indexes.cache_clear()


@pytest.mark.parametrize("source", ["debian:t/thing/thing_1.deb", "pypi:thing/thing-1.whl"])
def test_a_file_comes_from_where_the_machine_is_set_up(mirror: Path, tmp_path: Path, source: str) -> None:
    """The first mirror that has it wins; nothing but the verified file stays."""
    folder = tmp_path / "downloads"
    assert fetch.fetch([pin(source)], folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {source.rsplit("/", 1)[1]: BODY}


def test_both_forms_of_an_index_are_understood() -> None:
    """Older mirrors answer HTML (PEP 503), newer ones JSON (PEP 691)."""
    page = '<a data-x="1" href="../../p/a%2Bb-1.whl#sha256=00">a</a><a href="/q/a-1.whl?x=1&amp;y=2">b</a><a href=xa-1.whl>'
    assert fetch.links(page, "a+b-1.whl") == ["../../p/a%2Bb-1.whl#sha256=00"]
    assert fetch.links(page, "a-1.whl") == ["/q/a-1.whl?x=1&y=2"]
    assert fetch.links(json.dumps({"files": [{"filename": "a-1.whl", "url": "u"}]}), "a-1.whl") == ["u"]


def test_a_file_that_differs_is_not_kept(mirror: Path, tmp_path: Path) -> None:
    """A mirror that answers something else must not reach the build."""
    with pytest.raises(fetch.FetchError, match="wrong sha256"):
        fetch.fetch([pin("debian:t/thing/thing_1.deb", b"another")], tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_damaged_copy_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    """An interrupted disk or a curious user must not poison the cache for good."""
    damaged = tmp_path / "downloads/thing_1.deb"
    damaged.parent.mkdir()
    damaged.write_bytes(b"the fil")
    fetch.fetch([pin("debian:t/thing/thing_1.deb")], damaged.parent)
    assert damaged.read_bytes() == BODY


def test_a_verified_copy_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a filled cache the build works offline."""
    monkeypatch.setenv("CLOCHE_DEBIAN_MIRRORS", "file:///nonexistent")
    fetch.apt_mirrors.cache_clear()
    (tmp_path / "thing_1.deb").write_bytes(BODY)
    assert fetch.fetch([pin("debian:t/thing/thing_1.deb")], tmp_path) == []
    fetch.apt_mirrors.cache_clear()


def test_an_optional_file_may_be_gone(mirror: Path, tmp_path: Path) -> None:
    """A point release of Debian replaces its patches; the build says so and goes on."""
    gone = pin("debian:t/thing/thing_2.deb", optional=True)
    assert fetch.fetch([gone], tmp_path / "downloads") == [gone]
    with pytest.raises(fetch.FetchError, match="thing_2"):
        fetch.fetch([pin("debian:t/thing/thing_2.deb")], tmp_path / "downloads")
