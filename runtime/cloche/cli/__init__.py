"""The command `cloche`. Results go to stdout, logs and progress to stderr; the exit code is not 0 after an error."""

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    from cloche.cli._app import app

    app(prog_name="cloche")
