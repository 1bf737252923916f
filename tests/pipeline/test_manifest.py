"""Manifests in three formats; each fault is told with its line and field; nothing runs natively because a manifest says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.pipeline import CircuitBreaker, PlacementError, Restore, Retry
from cloche.pipeline.manifest import Manifest, ManifestError, load, loads
from cloche.pipeline.plan import PlannedNode, Policy, plan
from cloche.pipeline.registry import NodeType, Registry

JSON = """{
  "version": "v1",
  "metadata": {"name": "speech"},
  "nodes": [
    {"id": "a", "node_type": "Double", "params": {"by": 3}},
    {"id": "b", "node_type": "Sum",
     "limits": {"deadline_s": 0.5},
     "on_error": {"retry": 2, "then": "restore"},
     "breaker": {"failures": 3}}
  ],
  "connections": [{"from": "a", "to": "b"}]
}"""
YAML = """version: v1
metadata: {name: speech}
nodes:
  - id: a
    node_type: Double
    params: {by: 3}
  - id: b
    node_type: Sum
    limits: {deadline_s: 0.5}
    on_error: {retry: 2, then: restore}
    breaker: {failures: 3}
connections:
  - {from: a, to: b}
"""
TOML = """version = "v1"
metadata = {name = "speech"}

[[nodes]]
id = "a"
node_type = "Double"
params = {by = 3}

[[nodes]]
id = "b"
node_type = "Sum"
on_error = {retry = 2, then = "restore"}
breaker = {failures = 3}
[nodes.limits]
deadline_s = 0.5

