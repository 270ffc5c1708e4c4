"""netscand: a daemon that knows which devices are on the local networks."""

__version__ = "0.1.0"
