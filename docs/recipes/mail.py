#!/usr/bin/env python3
"""Send a mail about a device: its event as JSON on standard input (see mail.md)."""

import argparse
import json
import smtplib
import sys
import time
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path

PAUSES = (0, 5, 20)
"""Seconds before each attempt; in all, less than the 60 s that a run may take."""


def line(text: object) -> str:
    """Return text as one visible line, because a device chooses its name itself."""
    return "".join(char for char in " ".join(str(text).split()) if char.isprintable())


def local(stamp: str) -> str:
    """Return a time as local time."""
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"


def letter(event: dict, sender: str, to: list[str], page: str | None) -> EmailMessage:
    """Return the mail about a device, with a link to it on `page`."""
    device = event["device"]
    name = line(device["label"] or device["hostname"] or device["mac"])
    vendor = line(device["vendor"] or ("a randomized MAC" if device["randomized_mac"] else "unknown vendor"))
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    what = "new device" if event["kind"] == "discovered" else line(event["kind"])
    mail["Subject"] = f"{what}: {name} ({vendor}), {line(device['ip'])}"
    mail.set_content(
        f"{name}, {vendor}\n"
        f"MAC      {line(device['mac'])}\n"
        f"address  {line(event['address'] or device['ip'])} on {line(event['network'])}\n"
        f"since    {local(event['at'])}, {line(event['reason'])}\n"
        + (f"page     {page.rstrip('/')}/#{line(device['mac'])}\n" if page else "")
    )
    return mail


def send(mail: EmailMessage, options: argparse.Namespace) -> None:
    """Send a mail. Raises OSError, the base of every SMTPException."""
    host, _, port = options.smtp.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=8) as server:
        if options.starttls:
            server.starttls()
        if options.login:
            server.login(options.login, Path(options.password_file).read_text().strip())
        server.send_message(mail)


def main() -> int:
    """Read, write, send; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--smtp", metavar="HOST[:PORT]", default="localhost")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", required=True)
    parser.add_argument("--to", metavar="ADDRESS", action="append", required=True)
    parser.add_argument("--page", metavar="URL")
    parser.add_argument("--starttls", action="store_true")
    parser.add_argument("--login", metavar="USER")
    parser.add_argument("--password-file", metavar="FILE")
    options = parser.parse_args()
    event = json.load(sys.stdin)
    if event["kind"] == "discovered" and event["device"]["known"]:  # marked as known before it was seen
        return 0
    if event.get("device") is None:
        return 0  # of a network, not of a device
    mail = letter(event, options.sender, options.to, options.page)
    for pause in PAUSES:
        time.sleep(pause)
        try:
            send(mail, options)
        except OSError as wrong:
            print(f"mail.py: {options.smtp}: {wrong}", file=sys.stderr)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
