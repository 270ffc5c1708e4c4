"""The commands, a file each with its click `command`; imported when used."""
