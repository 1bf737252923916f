"""Uses the core, built with sanitizers, with the real engine and the real image: ``python -m tests.native.real_engine LIBRARY``.

A process of its own, with the sanitizer's library preloaded: see test_real_engine.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import get_args

import cloche
from cloche import Grants, Limits, Source
from cloche._wasm import core as native
from cloche.metering import Metering

NODE = """
import time
from cloche_guest import services

class Node:
    def process(self, what, data=None):
        if what == "echo":
            return data
        if what == "ask":
            return services.double(data)
        if what == "sleep":
            time.sleep(data)
        if what == "loop":
            while True:
                pass
        if what == "stubborn":
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        if what == "exit":
            import os
            os._exit(3)
        if what == "deep":
            def deep(n):
                return [deep(n - 1)] if n else []
            return len(repr(deep(data)))
"""


def refused(node: cloche.Node, kind: type[Exception], *data: object) -> None:
    try:
        node.process(*data)
    except kind:
        return
    raise AssertionError(f"{data} was not refused")


def use(runtime: cloche.Runtime) -> int:
    """Calls, requests, deadlines, stops and frees; how many calls."""
    grants = Grants(services={"double": lambda value: value * 2})
    source, calls = Source(NODE, "node.py"), 0
    for _ in range(2):
        node = runtime.load(source, grants=grants, limits=Limits(deadline_s=60.0))
        for size in (0, 10, 100_000, 300_000):
            assert node.process("echo", b"x" * size) == b"x" * size
            assert node.process("ask", "y" * size) == "yy" * size
            calls += 2
        assert node.process("deep", 100)
        refused(node, cloche.GuestExitError, "exit")
        node.close()
    for what in ("loop", "stubborn", "sleep"):
        node = runtime.load(source, limits=Limits(deadline_s=0.3))
        refused(node, cloche.DeadlineError, what, 1000.0)
        node.close()
        calls += 1
    return calls


def main() -> None:
    library = Path(sys.argv[1])
    native.library_path = lambda: library
    calls = 0
    for metering in get_args(Metering):
        if metering not in sys.argv[2:]:
            continue
        with cloche.Runtime(metering=metering) as runtime:
            calls += use(runtime)
            threads = [threading.Thread(target=use, args=(runtime,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert str(library) in Path(f"/proc/{os.getpid()}/maps").read_text(encoding="utf-8")
    print(f"{calls} calls")


if __name__ == "__main__":
    main()
