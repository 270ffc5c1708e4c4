"""What a person sees on the page, as expressions for the browser."""

import json

COUNT = "Number(document.querySelector('#count-all').textContent.replace(/\\D/g, ''))"
"""Devices in the list, this host left out."""

ROWS = "[...document.querySelectorAll('#table [data-mac]')]"
"""Rows that exist, in the order of the document."""


def row(ip: str) -> str:
    """The text of the row with this address, its cells joined by `|`; empty where there is none."""
    found = f"{ROWS}.find(row => row.querySelector('.c-ip').textContent === {json.dumps(ip)})"
    return f"[...({found}?.cells || [])].map(cell => cell.innerText).join('|')"


def column(name: str) -> str:
    """The texts of one column, from top to bottom."""
    return f"{ROWS}.map(row => row.querySelector('.c-{name}').innerText.trim())"


def events() -> str:
    """The list of events, the newest first."""
    return "[...document.querySelectorAll('#event-list li')].map(item => item.innerText.replaceAll('\\n', ' '))"
