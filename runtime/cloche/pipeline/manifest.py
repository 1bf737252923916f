"""`Manifest`: a pipeline as a document (version "v1") in JSON, YAML or TOML.

The models are pydantic's, so this module needs the extra ``cloche[pipeline]``. `Manifest.model_json_schema` is the JSON Schema; the
documentation has it as ``manifest-v1.schema.json``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloche.errors import ClocheError
from cloche.limits import Limits
from cloche.pipeline import _lines
from cloche.pipeline.graph import Graph
from cloche.pipeline.registry import Registry
from cloche.pipeline.spec import CircuitBreaker, Connection, NodeSpec, OnBreak, Retry

__all__ = [
    "Capabilities",
    "ConnectionModel",
    "Cpu",
    "Execution",
    "Gpu",
    "Manifest",
    "ManifestError",
    "Metadata",
    "NodeModel",
    "load",
    "loads",
]

_MOST_BYTES: Final = 16 << 20
_PLACES: Final = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


class ManifestError(ClocheError):
    """A manifest is malformed. The message has a line for each fault: file, line, field, and what is wrong with it.

    Attributes:
        faults: for each fault its line (0: unknown), its field, and what is wrong.
    """

    def __init__(self, message: str, faults: list[tuple[int, str, str]] | None = None) -> None:
        super().__init__(message)
        self.faults = faults or []


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


class Gpu(_Model):
    """A graphics processor that a node needs."""

    type: str = "any"
    min_memory_gb: Annotated[float, Field(ge=0)] = 0
    required: bool = True


class Cpu(_Model):
    """The processor that a node needs."""

    cores: Annotated[float, Field(gt=0)] = 1
    arch: str | None = None


class Capabilities(_Model):
    """What a node needs of the machine."""

    gpu: Gpu | None = None
    cpu: Cpu | None = None
    memory_gb: Annotated[float, Field(ge=0)] | None = None


class Execution(_Model):
    """Where a node asks to run. Whether it may is decided by whoever runs the pipeline."""

    placement: Literal["auto", "wasm", "process", "native", "inline"] = "auto"
    reason: str = ""
    fallback: list[Literal["wasm", "process", "native", "inline"]] = []


class LimitsModel(_Model):
    """Limits of a sandboxed node: those of `cloche.Limits` that differ from the default ones."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        Limits(**(self.model_extra or {}))
        return self


class RetryModel(_Model):
    """`cloche.pipeline.Retry`."""

    retry: Annotated[int, Field(ge=1)]
    backoff_s: Annotated[float, Field(ge=0, le=86400)] = 0.1
    then: Literal["fail", "skip", "dead_letter", "restore"] = "fail"


class BreakerModel(_Model):
    """`cloche.pipeline.CircuitBreaker`."""

    failures: Annotated[int, Field(ge=1)] = 5
    reset_s: Annotated[float, Field(ge=0, le=86400)] = 30.0


class NodeModel(_Model):
    """One node. ``node_type`` names a type of the registry, unless ``source`` names the file or package of the node's code."""

    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    node_type: str
    params: dict[str, Any] = {}
    is_streaming: bool = False
    capabilities: Capabilities | None = None
    host: str | None = None
    runtime_hint: Literal["rust_python", "cpython", "cpython_wasm", "auto"] = "auto"
    execution: Execution = Execution()
    source: str | None = None
    entry: str | None = None
    limits: LimitsModel | None = None
    on_error: Literal["fail", "skip", "dead_letter", "restore", "retry"] | RetryModel = "fail"
    on_break: OnBreak = "fail"
    breaker: BreakerModel | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    key: str | None = None
    batch: Annotated[int, Field(ge=1)] = 64
    queue: Annotated[int, Field(ge=1)] = 128
    inputs: list[str] = []


class ConnectionModel(_Model):
    """A connection of two nodes, or of ports of them: ``{"from": "vad.speech", "to": "mix.left"}``."""

    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]


class Metadata(_Model):
    """What a pipeline is."""

    name: str
    description: str = ""
    created_at: str | None = None


