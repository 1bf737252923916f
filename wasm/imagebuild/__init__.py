"""Builds the guest image from pinned sources. `wasm/build.py` is the command; docs/explanation/image.md says how it works."""
