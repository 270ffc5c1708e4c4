"""Fields of a device that users set: label, known, notes, patience, kind, tags, and which devices it is not."""

from collections.abc import Mapping

from netscand.core.model import CHOSEN_KIND, Device, Event, EventKind, Kind, chosen_kind


def annotate(
    device: Device, changes: Mapping[str, object], now: float, by_evidence: Kind | None = None
) -> Event | None:
    """Set annotations by their wire names; return the event, None if nothing changes.

    `patience` None: learned; `kind` None: `by_evidence`.
    """
    presence = device.presence
    chosen = presence.chosen
    previous: dict[str, object] = {}
    for name in ("label", "known", "notes", "tags", "not_same_as"):
        if name in changes and getattr(device, name) != changes[name]:
            previous[name] = getattr(device, name)
            setattr(device, name, changes[name])
    if "kind" in changes and changes["kind"] != chosen_kind(device):
        kind = device.kind
        previous["kind"], previous["kind_reason"] = kind.name if kind else None, kind.reason if kind else None
        device.kind = Kind(str(changes["kind"]), CHOSEN_KIND) if changes["kind"] else by_evidence
    if "patience" in changes and changes["patience"] != chosen:
        previous["patience"] = presence.patience
        patience = changes["patience"]
        presence.chosen = float(patience) if isinstance(patience, int | float) else None
    if not previous:
        return None
    changed = ", ".join(name for name in previous if name != "kind_reason")
    return Event(EventKind.LABELLED, now, None, device, reason=f"{changed} changed by a user", previous=previous)


def would_annotate(changes: Mapping[str, object]) -> bool:
    """Return whether changes set an annotation, instead of only removing some."""
    return any(value not in (None, False, ()) for value in changes.values())


NO_ANNOTATIONS: Mapping[str, object] = {
    "label": None, "known": False, "notes": None, "patience": None, "kind": None, "tags": (), "not_same_as": (),
}  # fmt: skip


def annotations(device: Device) -> dict[str, object]:
    """Return a user's annotations of a device, by their wire names, without those that are not set."""
    values = {
        "label": device.label, "known": device.known, "notes": device.notes, "patience": device.presence.chosen,
        "kind": chosen_kind(device), "tags": device.tags, "not_same_as": device.not_same_as,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value}


def inherited(old: Device, new: Device | None) -> dict[str, object]:
    """Return the annotations that `new` gets from `old`: those that `old` has, and the tags of both."""
    found = annotations(old)
    if old.tags and new is not None:
        found["tags"] = tuple(sorted({*old.tags, *new.tags}))
    return found


def move_annotations(old: Device, new: Device, now: float) -> list[Event]:
    """Move a user's annotations from one device to another, which is the same device under another MAC.

    Annotations that `old` does not have stay as they are at `new`. Return the events, that of `old` first.
    """
    found = inherited(old, new)
    cleared, taken = annotate(old, NO_ANNOTATIONS, now), annotate(new, found, now)
    return [event for event in (cleared, taken) if event is not None]


def is_annotated(device: Device) -> bool:
    """Return whether a user annotated the device, or gave it to a person; such devices are never evicted."""
    return (
        device.has_person
        or bool(device.label or device.known or device.notes or device.tags or device.merged or device.not_same_as)
        or device.presence.chosen is not None
        or (device.kind is not None and chosen_kind(device) is not None)
    )
