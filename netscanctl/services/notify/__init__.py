"""netscand-notify: messages to people about chosen events, by webhook, ntfy, SMTP and Apprise."""
