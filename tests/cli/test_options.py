"""Option values are read strictly: a typo is a usage error, not a default."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cloche.cli import _options
from cloche.cli._app import app


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("nodes.py:Denoise", ("nodes.py", "Denoise")),
        ("nodes.py", ("nodes.py", None)),
        ("folder/package:Entry", ("folder/package", "Entry")),
        ("odd:name/nodes.py", ("odd:name/nodes.py", None)),
    ],
)
def test_a_node_is_a_path_and_maybe_an_entry(text: str, parsed: tuple[str, str | None]) -> None:
    assert _options.node(text) == parsed


def test_an_entry_that_is_no_name_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="'9lives' is no name of a class or function"):
        _options.node("nodes.py:9lives")


def test_params_are_json() -> None:
    assert _options.params(["a=1", 'b="x"', "c=[1, null]", "d=true"]) == {
        "a": 1,
        "b": "x",
        "c": [1, None],
        "d": True,
    }


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("strength", "'strength' is not KEY=JSON"),
        ("a b=1", "'a b=1' is not KEY=JSON"),
        ("mode=fast", "the value of mode is not JSON .* --param 'mode=\"fast\"'"),
    ],
)
def test_a_param_that_is_not_json_is_refused(item: str, message: str) -> None:
    """A bare word is not taken for a string: `yes`, `None` and `1,5` would pass for what they are not."""
    with pytest.raises(typer.BadParameter, match=message):
        _options.params([item])


@pytest.mark.parametrize(
    ("text", "number"), [("65536", 65536), ("64k", 65536), ("512M", 512 << 20), ("2G", 2 << 30), ("16MiB", 16 << 20)]
)
def test_sizes_have_units(text: str, number: int) -> None:
    assert _options.size(text) == number


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "12 M", "1T"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        _options.size(text)


def test_limits_come_from_options() -> None:
    limits = _options.limits("none", "64M", None, "debug")
    assert (limits.deadline_s, limits.memory_bytes, limits.log_level) == (None, 64 << 20, 10)


@pytest.mark.parametrize(
    ("deadline", "memory", "message"),
    [
        ("soon", "64M", "'soon' is neither seconds nor none"),
        ("nan", "64M", "deadline_s is nan"),
        ("0", "64M", "deadline_s is 0"),
        ("1", "1M", "memory_bytes is 1048576"),
    ],
)
def test_limits_out_of_range_are_refused(deadline: str, memory: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        _options.limits(deadline, memory, None, "info")


def test_mounts_are_read_only_unless_they_say_rw() -> None:
    """The host's path may have colons, the node's begins behind the last one."""
    grants = _options.grants([], ["models:/m", "odd:name:/o:ro", "/abs/out:/out/x:rw"], "1M")
    assert {point: (Path(m.path).name, m.writable) for point, m in grants.mounts.items()} == {
        "/m": ("models", False),
        "/o": ("odd:name", False),
        "/out/x": ("out", True),
    }
    assert grants.scratch_bytes == 1 << 20


@pytest.mark.parametrize(
    ("mounts", "scratch", "message"),
    [
        (["models"], "0", "'models' is not HOST:GUEST or HOST:GUEST:rw"),
        (["models:m"], "0", "'models:m' is not HOST:GUEST"),
        ([":/m"], "0", "':/m' is not HOST:GUEST"),
        (["a:/m/../etc"], "0", "give an absolute path below /"),
        (["a:/m", "b:/m/n"], "0", "the mount /m/n lies inside the mount /m"),
        (["a:/tmp"], "1M", "/tmp is mounted, and Grants.scratch_bytes puts"),
        ([], "1", "scratch_bytes is 1: give 0 or a number from 65536"),
        ([], "much", "'much' is no size"),
    ],
)
def test_a_mount_that_is_none_is_refused(mounts: list[str], scratch: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        _options.grants([], mounts, scratch)


def test_variables_clock_and_seed() -> None:
    """A start without a time zone is UTC."""
    grants = _options.grants([], env=["A=1", "B=x=y", "C="], clock="virtual@2024-02-29T12:00:00", seed=7)
    assert dict(grants.env) == {"A": "1", "B": "x=y", "C": ""}
    assert grants.clock.start_ns(0) == 1709208000 * 10**9  # type: ignore[union-attr]
    assert (grants.clock.mode, grants.seed) == ("virtual", 7)  # type: ignore[union-attr]
    assert _options.grants([], clock="frozen").clock.start is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("env", "clock", "message"),
    [(["A"], "real", "is not NAME=VALUE"), (["=1"], "real", "a name has no ="), ([], "slow", "give one of"),
     ([], "frozen@noon", "isoformat"), ([], "real@2024-01-01", "cannot be set")],
)  # fmt: skip
def test_variables_and_clocks_that_are_none_are_refused(env: list[str], clock: str, message: str) -> None:
    """With what is wrong."""
    with pytest.raises(typer.BadParameter, match=message):
        _options.grants([], env=env, clock=clock)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run nodes.py --input a.jsonl --input b.jsonl", "--input is given twice"),
        ("run nodes.py --deadline 1 --deadline=2", "--deadline is given twice"),
        ("check nodes.py --seed 1 --seed 1", "--seed is given twice"),
        ("image prepare --target x86-64 --target x86-64-v2", "--target is given twice"),
        ("run nodes.py --param a=1 --param a=2", "a is given twice"),
        ("run nodes.py --env A=1 --env A=2", "A is given twice"),
        ("run nodes.py --mount a:/x --mount b:/x", "/x is given twice"),
    ],
)
def test_what_is_given_twice_is_refused(line: str, message: str) -> None:
    """One of the two would be ignored."""
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 2
    assert message in done.output
