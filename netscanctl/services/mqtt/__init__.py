"""netscand-mqtt: presence and events for an MQTT broker, and for Home Assistant by discovery."""
