"""The command `cloche`. Results go to stdout, logs and progress to stderr; the exit code is not 0 after an error."""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    try:
        from cloche.cli import _program
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("cloche"):
            raise
        missing = f"the command line needs {error.name}: pip install 'cloche[cli]'"
        print(f"cloche: {missing}", file=sys.stderr)
        raise SystemExit(1) from None
    _program.main()
