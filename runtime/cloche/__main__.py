"""``python -m cloche``: the command `cloche`."""

from cloche.cli import main

main()
