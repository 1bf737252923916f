"""What a debugger, a log and a notebook show: short, without secrets, and nothing that a name could forge."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche._profiling.profile import profile

pytestmark = pytest.mark.isolation("none", reason="made on the host")
HOSTILE = "<script>alert(1)</script>\n\x1b[31m" + "n" * 10_000
SECRET = "hunter2"


def serve(token: str = SECRET) -> str:
    """A service."""
    return token


SHORT: dict[str, tuple[Any, str]] = {
    "limits": (cloche.Limits(), "Limits()"),
    "some limits": (cloche.Limits(deadline_s=3, fuel=5), "Limits(deadline_s=3, fuel=5)"),
    "source": (cloche.Source("x = 1\n" * 10**6, "mine.py"), "<cloche.Source 'mine.py' of 1000000 lines>"),
    "line": (cloche.Source("x = 1"), "<cloche.Source '<node>' of 1 line>"),
    "service": (
        cloche.Service(functools.partial(serve, SECRET), max_calls=2, gate=functools.partial(serve, SECRET)),
        "Service(serve, gate=serve, max_calls=2)",
    ),
    "grants": (
        cloche.Grants(
            env={"TOKEN": SECRET}, seed=SECRET.encode(), services={"serve": functools.partial(serve, SECRET)}
        ),
        "Grants(services=['serve'], env={'TOKEN': <hidden>}, seed=<hidden>)",
    ),
    "scratch": (cloche.Grants(scratch_bytes=0, opaque=True), "Grants(opaque=True, scratch_bytes=0)"),
    "opaque": (cloche.Opaque(b"\1" * 32, b"x" * 10**6), "<Opaque of 1000000 bytes, 01010101>"),
    "record": (cloche.LogRecord("info", "a", "m", 1), "LogRecord(level='info', logger='a', message='m', call=1)"),
}


@pytest.mark.parametrize(("value", "shown"), SHORT.values(), ids=SHORT)
def test_a_repr_is_short_and_has_no_secret(value: Any, shown: str) -> None:
    assert repr(value) == shown


def test_large_ones_stay_short(runtime: cloche.Runtime) -> None:
    with runtime.load(cloche.Source("def f(x): return x"), name=HOSTILE) as node:
        snapshot = node.snapshot()
        many = cloche.Grants(env={f"V{number}": SECRET for number in range(1000)})
        record = cloche.LogRecord("info", "a", "m" * 10**6, 1, {"x" * 10**6: ["y"] * 10**6}, "e" * 10**6)
        call = cloche.ServiceCall("s", "n", 1, ("x" * 10**7,), {"y": list(range(10**5))}, 10**7)
        for value in (node, snapshot, many, record, call, runtime):
            assert len(repr(value)) < 2000
            assert "\n" not in repr(value)
            assert "\x1b" not in repr(value)
    assert repr(snapshot).endswith(f" after 1 calls, {snapshot.size_bytes / 1e3:.0f} kB, image {snapshot.image[:12]}>")


def shown(value: Any) -> str:
    text = value._repr_html_()
    assert text.startswith("<table><caption>")
    assert text.endswith("</table>")
    return str(text)


def test_notebooks_show_tables_that_a_name_cannot_leave(runtime: cloche.Runtime) -> None:
    """A name is a stranger's, and a notebook runs what is in its HTML."""
    with runtime.load(cloche.Source("def f(x): return x"), name=HOSTILE) as node, profile(node) as profiled:
        node.process(1)
        values: list[Any] = [runtime, runtime.stats, node, node.snapshot(), node.stats, profiled]
        for value in values:
            text = shown(value)
            assert "<script" not in text
            assert "\x1b" not in text
            assert len(text) < 20_000
        assert "&lt;script&gt;" in shown(node)
        assert "<td>ready</td>" in shown(node)
    assert "<td>closed</td>" in shown(node)
    with runtime.pool(cloche.Source("def f(x): return x"), size=2) as pool:
        assert "<tr><th>size</th><td>2</td></tr>" in shown(pool)
        assert "<tr><th>idle</th><td>2</td></tr>" in shown(pool.stats)
        assert "<tr><th>nodes</th><td>2</td></tr>" in shown(runtime.stats)
        assert "<tr><th>refused</th><td>0</td></tr>" in shown(cloche.Budget(processor_s=1).stats)
    assert "<td>closed</td>" in shown(pool)


def test_a_hostile_snapshot_is_shown(runtime: cloche.Runtime) -> None:
    """Its info comes from whoever made its bytes."""
    with runtime.load(cloche.Source("def f(x): return x")) as node:
        taken = node.snapshot()
    make: Callable[..., cloche.Snapshot] = functools.partial(
        cloche.Snapshot, memory_bytes=1 << 20, pages=b"", masks=b"", words=b""
    )
    odd = make(image=HOSTILE, name=HOSTILE, info={"entry": [HOSTILE] * 1000}, request=0, calls=0)
    for value in (taken, odd):
        assert len(repr(value)) < 500
        assert "<script" not in shown(value)