[[connections]]
from = "a"
to = "b"
"""
TEXTS = {"json": JSON, "yaml": YAML, "toml": TOML}


def double(x: int) -> int:
    return 2 * x


REGISTRY = Registry(
    {"Double": double, "Sum": NodeType(cloche.Source("class Sum: ..."), "Sum", {"first": 1})}, installed=False
)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_manifest_reads_the_same_in_each_format(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / f"pipeline.{kind}"
    path.write_text(TEXTS[kind])
    manifest = load(path)
    assert manifest == loads(JSON)
    first, second = manifest.specs(REGISTRY)
    assert (first.id, first.source, first.params) == ("a", double, {"by": 3})
    assert (second.entry, second.params, second.limits) == ("Sum", {"first": 1}, cloche.Limits(deadline_s=0.5))
    assert second.on_error == Retry(2, then=Restore())
    assert second.breaker == CircuitBreaker(failures=3)


FAULTS = {
    "json": [
        ('"version": "v1"', '"version": "v2"', 2, "version"),
        ('"id": "a"', '"id": "a b"', 5, "nodes[0].id"),
        ('"node_type": "Sum"', '"node_typ": "Sum"', 6, "nodes[1].node_type"),
        ("0.5}", "-1}", 7, "nodes[1].limits"),
        ('"failures": 3', '"failures": 0', 9, "nodes[1].breaker.failures"),
        ('"to": "b"', '"to": 3', 11, "connections[0].to"),
        ('"to": "b"', '"to": "c"', 1, "the document"),
        ('"from": "a", "to": "b"', '"from": "b", "to": "b"', 1, "the document"),
    ],
    "yaml": [
        ("version: v1", "version: v2", 1, "version"),
        ("id: a", "id: a b", 4, "nodes[0].id"),
        ("failures: 3", "failures: 0", 11, "nodes[1].breaker.failures"),
        ("to: b}", "to: 3}", 13, "connections[0].to"),
    ],
    "toml": [
        ('version = "v1"', 'version = "v2"', 1, "version"),
        ('id = "a"', 'id = "a b"', 5, "nodes[0].id"),
        ("failures = 3", "failures = 0", 13, "nodes[1].breaker.failures"),
        ("deadline_s = 0.5", "deadline_s = -1", 14, "nodes[1].limits"),
        ('to = "b"', "to = 3", 19, "connections[0].to"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "line", "field"), [(kind, *fault) for kind, faults in FAULTS.items() for fault in faults]
)
def test_a_fault_is_told_with_its_line_and_field(kind: Any, right: str, wrong: str, line: int, field: str) -> None:
    pytest.importorskip("yaml")
    assert right in TEXTS[kind]
    with pytest.raises(ManifestError) as caught:
        loads(TEXTS[kind].replace(right, wrong, 1), kind, "my.file")
    assert (line, field) in [fault[:2] for fault in caught.value.faults]
    assert f"my.file:{line}: {field}: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "json"),
        ("[", "json"),
        ("{", "yaml"),
        ("a = ", "toml"),
        ("[" * 100_000, "json"),
        ('{"a": 1, "a": 2}', "json"),
        ("3", "json"),
    ],
)
def test_what_is_no_document_is_refused(text: str, kind: Any) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(ManifestError):
        loads(text, kind)


def manifest(**node: Any) -> Manifest:
    content = json.loads(JSON)
    content["nodes"][0] |= node
    return loads(json.dumps(content))


def first(given: Manifest, policy: Policy | None = None) -> PlannedNode:
    return plan(given, policy, registry=REGISTRY)[0]


def test_a_sandbox_is_the_default() -> None:
    planned = first(manifest())
    assert (planned.spec.placement, planned.asked, planned.why) == ("wasm", "wasm", "the default")
    assert first(manifest(runtime_hint="rust_python")).spec.placement == "wasm"
    planned = first(manifest(host="gpu-box"))
    assert planned.warnings == ("host 'gpu-box' is for a cluster: without one (--on) the node runs on this machine",)
    assert planned.spec.host == "gpu-box"


@pytest.mark.parametrize("node", [{"runtime_hint": "cpython"}, {"execution": {"placement": "process"}}])
def test_a_manifest_alone_gets_nothing_out_of_its_sandbox(node: dict[str, Any]) -> None:
    with pytest.raises(PlacementError, match="--allow-native a"):
        first(manifest(**node))
    with pytest.raises(PlacementError, match="--allow-native a"):
        first(manifest(**node), Policy(allow_native=frozenset({"b"}), fallback=("native",)))
    assert first(manifest(**node), Policy(allow_native=frozenset({"a"}))).spec.placement in ("native", "process")


def test_what_was_to_be_sandboxed_is_never_run_elsewhere_unasked() -> None:
    needy = {"capabilities": {"gpu": {"type": "cuda"}}}
    with pytest.raises(PlacementError, match="needs a GPU, and a sandbox has none"):
        first(manifest(**needy), Policy(allow_native=True, fallback=("native",)))  # the manifest names no fallback
    needy["execution"] = {"fallback": ["native"]}
    with pytest.raises(PlacementError, match="needs a GPU"):
        first(manifest(**needy), Policy(allow_native=True))  # whoever runs it allows none
    with pytest.raises(PlacementError, match="needs a GPU"):
        first(manifest(**needy), Policy(fallback=("native",)))  # nor native nodes
    planned = first(manifest(**needy), Policy(allow_native=True, fallback=("native",)))
    assert planned.spec.placement == "native"
    assert "not as 'wasm': it needs a GPU" in planned.warnings[0]


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ({"memory_gb": 100}, "needs 100 GiB of memory, and a sandbox has at most 4 GiB"),
        ({"cpu": {"cores": 10_000}}, "needs 10000 processors"),
    ],
)
def test_needs_are_checked_before_the_start(needs: dict[str, Any], text: str) -> None:
    with pytest.raises(PlacementError, match=text):
        first(manifest(capabilities=needs))
    assert (
        first(manifest(capabilities={"memory_gb": 0.1, "cpu": {"cores": 1}, "gpu": {"required": False}})).spec.placement
        == "wasm"
    )


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(cloche.ClocheError, match="did you mean 'Double'"):
        first(manifest(node_type="Duble"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("yaml", "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)), id="aliases of aliases"),
        pytest.param("json", "[\n" + "[],\n" * 100_000 + "[]]", id="many values"),
        pytest.param("json", "[" * 100_000, id="deep"),
        pytest.param("yaml", "[" * 200_000, id="deep in YAML"),
        pytest.param("toml", "a = '''\n[" + " " * 1_000_000 + "\n'''", id="a long line"),
        pytest.param("toml", "a = '''\n" + "[[a.b]]\n" * 30_000 + "'''", id="what looks like tables"),
    ],
)  # fmt: skip
def test_a_hostile_document_is_refused_in_time(kind: Any, text: str) -> None:
    """A few kilobytes must not keep the reader for hours: the test's own time limit is the measure."""
    with pytest.raises(ManifestError):
        loads(text, kind)
