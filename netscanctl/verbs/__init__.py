"""Commands of netscanctl: one file per command, each with its click `command`."""
