"""What a node sees of the services it was granted: attributes of a module that ask the host."""

from __future__ import annotations

import pytest

from cloche_wire import Ask, Reply

NODE = """
from cloche_guest import services

class Node:
    def process(self, source):
        return eval(source, {"services": services})
    async def aprocess(self, source):
        value = eval(source, {"services": services})
        return await value if hasattr(value, "__await__") else value
"""
NAMES = [True, ["lookup", "store"]]


@pytest.fixture
def node(bench):
    """A loaded node that evaluates what it is sent."""
    bench.load(NODE)
    return bench


def failure(bench, source):
    kind, value = bench.send(2, source)
    assert kind is Reply.FAILURE
    return value["type"], value["message"]


def test_a_service_is_an_attribute_that_asks(node):
    """The names are asked for once, then each call is one request."""
    node.answers = [NAMES, [True, 42], [True, 43]]
    assert node.process("services.lookup('x', n=3)") == 42
    assert node.process("services.lookup('y')") == 43
    assert node.asked == [
        [Ask.SERVICES],
        [Ask.SERVICE, "lookup", ["x"], {"n": 3}],
        [Ask.SERVICE, "lookup", ["y"], {}],
    ]
    assert all(type(request[0]) is int for request in node.asked)


def test_a_service_can_be_awaited(node):
    """For code that is written with async and await."""
    node.answers = [NAMES, [True, 42]]
    assert node.process("services.lookup.acall('x')") == 42


def test_a_service_can_be_imported_by_name(bench):
    """As a function of any module is."""
    bench.answers = [NAMES, [True, 1], [True, 2]]
    bench.load(
        "from cloche_guest.services import lookup, store\nstarted = lookup()\ndef f(x): return started, store(x)", "f"
    )
    assert bench.process(5) == (1, 2)


def test_an_unknown_service_names_what_is_granted(node):
    """As early as the attribute is looked up."""
    node.answers = [NAMES]
    assert failure(node, "services.lokup(1)") == ("AttributeError", "no service 'lokup': granted are lookup, store")


def test_without_services_the_message_says_who_can_grant_them(node):
    """The author of the node is told what to ask for."""
    kind, message = failure(node, "services.lookup(1)")
    assert kind == "AttributeError" and "none is granted" in message and "Grants(services=" in message
    assert node.process("dir(services)") == node.process("sorted(dir(services))")


def test_dir_lists_the_services(node):
    """For whoever explores."""
    node.answers = [NAMES]
    assert {"lookup", "store"} <= set(node.process("dir(services)"))


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (["ValueError", "no"], "ValueError", "no"),
        (["PermissionError", "not you"], "PermissionError", "not you"),
        (["SystemExit", "no"], "RuntimeError", "no"),
        (["__import__", "no"], "RuntimeError", "no"),
        (["Exception", "no"], "Exception", "no"),
    ],
)
def test_a_refusal_is_raised_as_a_builtin_exception(node, answer, kind, message):
    """And as no other: the host cannot end the guest through it."""
    node.answers = [NAMES, [False, answer]]
    assert failure(node, "services.lookup(1)") == (kind, message)


def test_an_errno_is_raised_as_an_oserror(node):
    """What file operations answer with."""
    node.answers = [NAMES, [False, 2]]
    assert failure(node, "services.lookup(1)")[0] == "FileNotFoundError"


def test_the_traceback_ends_in_the_nodes_own_line(node):
    """What lies between the node and the host is no concern of its author."""
    node.answers = [NAMES, [False, ["ValueError", "no"]]]
    _, value = node.send(2, "services.lookup(1)")
    assert [frame[2] for frame in value["frames"]] == ["aprocess", "<module>"]


def test_a_service_that_is_not_granted_any_more_says_so(node):
    """A restored node may have other grants than it had."""
    node.answers = [NAMES, [True, 1], None]
    assert node.process("services.lookup(1)") == 1
    kind, message = failure(node, "services.lookup(1)")
    assert kind == "LookupError" and "no service 'lookup'" in message


def test_a_test_can_put_functions_in_their_place(node, monkeypatch):
    """The way in which authors of nodes test code that calls services."""
    from cloche_guest import services

    monkeypatch.setattr(services, "lookup", lambda x: x + 1, raising=False)
    assert node.process("services.lookup(1)") == 2
    assert node.asked == []


def test_private_names_are_not_asked_for(node):
    """copy, pickle and inspect look for many of them."""
    assert failure(node, "services._x")[0] == "AttributeError"
    assert node.asked == []
