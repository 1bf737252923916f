"""Pipelines on the machines of a Ray cluster: ``Pipeline.run(items, on=cloche.ray.Cluster("auto"))``.

It needs ``pip install cloche[ray]``. Each machine gets a host: an actor that serves with a `cloche.cluster.Server`. See
docs/how-to/ray.md.
"""

try:
    import ray as _ray  # noqa: F401  # the one that is installed: imports are absolute
except ImportError as error:
    raise ImportError("cloche.ray needs Ray: pip install 'cloche[ray]'") from error

from cloche.ray.cluster import Cluster
from cloche.ray.object_store import ObjectStore

__all__ = ["Cluster", "ObjectStore"]
