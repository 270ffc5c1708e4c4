"""Commands in hints: those of a checkout, where `./dev run` started the daemon or `./dev ctl` netscanctl."""

import os
import re

CHECKOUT = "NETSCANCTL_CHECKOUT"
"""Environment variable that `./dev run` and `./dev ctl` set."""
CONFIG = "NETSCANCTL_CONFIG"
"""Environment variable with the configuration file, which they set, too."""
COMMANDS = (
    "watch", "scan-now", "devices", "show", "events", "wait-for", "wake", "label", "kind", "known", "notes", "tag",
    "people", "merge", "patience", "forget", "import", "networks", "sites", "status", "reload", "token", "backup",
    "capture", "doctor", "completion",
)  # fmt: skip
"""Commands of netscanctl, in the order of its `--help`."""
_CLIENT = re.compile(rf"\b(?:sudo )?netscanctl (?=(?:{'|'.join(COMMANDS)})\b)")
_SERVICE = re.compile(r"\bsystemctl (start|restart|reload) netscand\b(?!\.)")
_LOG = re.compile(r"\bjournalctl -u netscand\b(?!-)(?: -n \d+)?")


def for_checkout(text: str) -> str:
    """Return a text for people with the commands that work here: in a checkout, those of `./dev`."""
    if CHECKOUT not in os.environ:
        return text
    folder = os.path.dirname(os.environ.get(CONFIG, "")) or ".netscand"
    services = {"start": "sudo ./dev run", "restart": "end ./dev run, and start it again", "reload": "./dev ctl reload"}
    text = _SERVICE.sub(lambda found: services[found[1]], _CLIENT.sub("./dev ctl ", text))
    return _LOG.sub(lambda _: f"tail {folder}/log", text)
