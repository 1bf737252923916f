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
    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True, use_attribute_docstrings=True)


class Gpu(_Model):
    """A graphics processor that a node needs."""

    type: str = "any"
    """Which one; for whoever reads it."""
    min_memory_gb: Annotated[float, Field(ge=0)] = 0
    """GiB of its memory; for whoever reads it."""
    required: bool = True
    """Whether the node cannot do without. A sandbox has none."""


class Cpu(_Model):
    """The processor that a node needs."""

    cores: Annotated[float, Field(gt=0)] = 1
    """How many of them."""
    arch: str | None = None
    """Architecture that a native node needs, such as "x86_64"."""


class Capabilities(_Model):
    """What a node needs of the machine."""

    gpu: Gpu | None = None
    """The graphics processor."""
    cpu: Cpu | None = None
    """The processor."""
    memory_gb: Annotated[float, Field(ge=0)] | None = None
    """GiB of memory. A sandbox has at most 4."""


class Execution(_Model):
    """Where a node asks to run. Whether it may is decided by whoever runs the pipeline."""

    placement: Literal["auto", "wasm", "process", "native", "inline"] = "auto"
    """Where: see `NodeSpec.placement`. "auto": as `runtime_hint` says."""
    reason: str = ""
    """Why; shown by `cloche plan`."""
    fallback: list[Literal["wasm", "process", "native", "inline"]] = []
    """Places that would do as well, the best first. The caller must allow them, too."""


class LimitsModel(_Model):
    """Limits of a sandboxed node: those of `cloche.Limits` that differ from the default ones."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        Limits(**(self.model_extra or {}))
        return self


class RetryModel(_Model):
    """The node is called with the item again: `cloche.pipeline.Retry`."""

    retry: Annotated[int, Field(ge=1)]
    """How often the node is called again."""
    backoff_s: Annotated[float, Field(ge=0, le=86400)] = 0.1
    """Seconds before the first of these calls; twice as many before each further one."""
    then: Literal["fail", "skip", "dead_letter", "restore"] = "fail"
    """What becomes of an item that has failed each time."""


class BreakerModel(_Model):
    """When a node is not called any more: `cloche.pipeline.CircuitBreaker`."""

    failures: Annotated[int, Field(ge=1)] = 5
    """So many items in a row fail, and the node is not called any more."""
    reset_s: Annotated[float, Field(ge=0, le=86400)] = 30.0
    """After so many seconds it gets one item as a trial."""


class NodeModel(_Model):
    """One node. ``node_type`` names a type of the registry, unless ``source`` names the file or package of the node's code."""

    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    """The node's name in connections, logs and errors."""
    node_type: str
    """A type of the registry; with `source`, the name of the class or function in it."""
    params: dict[str, Any] = {}
    """Keyword arguments of `__init__`."""
    is_streaming: bool = False
    """Whether the node takes a stream; for whoever reads it: Cloche sees it in the code."""
    capabilities: Capabilities | None = None
    """What the node needs of the machine."""
    host: str | None = None
    """Where it runs on a cluster: see `NodeSpec.host`. Without a cluster it has no effect, as a warning of the plan says."""
    runtime_hint: Literal["rust_python", "cpython", "cpython_wasm", "auto"] = "auto"
    """An interpreter that the node was made for. "cpython" asks for the placement "native", the others for "wasm"."""
    execution: Execution = Execution()
    """Where the node asks to run."""
    source: str | None = None
    """Path of the .py file or package of the node's code, from the manifest's folder."""
    entry: str | None = None
    """Name of the class or function; by default `node_type`."""
    limits: LimitsModel | None = None
    """Limits of its sandbox that are not the default ones: fields of `cloche.Limits`."""
    on_error: Literal["fail", "skip", "dead_letter", "restore", "retry"] | RetryModel = "fail"
    """What becomes of an item for which the node raises."""
    on_break: OnBreak = "fail"
    """What happens when its sandbox or process breaks."""
    breaker: BreakerModel | None = None
    """Stops calling the node if it fails each time."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Copies that work in parallel; outputs keep their order."""
    key: str | None = None
    """Key of items that are dicts: items of the same value meet the same copy."""
    batch: Annotated[int, Field(ge=1)] = 128
    """Items that may be sent in one crossing."""
    queue: Annotated[int, Field(ge=1)] = 128
    """Items that may wait for the node."""
    inputs: list[str] = []
    """Names of its input ports, in the order of the parameters of `process`."""


class ConnectionModel(_Model):
    """A connection of two nodes, or of ports of them: ``{"from": "vad.speech", "to": "mix.left"}``."""

    source: Annotated[str, Field(alias="from")]
    """Id of the node whose outputs are sent; "id.key": the values of that key."""
    target: Annotated[str, Field(alias="to")]
    """Id of the node that gets them; "id.port": at that port."""


class Metadata(_Model):
    """What a pipeline is."""

    name: str
    """The pipeline's name, in logs and tables."""
    description: str = ""
    """What it does."""
    created_at: str | None = None
    """When it was made; not read."""


class Manifest(_Model):
    """A pipeline as a document."""

    version: Literal["v1"]
    """The version of this format."""
    metadata: Metadata
    """What the pipeline is."""
    nodes: Annotated[list[NodeModel], Field(min_length=1)]
    """The nodes."""
    connections: list[ConnectionModel]
    """How they are connected. A node to which none leads gets the pipeline's items; one from which none leads gives its outputs."""

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
        host=node.host,
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
