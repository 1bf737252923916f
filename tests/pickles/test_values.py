"""Public values are plain data: they are pickled and copied whole. Handles say what to pickle instead."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche.testing import LocalGuest

from .samples import HANDLES, NEITHER, VALUES, facts, grants, public_classes, snapshot

WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}

IDENTICAL = {"Array", "Profile", "ProfiledCall", "SampledProfile"}
"""Two of these are equal only if they are the same object."""

CHANGING = {"StageCounts"}
"""These change, and so have no hash."""


def test_every_public_class_has_a_place_in_the_table() -> None:
    """A new class is pickled, or is named as a handle, or there is a reason why it is neither."""
    named = {kind.__name__ for kind in public_classes() if not issubclass(kind, BaseException)}
    assert named == {*VALUES, *HANDLES, *NEITHER}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_arrives_as_it_was(name: str, way: str) -> None:
    value = VALUES[name]()
    made = WAYS[way](value)
    assert type(made) is type(value)
    assert facts(made) == facts(value)
    if name not in IDENTICAL:
        assert made == value


@pytest.mark.parametrize("name", [name for name in VALUES if name not in {*IDENTICAL, *CHANGING, "Modules"}])
def test_equal_values_have_equal_hashes(name: str) -> None:
    """Values that never change can be keys, whatever their fields hold."""
    assert hash(VALUES[name]()) == hash(VALUES[name]())
    assert VALUES[name]() == VALUES[name]()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HANDLES)
def test_a_handle_says_what_to_pickle_instead(runtime: cloche.Runtime, name: str, way: str) -> None:
    """The alternative would be an address of this process in another one, or "cannot pickle '_thread.lock' object"."""
    source = cloche.Source("def f(x): return x")
    made: dict[str, Callable[[], Any]] = {
        "Node": lambda: runtime.load(source),
        "LocalGuest": lambda: LocalGuest(source),
        "Pool": lambda: runtime.pool(source, size=1),
        "Runtime": lambda: runtime,
        "MemoryStore": cloche.parking.MemoryStore,
        "Sessions": lambda: cloche.parking.Sessions(runtime, runtime.load(source)),
        "Budget": lambda: cloche.Budget(calls_per_s=1),
        "Pipeline": lambda: cloche.Pipeline([cloche.NodeSpec(source)]),
    }
    thing = made[name]()
    try:
        with pytest.raises(TypeError) as caught:
            WAYS[way](thing)
        assert str(caught.value).startswith(HANDLES[name])
    finally:
        if hasattr(thing, "close") and thing is not runtime:
            thing.close()


def test_what_the_message_recommends_works(runtime: cloche.Runtime) -> None:
    """The snapshot of a node goes through a pickle, and the node goes on from it with its state."""
    source = cloche.Source("class N:\n n = 0\n def process(self, x):\n  self.n += x\n  return self.n\n")
    with runtime.load(source) as node:
        node.process(5)
        sent = pickle.dumps(node.snapshot())
    with runtime.restore(pickle.loads(sent)) as node:
        assert node.process(2) == 7


def test_a_service_that_cannot_be_pickled_is_named() -> None:
    granted = cloche.Grants(services={"add": lambda number: number + 1})
    with pytest.raises(
        TypeError, match=r"Grants\.services\['add'\] cannot be pickled .*: define the function at the top of a module"
    ):
        pickle.dumps(granted)
    assert copy.deepcopy(granted) == granted


def test_a_gate_that_cannot_be_pickled_is_named() -> None:
    granted = cloche.Grants(services={"length": cloche.Service(len, gate=lambda call: True)})
    with pytest.raises(TypeError, match=r"Grants\.services\['length'\] cannot be pickled"):
        pickle.dumps(granted)


def test_a_pickled_service_still_checks_its_arguments() -> None:
    """Its binder is made anew."""
    service = pickle.loads(pickle.dumps(grants())).services["gated"]
    service.binder.check([3], {})
    with pytest.raises(TypeError, match="number"):
        service.binder.check(["three"], {})


def test_grants_arrive_ready_for_use(runtime: cloche.Runtime) -> None:
    granted = pickle.loads(pickle.dumps(cloche.Grants(services={"size": len}, env={"A": "set"}, seed=7)))
    source = cloche.Source(
        "import os\nfrom cloche_guest import services\ndef f(x): return [os.environ['A'], services.size(x)]\n"
    )
    with runtime.load(source, grants=granted) as node:
        assert node.process("four") == ["set", 4]


def test_a_repr_shows_no_secrets() -> None:
    """Reprs end up in logs. Names are shown, so that one sees what is granted."""
    shown = repr(grants())
    assert "hidden word" not in shown
    assert "hidden seed" not in shown
    assert "env={'TOKEN': <hidden>}" in shown
    assert "seed=<hidden>" in shown
    assert repr(cloche.Grants()) == "Grants()"
    assert "seed=<hidden>" in repr(cloche.Grants(seed=0))


@pytest.mark.parametrize("env", [{"TOKEN": b"hidden word"}, {"TOKEN": "hidden word\udc80"}, [("TOKEN", "hidden word")]])
def test_a_refusal_shows_no_secrets(env: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        cloche.Grants(env=env)
    assert "hidden word" not in str(caught.value)


def test_a_repr_of_a_snapshot_is_short() -> None:
    """Its state may be megabytes."""
    assert len(repr(snapshot())) < 500


def test_a_pickled_snapshot_is_checked() -> None:
    """Its bytes have a digest."""
    data = bytearray(pickle.dumps(snapshot()))
    at = data.index(b"cloche container") + 60
    data[at] ^= 1
    with pytest.raises(cloche.ClocheError, match="truncated or altered"):
        pickle.loads(bytes(data))
