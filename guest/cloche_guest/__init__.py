"""The guest runtime, which runs inside the sandbox: dispatch, loader, logging, streams, event loop. Standard library only.

`boot` is the only module with side effects at import; all others can be imported and tested natively.

A node may import the exceptions from here, to clean up when the host ends its call:

>>> from cloche_guest import DeadlineExceeded
"""


class Interrupted(BaseException):
    """The host wants the current call to end. Raised between any two instructions of the node.

    It derives from BaseException, so that ``except Exception`` does not catch it. The node may use the host's grace period to
    clean up. If the call ends within that time, the node stays usable and keeps its state; otherwise the sandbox is stopped.
    """


class DeadlineExceeded(Interrupted):
    """The call has passed its deadline."""


class Cancelled(Interrupted):
    """The caller no longer waits for the result."""
