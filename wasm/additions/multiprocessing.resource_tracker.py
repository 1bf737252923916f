# Behind CPython's multiprocessing.resource_tracker: without a process that could do it, nothing is tracked, and a node leaves
# nothing behind that would have to be removed.


def ensure_running():
    """Starts no tracker."""


def register(name, rtype):
    """Notes nothing."""


def unregister(name, rtype):
    """Forgets nothing."""


def getfd():
    """There is no tracker to write to."""
