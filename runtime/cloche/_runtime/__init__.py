"""What a caller holds: runtimes, nodes, streams, pools and recovery. Works with any sandbox, in this process or another."""

from cloche._runtime.calls import NodeCalls
from cloche._runtime.load_options import ELSEWHERE, LoadOptions, Origin
from cloche._runtime.node import Node
from cloche._runtime.runtime import Runtime

__all__ = [
    "ELSEWHERE",
    "LoadOptions",
    "Node",
    "NodeCalls",
    "Origin",
    "Runtime",
]
