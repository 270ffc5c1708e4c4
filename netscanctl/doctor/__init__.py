"""`netscanctl doctor`: checks of the daemon and of this host."""
