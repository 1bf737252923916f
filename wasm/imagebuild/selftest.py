"""Proves that an image works, through the smallest host there can be. The real tests are in tests/.

A node with one method per subject is loaded into one instance; each method asserts what it is about and answers a text.
"""

from __future__ import annotations

from typing import Any

import wasmtime

from imagebuild import cbor
from imagebuild.driver import Abi, Guest, GuestError
from imagebuild.stages import BuildError

LOAD, PROCESS, INVOKE = 1, 2, 3
RESULT = 0
METHODS = ("library", "cloudpickle", "numpy", "no_files", "output")
VALUES: tuple[Any, ...] = (
    *(None, True, -(2**40), 2.5, "text", "x" * 10_000, b"\0" * 10_000),
    *([1, [2, {"k": b"v"}]], {"a": {"b": [None]}}),
)
MAX_NODES, MAX_DEPTH = 1_000_000, 64

NODE = """
import sys

class SelfTest:
    def process(self, value):
        print("echo", value)
        return value

    def library(self):
        import json, decimal, csv, io, hashlib, zlib, bz2, lzma, datetime, zoneinfo, xml.etree.ElementTree
        text = json.dumps({"a": [1, 2.5, None, "\\u00fc"]})
        assert json.loads(text) == {"a": [1, 2.5, None, "\\u00fc"]}
        assert str(decimal.Decimal("1.10") + 1) == "2.10"
        assert list(csv.reader(io.StringIO("a,\\"b,c\\"")))[0] == ["a", "b,c"]
        assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf")
        assert hashlib.blake2b(b"").hexdigest()[:8] == "786a02f7" and hashlib.md5(b"").hexdigest()[:8] == "d41d8cd9"
        for codec in (zlib, bz2, lzma):
            assert codec.decompress(codec.compress(b"cloche" * 100)) == b"cloche" * 100, codec
        there = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        assert there.utcoffset() == datetime.timedelta(hours=2) and len(zoneinfo.available_timezones()) > 500
        assert xml.etree.ElementTree.fromstring("<a><b/></a>").find("b") is not None
        assert "\\u00e9".encode("shift_jisx0213").decode("shift_jisx0213") == "\\u00e9"
        import ctypes, mmap, multiprocessing.pool, sqlite3, ssl
        with sqlite3.connect(":memory:") as base:
            assert base.execute("select json_array(?, sqlite_version())", (1,)).fetchone()[0].startswith("[1,")
        assert ctypes.sizeof(ctypes.c_void_p) == 4 and ctypes.string_at(b"text", 2) == b"te"
        assert multiprocessing.pool.ThreadPool(1).map(abs, [-1]) == [1] and mmap.mmap(-1, 10)[:] == bytes(10)
        return sys.version.split()[0]

    def cloudpickle(self):
        import cloudpickle, pickle
        factor = 3
        assert pickle.loads(cloudpickle.dumps(lambda x: x * factor))(14) == 42
        return cloudpickle.__version__

    def numpy(self):
        import numpy as np
        a = np.arange(12, dtype=np.float32).reshape(3, 4)
        assert (a @ a.T).shape == (3, 3) and float(a.sum()) == 66
        rng = np.random.default_rng(7)
        counts = rng.multinomial(1000, [0.2, 0.3, 0.5])
        assert counts.sum() == 1000 and abs(int(counts[2]) - 500) < 100, counts
        assert np.random.RandomState(7).multinomial(100, [0.5, 0.5]).sum() == 100
        m = rng.normal(size=(8, 8))
        assert np.allclose(np.linalg.inv(m) @ m, np.eye(8))
        assert np.allclose(np.linalg.svd(m)[1] ** 2, np.linalg.eigvalsh(m.T @ m)[::-1])
        x = rng.normal(size=256)
        assert np.allclose(np.fft.irfft(np.fft.rfft(x)), x)
        assert str(np.longdouble(1) / 3).startswith("0.333333333333333333333333333333"), str(np.longdouble(1) / 3)
        numbers = rng.integers(-9, 9, 1000)
        assert np.sort(numbers).tolist() == sorted(numbers.tolist())
        assert np.array(["2024-02-29"], "M8[D]")[0].astype(str) == "2024-02-29"
        return np.__version__

    def no_files(self):
        import os
        assert os.listdir("/") == ["tmp"] and os.listdir("/tmp") == [] and not os.path.exists("/etc/passwd")
        assert dict(os.environ) == {} and sys.argv in ([], [""])
        for path in ("/etc/passwd", "../../etc/passwd", "/proc/self/mem", "x"):
            for mode in ("r", "w", "a", "x"):
                try:
                    open(path, mode)
                except OSError:
                    continue
                raise AssertionError(path)
        for fd in range(3, 64):
            for call in (os.read, os.write):
                try:
                    call(fd, 1 if call is os.read else b"x")
                except OSError:
                    continue
                raise AssertionError(fd)
        import socket
        try:
            socket.create_connection(("127.0.0.1", 80), 1)
        except OSError:
            pass
        else:
            raise AssertionError("a socket")
        assert len(os.urandom(1000)) == 1000 and os.urandom(8) != os.urandom(8)
        return "none"

    def output(self):
        import os, time
        os.write(2, b"below Python")
        time.sleep(0.001)
        return "written"
"""


