"""`next_move`: which chain should go to another host, because its own has far more to do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, TypeVar

__all__ = ["next_move"]

Chain = TypeVar("Chain", bound=Hashable)
Place = TypeVar("Place")

_GAIN: Final = 0.2
"""Seconds of work a second by which a move has to relieve the busiest host: less is not worth the stop."""


def next_move(
    loads: Mapping[Chain, tuple[Place, float]], hosts: Sequence[Place], allowed: Mapping[Chain, frozenset[Place]]
) -> tuple[Chain, Place] | None:
    """The move of one chain that lowers the load of the busiest host the most; None: none is worth it.

    Args:
        loads: chain -> its host, and the seconds of work that its nodes do in a second.
        hosts: all hosts, those without a chain as well.
        allowed: chain -> the hosts where it may run.
    """
    total = dict.fromkeys(hosts, 0.0)
    for host, load in loads.values():
        total[host] = total.get(host, 0.0) + load
    if not total:
        return None
    busiest = max(total, key=lambda host: total[host])
    best: tuple[float, Chain, Place] | None = None
    for chain, (host, load) in loads.items():
        if host != busiest:
            continue
        for other in hosts:
            if other == busiest or other not in allowed[chain]:
                continue
            highest = max(total[busiest] - load, total[other] + load)
            gain = total[busiest] - highest
            if gain >= _GAIN and (best is None or gain > best[0]):
                best = gain, chain, other
    return None if best is None else (best[1], best[2])
