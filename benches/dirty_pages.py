"""The pages of linear memory that a fresh sandbox writes to, and the variable or object at each place that differs from the image.

Every sandbox maps the image copy on write, so each page that it writes to costs 4 KiB and a page fault. For two small nodes the
program prints the pages that are dirty after loading and the first call, how many bytes of each differ, and to what they belong: a
variable of the C code (found in the linker's map, which the build leaves beside the linked module), an object of the image, or a
new block. A node in another sandbox lists the objects: an object of the image has the same address in all sandboxes. Nothing is
timed.

    .venv/bin/python benches/dirty_pages.py [--brief] [--node small|numpy] [--image FOLDER] [--map FILE]
"""

from __future__ import annotations

import argparse
import bisect
import collections
import os
import re
import struct
from pathlib import Path
from typing import Any

import cloche

PAGE = 4096
STACK_BYTES = 8 << 20
SMALL = """
class Counter:
    def __init__(self):
        self.count = 0
    def process(self, data):
        self.count += 1
        return data
"""
NUMPY = "import numpy as np\nclass N:\n    def process(self, x):\n        return float(np.sum(np.arange(x)))\n"
NODES: dict[str, tuple[str, str, Any]] = {"small": (SMALL, "Counter", {"a": 1}), "numpy": (NUMPY, "N", 10)}

INSPECTOR = r'''
import gc
import sys
import types

def label(o):
    kind = type(o)
    try:
        if kind is types.FunctionType or isinstance(o, type):
            return f"{o.__module__}.{o.__qualname__}"
        if kind is types.CodeType:
            return f"{o.co_filename}:{o.co_qualname}"
        if kind is types.ModuleType:
            return o.__name__
        if kind is str or kind is bytes:
            return repr(o[:40])
        if kind in (dict, set):
            return repr(list(o)[:4])[:80]
        if kind is tuple:
            return str([type(e).__name__ for e in o[:5]])
    except Exception:
        pass
    return ""

def every():
    gc.disable()
    gc.unfreeze()
    seen, found, todo = set(), [], gc.get_objects()
    todo += [sys.modules]
    mine = {id(seen), id(found), id(todo)}
    while todo:
        o = todo.pop()
        if id(o) in seen or id(o) in mine:
            continue
        seen.add(id(o))
        found.append(o)
        todo += gc.get_referents(o)
        if type(o) is types.CodeType:
            todo += [o.co_consts, o.co_names, o.co_exceptiontable, o.co_linetable, o.co_filename, o.co_name, o.co_qualname]
    return found

def inspect(_):
    """[address, size, header, type, label, addresses of the items of a list or the like]"""
    for o in every():
        try:
            size = type(o).__sizeof__(o)
        except Exception:
            size = 16
        yield [id(o), size, 16 if gc.is_tracked(o) else 0, type(o).__name__, label(o)]
'''


def objects(runtime: cloche.Runtime, image: Any) -> list[tuple[int, int, str]]:
    """(start, end, name) of every object of the image, and of the tables of its dicts, lists and sets."""
    found = []
    with runtime.load(cloche.Source(INSPECTOR, "inspector.py"), "inspect") as node:
        rows = list(node.stream([None]))

    def word(at: int) -> int:
        return int(struct.unpack_from("<I", image, at)[0])

    for address, size, header, kind, label in rows:
        if address + size > len(image):
            continue
        name = f"{kind} {label}"
        if kind == "dict":
            keys, size = word(address + 24), 32
            if 0 < keys < len(image) - 16:
                log2_size, log2_bytes, unicode = image[keys + 4], image[keys + 5], image[keys + 6]
                if log2_size < 24 and log2_bytes < 28:
                    usable = (1 << log2_size << 1) // 3
                    end = keys + 20 + (1 << log2_bytes) + usable * (8 if unicode else 12)
                    found.append((keys, end, f"keys of {name}"))
        elif kind == "list":
            items, allocated, size = word(address + 12), word(address + 16), 20
            found.append((items, items + 4 * allocated, f"items of {name}"))
        elif kind == "set":
            mask, table, size = word(address + 16), word(address + 20), 100
            if table and table != address:
                found.append((table, table + 8 * (mask + 1), f"table of {name}"))
        found.append((address - (8 if header else 0), address + size, name))
    return found


