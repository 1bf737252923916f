"""Labels points by the nearest of the centres in a model file, and leaves a report.

Its files are ordinary paths: the host mounts a folder with the model, and one for the report, and grants scratch space::

    cloche run nearest.py:Nearest --input points.npy --mount models:/models --mount results:/out:rw --scratch 16M
"""

import csv
import logging
import tempfile

import numpy as np

log = logging.getLogger(__name__)


class Nearest:
    """Args:
    model: an .npz file with ``centres`` (one a row) and ``names``.
    report: where the table of counts is written at the end.
    """

    def __init__(self, model: str = "/models/centres.npz", report: str = "/out/report.csv"):
        with np.load(model) as content:
            self.centres, self.names = content["centres"], [str(name) for name in content["names"]]
        self.report = report
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the node: what has been seen, for the report
        log.info("%d centres", len(self.centres))

    def process(self, points: np.ndarray) -> list[str]:
        """The name of the nearest centre of each point."""
        distances = ((points[:, None, :] - self.centres) ** 2).sum(2)
        nearest = distances.argmin(1).astype(np.uint16)
        self.spool.write(nearest.tobytes())
        return [self.names[index] for index in nearest]

    def flush(self) -> None:
        """Count what was spooled, and write the report."""
        self.spool.seek(0)
        counts = np.bincount(np.frombuffer(self.spool.read(), np.uint16), minlength=len(self.names))
        with open(self.report, "w", newline="") as file:
            csv.writer(file).writerows([("name", "points"), *zip(self.names, counts.tolist(), strict=True)])
