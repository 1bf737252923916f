"""Instances in confined worker processes, for ``Runtime(isolation="process")``. Imported only if a runtime asks for it."""

from cloche._isolation.worker_pool import WorkerPool

__all__ = ["WorkerPool"]
