"""Nodes that are made, called once and closed. The module is short, since compiling it is part of what is timed."""


class Multiply:
    """Multiplies by a factor."""

    def __init__(self, factor=3):
        self.factor = factor

    def process(self, data):
        return data * self.factor


class Add:
    """Adds a number; `initialize` must be called first."""

    def __init__(self, operand=10):
        self.operand = operand
        self.ready = False

    def initialize(self):
        self.ready = True

    def process(self, data):
        if not self.ready:
            raise RuntimeError("initialize was not called")
        return data + self.operand
