"""One guest: the instance that runs it in this process, its log records, snapshots, load request, and why it ended."""
