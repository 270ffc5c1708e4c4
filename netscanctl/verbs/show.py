"""`netscanctl show DEVICE`: all that is known of one."""

import click

from netscanctl.cli import Session
from netscanctl.client import Client, device_path
from netscanctl.render import device_facts
from netscanctl.which import as_ip, as_mac, the_one
from netscand.protocol import Device, DeviceList


def mac_of(client: Client, text: str) -> str:
    """The MAC of the device that `text` names. Raises Failure where it is none, or more than one."""
    devices = client.read(client.get("/api/devices", {"q": as_ip(text) or text}), DeviceList).devices
    return the_one(devices, text).mac


@click.command("show", short_help="Show one device: addresses, and why it is on- or offline.")
@click.argument("device")
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came.")
@click.pass_obj
def command(session: Session, device: str, as_json: bool) -> None:
    """Show one DEVICE (its MAC, address, name or label): addresses, and why it is online or offline."""
    answer = session.client.get(device_path(as_mac(device) or mac_of(session.client, device)))
    terminal = session.terminal
    if as_json:
        terminal.json(answer)
        return
    told = session.client.read(answer, Device)
    terminal.write(device_facts(told, paint=terminal.paint, today=terminal.today))
