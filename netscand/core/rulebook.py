"""Which rules of presence hold for a device: `[presence]`, or the patience of the `[[network]]` where it is asked."""

from collections.abc import Iterable

from netscand.core.model import Device, Network
from netscand.core.places import SCANNED, Places
from netscand.core.presence import Rules


class Rulebook:
    """`rules` are those of `[presence]`."""

    def __init__(self, rules: Rules, place: Places) -> None:
        self.rules = rules
        self._place = place
        self._own: dict[Rules, Rules] = {}
        self._applied: object = None

    def of(self, network: Network) -> Rules:
        """The rules of a network; devices share them."""
        if network.patience is None:
            return self.rules
        rules = Rules(self.rules.probe_interval, *network.patience)
        return self._own.setdefault(rules, rules)

    def apply(self, device: Device) -> None:
        """Give a device the rules of where it is asked."""
        where = self._place.where(device)
        device.presence.rules = self.of(where[0]) if where else self.rules

    def changed(self, networks: Iterable[Network]) -> bool:
        """Whether `apply` may give anybody other rules than at the last call of this."""
        own = {network.id: network.patience for network in networks if network.state in SCANNED}
        before, self._applied = self._applied, (self.rules, own if any(own.values()) else None)
        return before != self._applied