def symbols(path: Path) -> list[tuple[int, int, str]]:
    """(start, end, name) of every variable of the C code, from the linker's map."""
    found = []
    inside = False
    for line in path.read_text("utf-8").splitlines():
        parts = line.split(None, 3)
        if len(parts) == 4 and parts[3] in ("DATA", "CUSTOM", "CODE"):
            inside = parts[3] == "DATA"
        elif inside and len(parts) == 4 and parts[0] != "-" and (match := re.search(r":\((.*)\)$", parts[3])):
            start = int(parts[0], 16)
            found.append((start, start + int(parts[2], 16), f"{Path(parts[3].split(':')[0]).name}: {match[1]}"))
    return found


class Places:
    """The name of what lies at an address.

    Args:
        layers: lists of (start, end, name). A name of an earlier list wins, such as that of an object inside a variable.
    """

    def __init__(self, *layers: list[tuple[int, int, str]]) -> None:
        self._layers = [(sorted(layer), sorted(start for start, _, _ in layer)) for layer in layers]

    def __getitem__(self, address: int) -> str:
        for known, starts in self._layers:
            at = bisect.bisect_right(starts, address)
            for start, end, what in reversed(known[max(0, at - 3) : at]):
                if start <= address < end:
                    return f"{what} +{address - start}" if end - start > 64 else what
        return "a block"


def differences(page: bytes, image: bytes) -> list[tuple[int, int]]:
    """(offset, length) of each run of 4-byte words in which a page differs from the image's page."""
    runs: list[tuple[int, int]] = []
    for at in range(0, PAGE, 4):
        if page[at : at + 4] != image[at : at + 4]:
            if runs and sum(runs[-1]) == at:
                runs[-1] = runs[-1][0], runs[-1][1] + 4
            else:
                runs.append((at, 4))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", choices=NODES, action="append")
    parser.add_argument("--map", type=Path, help="the linker's map; by default the newest in the build's cache")
    parser.add_argument("--image", type=Path, help="the image's folder; by default this checkout's")
    parser.add_argument("--brief", action="store_true", help="totals only")
    wanted = parser.parse_args()
    cache = Path(os.environ.get("CLOCHE_CACHE", Path.home() / ".cache/cloche"))
    maps = sorted(cache.glob("build/link-*/map.txt"), key=lambda path: path.stat().st_mtime)
    linker_map = wanted.map or (maps[-1] if maps else None)
    with cloche.Runtime(wanted.image, limits=cloche.Limits(deadline_s=60, value_nodes=10_000_000)) as runtime:
        image = bytes(runtime._engine.stores.pristine()._view[: runtime._engine.image_bytes])
        places = None
        if not wanted.brief:
            places = Places(objects(runtime, image), symbols(linker_map) if linker_map else [])
        for name in wanted.node or NODES:
            report(runtime, name, image, places)


def report(runtime: cloche.Runtime, name: str, image: bytes, places: Places | None) -> None:
    """Print one node's dirty pages.

    Args:
        name: name of the node in NODES.
        image: the image's linear memory.
        places: names by address; None to print totals only.
    """
    source, entry, value = NODES[name]
    with runtime.load(cloche.Source(source, "node.py"), entry) as node:
        node.process(value)
        memory: Any = node._sandbox._memory
        pages = [page for first, count in memory.dirty_runs() for page in range(first, first + count)]
        total, kinds = 0, collections.Counter[str]()
        for page in pages:
            start = page * PAGE
            was = image[start : start + PAGE].ljust(PAGE, b"\0")
            now = bytes(memory._view[start : start + PAGE])
            runs = differences(now, was)
            changed = sum(length for _, length in runs)
            total += changed
            kind = "stack" if start < STACK_BYTES else "equal" if not runs else "used" if any(was) else "fresh"
            kinds[kind] += 1
            if places is None:
                continue
            print(f"{start:#x} {kind}, {changed} bytes differ")
            for offset, length in runs if kind != "stack" else []:
                words = f"{was[offset : offset + 4].hex()} -> {now[offset : offset + 4].hex()}"
                print(f"    {start + offset:#x} +{length} {places[start + offset]}  {words}")
        print(f"{name}: {len(pages)} dirty pages, {total} bytes in words that differ; {dict(kinds)}")


if __name__ == "__main__":
    main()
