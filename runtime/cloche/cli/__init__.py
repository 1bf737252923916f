"""The command `cloche`: results on stdout, logs and progress on stderr, a non-zero exit on error."""

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    from cloche.cli._app import app

    app(prog_name="cloche")
