"""Which tests run: what a change needs in five minutes, or with ``--all`` everything. tests/README.md has the tiers and their budgets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from hashlib import sha256
from typing import Any

import pytest

__all__ = ["covering", "first", "split"]


def covering(cases: Iterable[tuple[str, Mapping[str, Any]]]) -> set[str]:
    """Names of cases that have each value of each parameter at least once.

    Args:
        cases: name of each case, and the value that each parameter has in it. The order is that of the names' digests: the same in
            each run, and in each process of a run.
    """
    chosen: set[str] = set()
    seen: set[tuple[str, Hashable]] = set()
    for name, values in sorted(cases, key=lambda case: sha256(case[0].encode()).digest()):
        new = {(parameter, _key(value)) for parameter, value in values.items()} - seen
        if new:
            chosen.add(name)
            seen |= new
    return chosen


def first(names: Iterable[str], count: int) -> set[str]:
    """So many of the names, or all if there are no more: the same ones in each run, and in each process of a run."""
    return set(sorted(names, key=lambda name: sha256(name.encode()).digest())[:count])


def _key(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def split(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The items that run without ``--all``, in their order, and those that do not."""
    items = list(items)
    tables: defaultdict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    some: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    left_out = {item.nodeid for item in items if item.get_closest_marker("thorough")}
    for item in items:
        test = item.nodeid.partition("[")[0]
        isolation = item.callspec.params.get("isolation", "") if hasattr(item, "callspec") else ""
        if (few := item.get_closest_marker("few")) is not None:
            some[test, isolation, few.args[0]].append(item.nodeid)
        elif item.get_closest_marker("sampled") and hasattr(item, "callspec"):
            tables[test].append((item.nodeid, item.callspec.params))
    for (*_, count), names in some.items():
        left_out |= {*names} - first(names, count)
    for cases in tables.values():
        left_out |= {name for name, _ in cases} - covering(cases)
    return [i for i in items if i.nodeid not in left_out], [i for i in items if i.nodeid in left_out]
