"""The pure core: it gets the time as an argument and returns what changed. No I/O, no clock, no asyncio, no logging."""
