"""Everything that touches the engine, a store, linear memory or time. Read `core` first: all the other modules build on it."""
