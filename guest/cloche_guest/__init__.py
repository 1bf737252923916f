"""What runs inside the sandbox: dispatch, loader, logging, streams, event loop. Standard library only.

`boot` is the only module with side effects at import; every other one can be imported and tested natively.
"""
