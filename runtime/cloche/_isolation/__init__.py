"""Instances in worker processes, for `Runtime(isolation="process")`. Nothing of it is imported unless that is asked for."""

from cloche._isolation.worker_pool import WorkerPool

__all__ = ["WorkerPool"]
