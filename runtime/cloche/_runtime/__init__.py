"""What a caller holds: runtimes, nodes, streams, pools and recovery. Works with any sandbox, in this process or another."""
