"""Labels points with the name of the nearest centre of a model, and writes a report.

The node opens ordinary paths. The host mounts a folder with the model and a folder for the report, and grants scratch space::

    cloche run nearest.py:Nearest --input points.npy --mount models:/models --mount results:/out:rw --scratch 16M
"""

import csv
import logging
import tempfile

import numpy as np

log = logging.getLogger(__name__)


class Nearest:
    """Labels points, and counts the points of each centre for the report.

    Args:
        model: path of an .npz file with the arrays ``centres`` (one centre a row) and ``names``.
        report: path of the report, a table of counts that `flush` writes.
    """

    def __init__(self, model: str = "/models/centres.npz", report: str = "/out/report.csv"):
        with np.load(model) as content:
            self.centres, self.names = content["centres"], [str(name) for name in content["names"]]
        self.report = report
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115  # a with block would close it before `flush` counts the labels
        log.info("%d centres", len(self.centres))

    def process(self, points: np.ndarray) -> list[str]:
        """For each point (one a row), the name of the nearest centre."""
        distances = ((points[:, None, :] - self.centres) ** 2).sum(2)
        nearest = distances.argmin(1).astype(np.uint16)
        self.spool.write(nearest.tobytes())
        return [self.names[index] for index in nearest]

    def flush(self) -> None:
        """Count the labels of all points so far, and write the report."""
        self.spool.seek(0)
        counts = np.bincount(np.frombuffer(self.spool.read(), np.uint16), minlength=len(self.names))
        with open(self.report, "w", newline="") as file:
            csv.writer(file).writerows([("name", "points"), *zip(self.names, counts.tolist(), strict=True)])
