"""Mounted folders of the host: the handler for a guest's file requests. No path of a guest reaches the host unresolved."""

from cloche._files.handler import FileHandler

__all__ = ["FileHandler"]
