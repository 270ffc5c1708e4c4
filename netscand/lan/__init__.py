"""Whatever touches the network, and nothing else does."""
