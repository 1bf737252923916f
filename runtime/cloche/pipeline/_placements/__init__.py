"""Where nodes run: one implementation of `Placement` for each `Place`."""
