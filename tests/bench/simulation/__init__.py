"""Days of device life in seconds: the judge of `netscand.core.presence`, beside the rules of other systems.

    python -m tests.bench.simulation --seeds 101-108 --days 17

life        what the devices of `parameters.toml` do: a trace
rules       who listens and asks: the real Presence, and the rules of others, on the same traces
figures     what came of it: false words, delays, frames
__main__    the table, the bounds, pass or fail
"""