class Manifest(_Model):
    """A pipeline as a document."""

    version: Literal["v1"]
    metadata: Metadata
    nodes: Annotated[list[NodeModel], Field(min_length=1)]
    connections: list[ConnectionModel]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [node.id for node in self.nodes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two nodes have the id {name!r}")
        nodes = [NodeSpec(len, id=node.id, inputs=node.inputs) for node in self.nodes]
        Graph.of(nodes, [Connection(one.source, one.target) for one in self.connections])
        return self

    def specs(self, registry: Registry | None = None, folder: str | os.PathLike[str] = ".") -> list[NodeSpec]:
        """The nodes' specifications, with the placement "wasm" for each: `cloche.pipeline.plan` decides about others.

        Args:
            registry: what a ``node_type`` stands for; None: the types of installed packages.
            folder: where relative paths of sources begin.

        Raises:
            ClocheError: a node_type is unknown.
        """
        types = Registry() if registry is None else registry
        return [_spec(node, types, Path(folder)) for node in self.nodes]

    @property
    def edges(self) -> list[Connection]:
        """The connections."""
        return [Connection(one.source, one.target) for one in self.connections]


def _spec(node: NodeModel, registry: Registry, folder: Path) -> NodeSpec:
    if node.source is not None:
        source: Any = folder / node.source
        entry, params = node.entry or (node.node_type or None), dict(node.params)
    else:
        kind = registry.find(node.node_type)
        source, entry, params = kind.source, node.entry or kind.entry, {**(kind.params or {}), **node.params}
    rule: Any = node.on_error
    if isinstance(rule, RetryModel):
        then = NodeSpec(len, on_error=rule.then).on_error  # type: ignore[arg-type]  # a name is taken as well
        rule = Retry(rule.retry, rule.backoff_s, then=then)  # type: ignore[arg-type]  # no name is that of a Retry
    return NodeSpec(
        source,
        entry,
        params,
        id=node.id,
        limits=None if node.limits is None else Limits(**(node.limits.model_extra or {})),
        on_error=rule,
        on_break=node.on_break,
        breaker=None if node.breaker is None else CircuitBreaker(**node.breaker.model_dump()),
        workers=node.workers,
        key=node.key,
        batch=node.batch,
        queue=node.queue,
        inputs=node.inputs,
    )


def load(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest from a .json, .yaml or .toml file.

    Raises:
        ManifestError: it is malformed; the message names line and field of each fault.
        OSError: the file cannot be read.
    """
    file = Path(path)
    kind = _PLACES.get(file.suffix.lower())
    if kind is None:
        raise ManifestError(f"{file}: a manifest is a .json, .yaml or .toml file")
    if file.stat().st_size > _MOST_BYTES:
        raise ManifestError(f"{file} has more than {_MOST_BYTES} bytes")
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{file} is not in UTF-8: {error}") from None
    return loads(text, kind, str(file))  # type: ignore[arg-type]  # one of the kinds


def loads(text: str, kind: Literal["json", "yaml", "toml"] = "json", name: str = "<manifest>") -> Manifest:
    """Read a manifest from a text.

    Args:
        text: the document.
        kind: its format.
        name: what errors call it.

    Raises:
        ManifestError: it is malformed; the message names line and field of each fault.
    """
    read = {"json": _lines.json_lines, "yaml": _lines.yaml_lines, "toml": _lines.toml_lines}[kind]
    try:
        value, lines = read(text)
    except ImportError:
        raise ManifestError(f"{name}: YAML needs PyYAML: pip install 'cloche[pipeline]'") from None
    except RecursionError:
        raise ManifestError(f"{name} is nested too deep") from None
    except Exception as error:  # of whichever parser
        raise ManifestError(f"{name} is no {kind.upper()} document: {error}") from None
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        faults = [_fault(fault, lines) for fault in error.errors(include_url=False)]
        told = "\n".join(
            f"{name}:{line}: {field}: {text}" if line else f"{name}: {field}: {text}" for line, field, text in faults
        )
        raise ManifestError(f"the manifest is malformed\n{told}", faults) from None


def _fault(fault: Any, lines: dict[_lines.Path, int]) -> tuple[int, str, str]:
    path: _lines.Path = tuple(fault["loc"])
    line = next((lines[path[:length]] for length in range(len(path), -1, -1) if path[:length] in lines), 0)
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the document"
    return line, field, fault["msg"].removeprefix("Value error, ")
