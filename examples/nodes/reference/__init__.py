"""Eleven small nodes, one for each usual style: plain, stateful, async, generator, with and without a base class."""

from .records import ComplexData, Echo, ListProcessing
from .sequences import Accumulator, Counter, Filter, Streaming
from .values import Calculator, Chain, PassThrough, Transform

__all__ = [
    "Accumulator",
    "Calculator",
    "Chain",
    "ComplexData",
    "Counter",
    "Echo",
    "Filter",
    "ListProcessing",
    "PassThrough",
    "Streaming",
    "Transform",
]
