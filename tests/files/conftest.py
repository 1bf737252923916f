"""The guest's C file code and the host's handler, natively: no image, no wasm, milliseconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche import Limits
from cloche._codec.codec import Codec
from cloche._files.handler import FileHandler
from cloche._requests.router import RequestRefused
from cloche.mounts import Mount
from tests.codec.native import build

ROOT = 3
READ, WRITE, CREATE, EXCLUSIVE, TRUNCATE, DIRECTORY = (1 << bit for bit in range(6))


@pytest.fixture(scope="session")
def files_module() -> Path:
    try:
        return build.build_files()
    except build.Unavailable as reason:
        pytest.skip(f"the file code cannot be built natively: {reason}")


@pytest.fixture
def files(files_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The guest's file code, as at its birth: every copy of a library has memory of its own."""
    copy = tmp_path_factory.mktemp("copy") / files_module.name
    shutil.copy(files_module, copy)
    return build.load_files(copy)


@pytest.fixture
def mounted(files: Any) -> Iterator[Callable[..., FileHandler]]:
    """mounted({"/data": Mount(...)}) puts a handler behind the guest's file code."""
    handlers: list[FileHandler] = []

    def mount(mounts: dict[str, Mount], limits: Limits | None = None) -> FileHandler:
        limits = limits or Limits()
        handler = FileHandler(mounts, limits)
        handlers.append(handler)
        codec = Codec(limits, files.place, files.lift)

        def answer(request: bytes) -> bytes:
            ask, *operands = codec.decode(request)
            try:
                return codec.encode([True, handler.operations[ask](operands)], "answer")
            except RequestRefused as refused:
                return codec.encode([False, refused.failure], "answer")

        files.ask(answer)
        return handler

    yield mount
    files.ask(None)
    for handler in handlers:
        handler.close()
