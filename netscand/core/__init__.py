"""The pure heart: told the time, returns what changed. No I/O, no clock, no asyncio, no logging."""
