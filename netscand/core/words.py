"""What the user knows of a device: label, whether it is known, notes, and a patience of its own."""

from collections.abc import Mapping

from netscand.core.model import Device, Event, EventKind


def relabel(device: Device, wishes: Mapping[str, object], now: float) -> Event | None:
    """Take new words, by their names on the wire; None where nothing changes. `patience` None: the learned one."""
    presence = device.presence
    chosen = presence.chosen
    previous: dict[str, object] = {}
    for name in ("label", "known", "notes"):
        if name in wishes and getattr(device, name) != wishes[name]:
            previous[name] = getattr(device, name)
            setattr(device, name, wishes[name])
    if "patience" in wishes and wishes["patience"] != chosen:
        previous["patience"] = presence.patience
        patience = wishes["patience"]
        presence.chosen = float(patience) if isinstance(patience, int | float) else None
    if not previous:
        return None
    changed = ", ".join(previous)
    return Event(EventKind.LABELLED, now, None, device, reason=f"{changed} changed by a user", previous=previous)


def said_of(device: Device) -> bool:
    """Whether a user said a word of it: then it is not forgotten by itself."""
    return bool(device.label or device.known or device.notes) or device.presence.chosen is not None