def run(engine: wasmtime.Engine, module: wasmtime.Module, abi: Abi) -> str:
    """Load the node, call all of it, and answer a line for each subject.

    Raises:
        BuildError: something failed; the message has the guest's traceback.
    """
    guest = Guest(engine, module, abi)
    lines: list[str] = []
    try:
        loaded = _ask(guest, LOAD, _load_request())
        lines += [f"{name}: {_ask(guest, INVOKE, name)}" for name in METHODS]
        for value in VALUES:
            if (answer := _ask(guest, PROCESS, value)) != value:
                raise BuildError(f"self-test: {value!r:.200} came back as {answer!r:.200}")
        records = guest.records()
    except GuestError as error:
        raise BuildError(f"self-test: {error}") from error
    if [2, b"below Python"] not in records or not any("echo" in str(record) for record in records):
        raise BuildError(f"self-test: output did not reach the ring: {records!r:.2000}")
    return "\n".join([*lines, f"loaded: {loaded['entry']}", ""])


def _load_request() -> dict[str, Any]:
    return {
        "name": "selftest",
        "modules": {"selftest": ["selftest.py", NODE]},
        "main": "selftest",
        "entry": "SelfTest",
        "params": {},
        "session_id": None,
        "log_level": 10,
        "seed": bytes(32),
        "limits": {
            "reply_bytes": 1 << 24,
            "output_bytes": 1 << 20,
            "value_depth": MAX_DEPTH,
            "value_nodes": MAX_NODES,
            "log_bytes": 1 << 20,
            "stack_depth": 1000,
        },
        "packages": {},
    }


def _ask(guest: Guest, operation: int, *operands: Any) -> Any:
    """One call; the value of its RESULT.

    Raises:
        BuildError: the guest answered anything else.
    """
    body = cbor.dumps([operation, 1, *operands])
    address = guest.put(body)
    packed = guest.call("node_call", address, len(body), MAX_NODES, MAX_DEPTH)
    guest.call("node_free", address)
    if not packed >> 32:
        raise BuildError(f"self-test: no reply ({packed})\n{guest.output()}")
    kind, value = cbor.Reader(guest.read_packed(packed), guest.read).item()
    if kind != RESULT:
        raise BuildError(f"self-test: the guest answered {kind}: {_failure(value)}\n{guest.output()}")
    return value


def _failure(value: Any) -> str:
    if not isinstance(value, dict):
        return repr(value)
    frames = "".join(f'\n  File "{f[0]}", line {f[1]}, in {f[2]}\n    {f[3]}' for f in value.get("frames", ()))
    return f"{value.get('type')}: {value.get('message')} (phase {value.get('phase')}){frames}"
