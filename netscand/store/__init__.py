"""What survives a restart: the history in SQLite. Nothing else of the daemon writes to a disk."""
