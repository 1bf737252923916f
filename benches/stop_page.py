"""The cost of the loads from the stop page: pure-Python kernels on the image, and on the same image without these loads.

Timed: the thread's processor time of each kernel, in the best of several rounds, with the two images in turns. Not timed: loading,
compiling. Level: a geometric mean of the ratios of at most 1.02.

    python benches/stop_page.py [ROUNDS]
"""

from __future__ import annotations

import ast
import math
import sys
import time
from pathlib import Path
from typing import Any

import wasmtime

TREE = Path(__file__).parents[1]
sys.path.insert(0, str(TREE / "wasm"))

from imagebuild import cbor, compiledcheck, driver, stops, wasmfile  # noqa: E402  # the build's modules

KERNELS = TREE / "runtime/cloche_bench/nodes/kernels.py"
SIZES = {"recursion": 16, "big_integers": 1000, "floats": 1000}
NODE = """
import time
class Node:
    def process(self, name, size):
        kernel, start = globals()[name], time.perf_counter()
        kernel(size)
        return time.perf_counter() - start
"""


class _Clock(driver.ClockAndRandomState):
    """Makes the guest's `time.perf_counter` count the thread's processor time."""

    def clock(self, clock: int) -> int:
        return time.thread_time_ns()


class Bench:
    """One instance of an image, with the kernels loaded as a node.

    Args:
        wasm: the image.
        abi: the names of `cloche_wire.abi`.
    """

    def __init__(self, wasm: bytes, abi: dict[str, Any]) -> None:
        engine = compiledcheck.engine()
        self._guest = driver.Guest(engine, wasmtime.Module(engine, wasm), abi, _Clock())
        source = KERNELS.read_text("utf-8") + NODE
        limits = {"reply_bytes": 1 << 20, "output_bytes": 1 << 20, "value_depth": 20, "value_nodes": 1000}
        self._send(
            1,
            {
                "name": "node", "modules": {"node": ["node.py", source]}, "main": "node", "entry": "Node", "params": {},
                "session_id": None, "log_level": 30, "seed": bytes(32), "packages": {},
                "limits": limits | {"log_bytes": 1000, "stack_depth": 1000},
            },
        )  # fmt: skip

    def seconds(self, kernel: str) -> float:
        """Seconds of one run of a kernel."""
        return float(self._send(2, kernel, SIZES.get(kernel, 3000)))

    def _send(self, op: int, *operands: Any) -> Any:
        message = cbor.dumps([op, 1, *operands])
        at = self._guest.put(message)
        packed = self._guest.call("node_call", at, len(message), 1 << 20, 100)
        self._guest.call("node_free", at)
        kind, value = cbor.Reader(self._guest.read_packed(packed), self._guest.read).item()
        assert kind == 0, value
        return value


def main(image: Path, rounds: int) -> None:
    """Print each kernel's times with and without the loads, their ratio, and the geometric mean of the ratios."""
    abi = driver.load_abi(TREE / "guest/cloche_wire")
    wasm = image.read_bytes()
    bare = stops.without(wasmfile.Module.parse(wasm)).encode()
    benches = {"loads": Bench(wasm, abi), "bare": Bench(bare, abi)}
    names = [node.name for node in ast.parse(KERNELS.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
    best = {name: dict.fromkeys(benches, math.inf) for name in names if not name.startswith("_")}
    for _ in range(rounds):
        for name, times in best.items():
            for kind, bench in benches.items():
                times[kind] = min(times[kind], bench.seconds(name))
    ratios = [times["loads"] / times["bare"] for times in best.values()]
    for (name, times), ratio in zip(best.items(), ratios, strict=True):
        print(f"{name:16} {times['loads'] * 1e3:8.2f} ms {times['bare'] * 1e3:8.2f} ms  {ratio:.3f}")
    print(f"geometric mean {math.exp(sum(map(math.log, ratios)) / len(ratios)):.4f}")


if __name__ == "__main__":
    from cloche._wasm import image

    main(image.find().wasm, int(sys.argv[1]) if len(sys.argv) > 1 else 15)
