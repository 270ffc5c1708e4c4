"""Services that follow the stream and carry it to other systems, as unprivileged processes of their own (law 10)."""
