"""The example with files: a model that is read from a mount, scratch files, and a report in another mount."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloche

SOURCE = Path(__file__).parents[2] / "examples" / "files" / "nearest.py"


@pytest.fixture
def grants(tmp_path: Path) -> cloche.Grants:
    (tmp_path / "models").mkdir()
    (tmp_path / "out").mkdir()
    np.savez(tmp_path / "models" / "centres.npz", centres=np.array([[0.0, 0.0], [10.0, 10.0]]), names=["near", "far"])
    return cloche.Grants(
        mounts={"/models": tmp_path / "models", "/out": cloche.Mount(tmp_path / "out", writable=True)},
        scratch_bytes=1 << 20,
    )


def test_points_are_labelled_and_counted(runtime: cloche.Runtime, grants: cloche.Grants, tmp_path: Path) -> None:
    """The report is on the host; the spool never was."""
    batches = [np.array([[1.0, 2.0], [9.0, 9.0]]), np.array([[8.0, 7.0]])]
    with runtime.load(SOURCE, "Nearest", grants=grants) as node:
        assert list(node.stream(batches)) == [["near", "far"], ["far"]]
    assert (tmp_path / "out" / "report.csv").read_text().split() == ["name,points", "near,1", "far,2"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["centres.npz", "report.csv"]


def test_without_the_mount_it_does_not_load(runtime: cloche.Runtime) -> None:
    """And the error names the path that is not there."""
    with pytest.raises(cloche.NodeLoadError, match=r"/models/centres\.npz"):
        runtime.load(SOURCE, "Nearest")
