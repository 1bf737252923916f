"""What is on stderr: a bar only where somebody watches, and for what takes long enough."""

from __future__ import annotations

import io

import pytest

from cloche.cli import _console


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal. Not a fixture: pytest sets sys.stderr anew before each test's call."""
    made = Terminal()
    monkeypatch.setattr("sys.stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    return made


def work(quiet: bool = False) -> None:
    with _console.Bar("denoise", 10, quiet) as bar:
        for _ in range(10):
            bar.advance(1)


def test_long_work_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no delay, everything is long."""
    terminal = watched(monkeypatch)
    monkeypatch.setattr(_console, "SHOW_AFTER_S", 0.0)
    work()
    assert "denoise" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(_console, "SHOW_AFTER_S", 3600.0)
    work()
    assert terminal.getvalue() == ""


def test_a_quiet_bar_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(_console, "SHOW_AFTER_S", 0.0)
    work(quiet=True)
    assert terminal.getvalue() == ""


def test_a_file_gets_no_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file has no use for it."""
    monkeypatch.setattr(_console, "SHOW_AFTER_S", 0.0)
    work()
    assert capsys.readouterr().err == ""


def test_log_records_go_to_the_stderr_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich replaces sys.stderr while a bar is shown: a record printed then must not tear it."""
    log = _console.logger()
    terminal = watched(monkeypatch)
    log.info("hello", node="N", call=3)
    assert "hello" in terminal.getvalue()
    assert "call" in terminal.getvalue()
