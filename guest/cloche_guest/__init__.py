"""What runs inside the sandbox: dispatch, loader, logging, streams, event loop. Standard library only.

`boot` is the only module with side effects at import; every other one can be imported and tested natively.

A node may import the exceptions from here, to clean up when its time is over:

>>> from cloche_guest import DeadlineExceeded
"""


class Interrupted(BaseException):
    """The host wants the call to end. Raised wherever the node's Python code is at that moment; ``except Exception`` lets it pass.

    The node has the host's grace period to clean up. It stays usable, with its state, if the call ends within that time; if not,
    the sandbox is stopped.
    """


class DeadlineExceeded(Interrupted):
    """The call has passed its deadline."""


class Cancelled(Interrupted):
    """The caller does not wait for the result any more."""
