"""Nodes that are made and closed again: short, for what is compiled counts."""


class Multiply:
    """Times a factor."""

    def __init__(self, factor=3):
        self.factor = factor

    def process(self, data):
        return data * self.factor


class Add:
    """Has an initialize, which must come first."""

    def __init__(self, operand=10):
        self.operand = operand
        self.ready = False

    def initialize(self):
        self.ready = True

    def process(self, data):
        if not self.ready:
            raise RuntimeError("initialize was not called")
        return data + self.operand
