"""Clusters: pipelines that run on several machines, or in several processes of this one. See docs/how-to/clusters.md.

`LocalCluster` needs nothing else; `cloche.ray.Cluster` and `cloche.dask.Cluster` run on the engines of that name. A cluster of
another engine is a subclass of `Cluster`, with hosts that serve with a `Server`.
"""

from cloche.cluster.cluster import Cluster
from cloche.cluster.engine import Bundle, Host, HostLost, Pending
from cloche.cluster.local import LocalCluster
from cloche.cluster.server import Server
from cloche.cluster.status import ChainStatus, Event, HostStatus

__all__ = [
    "Bundle",
    "ChainStatus",
    "Cluster",
    "Event",
    "Host",
    "HostLost",
    "HostStatus",
    "LocalCluster",
    "Pending",
    "Server",
]
