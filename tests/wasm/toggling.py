"""A process whose main thread changes handlers of faults without a pause while guests trap on four other threads.

    python -m tests.wasm.toggling HOW TRAPS

It ends with 0 once each thread has had so many traps, however fast the machine is.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Callable

from cloche import DeadlineError, GuestTrapError, Limits
from cloche._sandbox.instance import Instance
from cloche._wasm.core import core
from cloche._wasm.engine import Engine, Module
from cloche_wire import Op
from tests.fake_guests import guest

BODIES = {
    "segv": "(i64.load (i32.const 0x7fffffff))",
    "ill": "(unreachable)",
    "fpe": "(i64.extend_i32_u (i32.div_s (i32.const 1) (i32.load (i32.const 0x10500))))",
    "stop": "(loop $on (drop (i32.load (i32.const 0))) (br $on)) (unreachable)",
}


def _faulthandler() -> None:
    faulthandler.enable()
    faulthandler.disable()


def _python() -> None:
    for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
        signal.signal(number, lambda *_: None)
        signal.signal(number, signal.SIG_IGN)


WAYS: dict[str, Callable[[], None]] = {"faulthandler": _faulthandler, "signal": _python}


def main(how: str, traps: int) -> None:
    limits = Limits(deadline_s=0.002, grace_s=0, memory_bytes=32 << 20)
    engines = [
        Engine("guard", lambda engine, body=body: Module.compiled(engine, bytes(guest(body))))
        for body in BODIES.values()
    ]
    trapped = [0] * len(engines)

    def trap(which: int) -> None:
        while trapped[which] < traps:
            instance = Instance(engines[which], limits, "fake", lambda made, name: None)
            try:
                instance.exchange(Op.PROCESS, [], "")
            except (GuestTrapError, DeadlineError):
                trapped[which] += 1
            instance.close()

    threads = [threading.Thread(target=trap, args=(which,)) for which in range(len(engines))]
    for thread in threads:
        thread.start()
    toggles = 0
    while any(thread.is_alive() for thread in threads):
        WAYS[how]()
        toggles += 1
    for thread in threads:
        thread.join()
    print(*trapped, f"traps, {toggles} changes, {core().handlers_replaced[0]} put back")
    sys.exit(trapped != [traps] * len(engines))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
