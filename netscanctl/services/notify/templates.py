"""Templates of titles and texts: fields in braces, and no code. Pure."""

from collections.abc import Iterator, Mapping
from string import Formatter

FIELDS = {
    "name": "label, else host name, else vendor and MAC",
    "label": "label set by a user",
    "hostname": "host name",
    "mac": "MAC",
    "ip": "address that the device is known by",
    "address": "address that the event is about",
    "vendor": "vendor",
    "tags": "tags of the device, separated by spaces",
    "status": "status after the event",
    "kind": "kind of the event",
    "reason": "reason of the event",
    "network": "network, such as 192.168.1.0/24@eth0",
    "other": "second MAC, for example in a conflict",
    "time": "local time of the event",
    "link": "address of the device's page",
}
"""Field → meaning."""
LIMIT = 2000
"""Maximum characters of a template."""


def template_faults(key: str, template: str | None) -> Iterator[str]:
    """Yield a line for each part of a template that is not a known field in braces."""
    if template is None:
        return
    if len(template) > LIMIT:
        yield f"{key}: expected at most {LIMIT} characters, not {len(template)}"
        return
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        yield f"{key} {template!r}: a brace is not closed or not opened; write {{{{ or }}}} for a brace itself"
        return
    for _, field, form, conversion in parts:
        if field is not None and (field not in FIELDS or form or conversion):
            whole = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            yield f"{key}: unknown field {{{whole}}}; known fields: {', '.join(FIELDS)}"


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the text of a checked template. No attribute or index is looked up, whatever the template is."""
    return "".join(
        literal + (values.get(field, "") if field is not None else "")
        for literal, field, _, _ in Formatter().parse(template)
    )
