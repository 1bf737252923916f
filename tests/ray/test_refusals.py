"""What cannot work is refused at once, with what to do, and not after minutes or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche

from .machines import Machines

pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
import cloche.ray  # after what it needs is known to be there

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


def test_rays_client_is_refused() -> None:
    """It does not tell what a pipeline has to know: where objects are, and who has died."""
    with pytest.raises(cloche.ClocheError, match="run the driver on a machine of the cluster"):
        cloche.ray.Cluster("ray://127.0.0.1:10001").open()


def test_an_address_without_a_cluster_is_refused_before_ray_is_asked() -> None:
    """Ray itself tries for three minutes, and then exits the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(cloche.ClocheError, match=f"no Ray cluster at {address}"):
        cloche.ray._connection._connect(address)


def test_another_address_than_that_of_the_connection_is_refused(shared: Any) -> None:
    """Ray has one connection for the process."""
    cluster = cloche.ray.Cluster("192.0.2.77:6379")
    with pytest.raises(cloche.ClocheError, match=r"already, and not to 192\.0\.2\.77:6379"):
        cluster.open()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_same_address_in_other_words_is_the_same(shared: Any, machines: Machines, name: str) -> None:
    cloche.ray._connection._check_connected(f"{name}:{machines.address.rpartition(':')[2]}")


def test_a_machine_without_cloche_is_named(
    shared: Any, connect: Callable[..., Any], machines: Machines, tmp_path: Path
) -> None:
    """Not installed, or without its extra."""
    (tmp_path / "cloche.py").write_text("raise ImportError('there is none')")
    with pytest.raises(cloche.ClocheError, match=r"cannot import cloche\.ray: install 'cloche\[ray\]"):
        connect(runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path)}})


def test_a_machine_with_another_cloche_is_named(
    shared: Any, connect: Callable[..., Any], machines: Machines, tmp_path: Path
) -> None:
    """Pickles go from one to the other."""
    (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.python_version = lambda: '3.1'")
    path = f"{tmp_path}:{machines.env['env_vars']['PYTHONPATH']}"
    with pytest.raises(
        cloche.ClocheError, match=r"has python '3\.1', and this process .*: install the same on all machines"
    ):
        connect(runtime_env={"env_vars": {"PYTHONPATH": path}})


def test_a_machine_with_another_image_is_named(
    shared: Any, connect: Callable[..., Any], machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots of one do not fit the other."""
    image = type("Image", (), {"sha256": "0" * 64})
    monkeypatch.setattr("cloche.ray.cluster.find", lambda: image)
    with pytest.raises(cloche.ClocheError, match="has the guest image .*, and this process 0{64}"):
        connect()


def test_an_environment_that_cannot_be_made_is_an_error(shared: Any, connect: Callable[..., Any]) -> None:
    """Ray tries again and again, and says nothing."""
    with pytest.raises(cloche.ClocheError, match=r"no host has started within 3 s \(start_s\): .*runtime_env"):
        connect(runtime_env={"py_executable": "no-such-python"}, start_s=3)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="Cluster hosts_per_machine"):
        cloche.ray.Cluster(hosts_per_machine=0)
    with pytest.raises(TypeError, match="Cluster start_s"):
        cloche.ray.Cluster(start_s="soon")
