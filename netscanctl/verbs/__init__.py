"""One file a verb, each with its click `command`."""
