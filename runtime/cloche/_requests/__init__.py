"""Requests of running guests and the handlers that answer them, one call of a node at a time. Operands are untrusted."""
