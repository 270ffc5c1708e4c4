"""The thin client of netscand."""
