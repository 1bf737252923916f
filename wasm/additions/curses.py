# Behind CPython's curses: without this, it would ask stdout for a descriptor first, which it has not.


def initscr():
    """Raises `error`: there is no terminal."""
    import _curses

    return _curses.initscr()
