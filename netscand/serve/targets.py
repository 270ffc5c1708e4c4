"""Who is at the targets of a wish: the scan that met it may have been somebody else's too."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from netscand.core.model import Device, Mac
from netscand.serve.fair import Account, FairTurns


class Targets:
    """What a wish named, each an IPv4 address, a prefix or the id of a network, as scan_now took them."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._prefixes: dict[int, set[int]] = {}
        """Bits → the prefixes of that length, so that each address is looked up 33 times at most."""

    def add(self, target: str) -> None:
        """Take one of them."""
        if "@" in target:
            self._ids.add(target)
        else:
            prefix = IPv4Network(target)
            self._prefixes.setdefault(prefix.prefixlen, set()).add(int(prefix.network_address))

    def name(self, device: Device) -> bool:
        """Whether a device is at one of them; this host, which nobody asks, only at its very own address."""
        lengths = [32] if device.is_self else self._prefixes
        for held in device.addresses:
            if held.network in self._ids and not device.is_self:
                return True
            if len(held.ip) == 4:
                number = int.from_bytes(held.ip)
                if any(number >> 32 - bits << 32 - bits in self._prefixes.get(bits, ()) for bits in lengths):
                    return True
        return False


async def at_targets(
    macs: Sequence[Mac], devices: Mapping[Mac, Device], targets: Sequence[str], turns: FairTurns, account: Account
) -> Sequence[Mac]:
    """Those of `macs` that are at one of the targets; all where there is none. In turns of `account`."""
    if not targets:
        return macs
    wanted, kept = Targets(), []
    async for target in turns.over(account, targets):
        wanted.add(target)
    async for mac in turns.over(account, macs):
        device = devices.get(mac)
        if device is not None and wanted.name(device):
            kept.append(mac)
    return kept
