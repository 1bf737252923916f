"""One numpy operation on arrays that the node holds already, so that neither the boundary nor making the input is timed."""

import numpy as np


class Operation:
    """Does one operation, and returns a number that depends on its result."""

    def __init__(self, name, size, dtype="float64"):
        rng = np.random.RandomState(7)
        square = name in ("matmul", "inv")
        shape = (size, size) if square else (size,)
        self.a = rng.standard_normal(shape).astype(dtype)
        self.b = rng.standard_normal(shape).astype(dtype)
        if name == "inv":
            self.a += np.eye(size, dtype=dtype) * size
        self.run = getattr(self, "_" + name)

    def process(self, _data):
        return float(self.run().flat[1])

    def _add(self):
        return self.a + self.b

    def _sum(self):
        return np.array([0.0, self.a.sum()])

    def _sin(self):
        return np.sin(self.a)

    def _sort(self):
        return np.sort(self.a)

    def _fft(self):
        return np.abs(np.fft.rfft(self.a))

    def _matmul(self):
        return self.a @ self.b

    def _inv(self):
        return np.linalg.inv(self.a)

    def _random(self):
        return np.random.default_rng(7).standard_normal(len(self.a))
