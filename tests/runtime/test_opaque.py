"""Objects of any class go from one sandbox to another, under a grant, and are never unpickled on the host."""

from __future__ import annotations

import pickle

import pytest

import cloche

pytestmark = pytest.mark.isolation("none", reason="the codec is the same for both")

MAKER = """
class Model:
    def __init__(self, w): self.w = w
    def apply(self, x): return self.w * x
def N(x):
    if x == "lambda":
        return lambda y: y + 1000
    if x == "nested":
        return {"models": [Model(1), Model(2)], "plain": 3}
    if x == "generator":
        return (i for i in range(3))
    return Model(x)
"""
USER = """
def N(given):
    if callable(given):
        return given(1)
    if isinstance(given, dict):
        return [m.apply(10) for m in given["models"]]
    return [type(given).__name__, given.apply(10) if hasattr(given, "apply") else None]
"""
OPAQUE = cloche.Grants(opaque=True)


def test_custom_object_travels(load):
    """Its class comes along: the other sandbox has never heard of it."""
    maker, user = load(MAKER, "N", grants=OPAQUE), load(USER, "N", grants=OPAQUE)
    sealed = maker.process(7)
    assert type(sealed) is cloche.Opaque
    assert user.process(sealed) == ["Model", 70]


def test_closures_and_nested_objects_travel(load):
    """Through cloudpickle; plain parts stay plain."""
    maker, user = load(MAKER, "N", grants=OPAQUE), load(USER, "N", grants=OPAQUE)
    assert user.process(maker.process("lambda")) == 1001
    given = maker.process("nested")
    assert given["plain"] == 3
    assert [type(model) for model in given["models"]] == [cloche.Opaque] * 2
    assert user.process(given) == [10, 20]


def test_without_the_grant_the_object_is_refused(load):
    """Deny by default, naming the path."""
    with pytest.raises(cloche.NodeRaisedError, match=r"result.*Model"):
        load(MAKER, "N").process(7)


def test_receiver_without_the_grant_gets_bytes_only(load):
    """It can pass them on, and nothing else."""
    sealed = load(MAKER, "N", grants=OPAQUE).process(7)
    assert load(USER, "N").process(sealed) == ["Opaque", None]


def test_host_never_unpickles(load, monkeypatch):
    """Not even by accident."""

    def never(*_args, **_kwargs):
        raise AssertionError("unpickled on the host")

    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    maker, user = load(MAKER, "N", grants=OPAQUE), load(USER, "N", grants=OPAQUE)
    assert user.process(maker.process(1)) == ["Model", 10]


def test_changed_bytes_are_refused(load):
    """The digest is checked where they would be unpickled."""
    sealed = load(MAKER, "N", grants=OPAQUE).process(7)
    changed = cloche.Opaque(sealed.digest, sealed.data[:-1] + b"x")
    with pytest.raises(cloche.NodeRaisedError, match="changed on its way"):
        load(USER, "N", grants=OPAQUE).process(changed)


def test_hostile_pickle_hits_the_sandbox_only(load, tmp_path):
    """Unpickling runs code: in there."""
    evil = load(
        "import os\nclass E:\n    def __reduce__(self): return (os._exit, (3,))\ndef N(x): return E()\n",
        "N",
        grants=OPAQUE,
    )
    victim = load(USER, "N", grants=OPAQUE)
    with pytest.raises(cloche.GuestExitError):
        victim.process(evil.process(0))


def test_what_cannot_be_pickled_says_so(load):
    """A generator, for instance."""
    node = load("import threading\ndef N(x): return threading.Lock()\n", "N", grants=OPAQUE)
    with pytest.raises(cloche.NodeRaisedError, match="nor can it be pickled"):
        node.process(0)
