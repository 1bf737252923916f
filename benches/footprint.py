"""The memory of sandboxes and of worker processes, and the time that the image takes once a machine. Prints a table.

The private memory of a process is Private_Dirty + Private_Clean of /proc/PID/smaps_rollup; a sandbox's share is the difference that
the live sandboxes make, divided by their number. Native beside it: a process that is forked from one with numpy imported. Timed:
compiling the image, and loading the AOT artifact twice. Not timed: anything else.

    .venv/bin/python benches/footprint.py [COUNT]
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import cloche
from cloche._wasm import image as _image
from cloche._wasm.engine import Engine

SOURCE = cloche.Source(
    "import numpy as np\nclass N:\n    def process(self, x):\n        return float(np.sum(np.arange(x)))\n"
)


def private_bytes(pid: int | str = "self") -> int:
    """Bytes of memory that only one process uses."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("Private_Dirty", "Private_Clean")))


def proportional_bytes() -> int:
    """Bytes of memory of this process, with a page that n mappings share counted once."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def live_sandboxes(runtime: cloche.Runtime, count: int) -> None:
    """Print the private memory of `count` nodes, each of which has returned a result."""
    runtime.load(SOURCE, "N").close()
    gc.collect()
    before, whole = private_bytes(), proportional_bytes()
    nodes = []
    for _ in range(count):
        node = runtime.load(SOURCE, "N")
        node.process(10)
        nodes.append(node)
    each = (private_bytes() - before) / count
    whole = proportional_bytes() - whole
    print(f"{count} live numpy-ready sandboxes: {each / 2**20:.3f} MiB private each, {whole / 2**30:.2f} GiB in all")
    written, taken = nodes[-1].stats.private_bytes, nodes[-1].snapshot()
    print(f"linear memory that one of them has written to: {written / 2**20:.3f} MiB")
    print(f"its snapshot: {taken.size_bytes / 1e3:.1f} kB, {len(taken.to_bytes()) / 1e3:.1f} kB as bytes")
    for node in nodes:
        node.close()


def native_process() -> None:
    """Print the private memory of a child forked from a process with numpy that does the same work.

    No other isolation by processes takes less memory.
    """
    import numpy as np

    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        float(np.sum(np.arange(10)))
        gc.collect()
        os.write(writer, str(private_bytes()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    print(f"a forked native process with numpy: {int(os.read(reader, 32)) / 2**20:.3f} MiB private")


def worker() -> None:
    """Print the private memory of a worker process (`isolation="process"`), and of each further node in it."""
    with cloche.Runtime(isolation="process", workers=1) as runtime:
        nodes = []
        for _ in range(11):
            nodes.append(runtime.load(SOURCE, "N"))
            nodes[-1].process(10)
            if len(nodes) == 1:
                first = private_bytes(runtime.workers[0].pid)
        more = (private_bytes(runtime.workers[0].pid) - first) / 10
        print(
            f"a worker process with one node: {first / 2**20:.1f} MiB private, {more / 2**20:.3f} MiB for each node more"
        )


def aot() -> None:
    """Print how long the image takes to compile and to load from the cache, and its sizes."""
    image = _image.find()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLOCHE_CACHE"] = folder
        for what in ("compile", "load", "load again"):
            began = time.perf_counter()
            Engine("epoch", lambda engine: _image.load(image, "epoch", engine))
            print(f"AOT {what}: {(time.perf_counter() - began) * 1e3:.1f} ms")
        (artifact,) = Path(folder, "aot").glob("*.cwasm")
        print(f"image {image.wasm.stat().st_size / 2**20:.1f} MiB, compiled {artifact.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    with cloche.Runtime() as made:
        native_process()
        live_sandboxes(made, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
    worker()
    aot()
