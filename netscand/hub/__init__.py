"""netscand-hub: serves the contract of netscand for many sites, from their log on NATS JetStream (docs/hub.md)."""
