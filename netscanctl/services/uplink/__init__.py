"""netscand-uplink: publishes the events of this site to NATS JetStream, where a central view reads them."""
