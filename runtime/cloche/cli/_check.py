"""``cloche check``: what a node is, and which of its imports are missing. All of its code runs inside of the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloche.source as sources
from cloche import Runtime
from cloche.cli._console import logger, say
from cloche.errors import ClocheError, NodeLoadError
from cloche.texts import clean, name

if TYPE_CHECKING:
    from cloche.cli._options import NodeOptions
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["check", "remedy"]

_REMEDIES = {
    "The sandbox has no network: let the host fetch it, and pass the data to process().": """
        aiohttp boto3 grpc httpx requests select selectors socket socketserver ssl urllib3 websockets _socket _ssl""",
    "The sandbox runs one process on one thread: do that part on the host, or in another node.": """
        fcntl multiprocessing pty resource subprocess termios _multiprocessing _posixsubprocess""",
    "It is compiled code, which the image does not have (but for numpy): do that part on the host, or in numpy.": """
        cffi ctypes cv2 jax librosa lxml numba onnxruntime pandas PIL pyarrow pydantic_core scipy sklearn soundfile
        sqlite3 tensorflow torch torchaudio transformers _ctypes _sqlite3""",
    "The sandbox has no terminal and no window.": "curses readline tkinter turtle _curses _tkinter",
}


def remedy(module: str) -> str:
    """Advice for a module that the sandbox does not have."""
    top = module.partition(".")[0]
    for text, modules in _REMEDIES.items():
        if top in modules.split():
            return text
    return "If it is pure Python, put it into the node's package folder and load the folder."


def check(node: NodeOptions, limits: Limits, metering: Metering) -> bool:
    """Print a report on stdout.

    Returns:
        whether the node loads, and every import that it needs is there.

    Raises:
        ClocheError, OSError: the node could not be checked at all, e.g. because its file does not exist.
    """
    modules = sources.read(node.path, packages=bool(node.grants.packages))
    texts = {file: text for file, text, _ in modules.files.values()}
    own = {name.partition(".")[0] for name in modules.files}
    with Runtime(limits=limits, metering=metering, logger=logger(), progress=say) as runtime:
        with runtime.load(
            Path(__file__).with_name("_imports.py"), "imports", name="check", grants=node.grants
        ) as inspector:
            found = [item for item in _checked(inspector.process(texts)) if item.module.partition(".")[0] not in own]
        _show_imports(found)
        try:
            with runtime.load(node.path, node.entry, node.params, grants=node.grants) as loaded:
                _show_entry(loaded.info)
        except NodeLoadError as error:
            print(f"does not load:  {error.exc_type}: {error.message}")
            say(error.guest_traceback)
            if error.remedy:
                say(error.remedy)
            return False
    return not any(item.problem and not item.optional for item in found)


@dataclass(frozen=True, slots=True)
class _Import:
    module: str
    file: str
    line: int
    optional: bool
    problem: str | None


def _checked(value: Any) -> list[_Import]:
    """Check the inspector's answer. The modules that it imported may have tampered with it, so its answer is untrusted.

    Raises:
        ClocheError: the answer has not the form that `_imports.imports` returns.
    """
    found = []
    for item in value if isinstance(value, list) else [None]:
        match item:
            case {
                "module": str(module),
                "file": str(file),
                "line": int(line),
                "optional": bool(optional),
                "problem": (str() | None) as problem,
            }:
                found.append(_Import(name(module), name(file), line, optional, problem and clean(problem)))
            case _:
                raise ClocheError("what the node imports has tampered with the check: it cannot be trusted")
    return found


def _show_imports(found: list[_Import]) -> None:
    print(f"imports:        {', '.join(item.module for item in found if not item.problem) or 'none'}")
    for item in found:
        if item.problem:
            kind = "missing, optional:" if item.optional else "missing:"
            print(f"{kind:15} {item.module} ({item.file}, line {item.line}): {item.problem}")
            print(f"{'':15} {remedy(item.module)}")


def _show_entry(info: dict[str, Any]) -> None:
    shapes = [name for name in ("is_streaming", "is_source", "is_sink") if info[name]]
    print(f"entry:          {name(info['entry'])} ({', '.join([info['kind'], *shapes])})")
    if info["kind"] == "class":
        print(f"methods:        {', '.join(sorted(map(name, info['methods'])))}")
