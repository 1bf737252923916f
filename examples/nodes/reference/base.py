"""The base class of some of the nodes."""

import logging
import threading
import uuid


class Node:
    """A node with a name, a logger and a configuration.

    Args:
        name: the node's name; the class's if None.
        enable_state: a setting that `get_config` returns.
        max_sessions: a setting that is only kept.
        config: further settings by name.
    """

    def __init__(self, name=None, enable_state=False, max_sessions=100, **config):
        self.name = name or type(self).__name__
        self.config = config
        self.enable_state = enable_state
        self.max_sessions = max_sessions
        self.instance_id = uuid.uuid4().hex
        self.is_initialized = False
        self.logger = logging.getLogger(type(self).__name__)
        self._lock = threading.Lock()

    async def initialize(self):
        self.is_initialized = True

    async def cleanup(self):
        self.is_initialized = False

    def process(self, data):
        raise NotImplementedError

    def get_config(self):
        return {"name": self.name, "enable_state": self.enable_state, **self.config}

    def get_capabilities(self):
        return None
