"""The services with real servers of other systems."""
