"""A store of parked nodes in Ray's object store."""

from __future__ import annotations

from typing import Any

import pytest

import cloche
from cloche.parking import Sessions, Store

pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
from cloche.ray import ObjectStore  # after what it needs is known to be there

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


def test_it_is_a_store(shared: Any) -> None:
    """Bytes come back as they were put, the last ones under each key."""
    store = ObjectStore()
    assert isinstance(store, Store)
    assert store.get("a") is None and not store.contains("a")
    store.put("a", b"1" * 1000)
    store.put("b", b"")
    store.put("a", b"2" * 300_000)
    assert store.get("a") == b"2" * 300_000 and store.get("b") == b"" and len(store) == 2
    store.delete("a")
    store.delete("a")
    assert store.get("a") is None and store.contains("b")


def test_sessions_are_parked_in_it(shared: Any) -> None:
    """Each goes on where it was."""
    counter = cloche.Source("class N:\n n = 0\n def process(self, x):\n  self.n += x\n  return self.n\n", "n.py")
    store = ObjectStore()
    with cloche.Runtime() as runtime, Sessions(runtime, runtime.load(counter), live=1, store=store) as sessions:
        for step in (10, 1):
            for user in range(4):
                with sessions.node(f"user-{user}") as node:
                    assert node.process(step + user) == (10 + user if step == 10 else 11 + 2 * user)
        assert len(store) >= 3


def test_without_ray_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And starts no Ray by itself."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(cloche.ClocheError, match=r"call ray\.init, or open a cloche\.ray\.Cluster"):
        ObjectStore().put("a", b"1")
