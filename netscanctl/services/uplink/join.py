"""`netscand-uplink join`: make the site's key, and write what the hub's administrator gave into services.toml."""

import base64
import binascii
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import msgspec

from netscanctl.atomic_file import resolve_links, write_atomically
from netscanctl.services import services_file
from netscanctl.services.uplink.settings import KEY, Uplink
from netscand import nats_settings
from netscand.config import ConfigError
from netscand.sites import NAME

CREDENTIAL = Path("/etc/credstore") / KEY
AUTHORITY = "uplink-ca.pem"
"""File of the hub's authority, beside the configuration."""


def join(config: Path, server: str, name: str, ca: str | None, *, replace: bool, start: bool) -> None:
    """Join a hub: configuration, key, service; print the command for the hub. Raises ConfigError."""
    faults = [fault.replace("server", "SERVER", 1) for fault in nats_settings.server_faults(server)]
    if not NAME.fullmatch(name):
        faults.append(f"NAME {name!r}: expected 1 to 32 letters, digits, - or _")
    if ca is not None and not nats_settings.uses_tls(server):
        faults.append(f"SERVER {server!r}: --ca needs tls://")
    if faults:
        raise ConfigError(*faults)
    pem = None if ca is None else authority(ca)
    try:
        text = config.read_text() if config.exists() else ""
    except OSError as error:
        raise ConfigError(f"{config}: {error.strerror}; run this as root") from None
    _, before = services_file.load(config, Uplink, required=False)
    if before.site not in (None, name) and not replace:
        raise ConfigError(f"{config}: [uplink] site is already {before.site!r}; to join as {name} instead: --replace")
    ca_file = None if pem is None else str(config.absolute().parent / AUTHORITY)
    # The unit has its key from systemd; another configuration has its own.
    beside = None if config.absolute() == services_file.DEFAULT else str(config.absolute().with_name("uplink.key"))
    key_file = before.key_file or beside
    public = public_key(Path(key_file) if key_file else CREDENTIAL)
    if pem is not None and ca_file is not None:
        _write(Path(ca_file), pem.encode())
    _write(config, with_keys(text, {"server": server, "site": name, "key_file": key_file, "ca_file": ca_file}).encode())
    services_file.load(config, Uplink)
    note(f"{config}: [uplink] has server and site")
    if start:
        _start()
    note("next, at the hub, this command, which contains nothing secret:")
    sys.stdout.write(f"sudo netscand-hub add-site {name} --key {public}\n")


def note(line: str) -> None:
    """Print a line for people; what is to be copied goes to stdout."""
    sys.stderr.write(f"netscand-uplink: {line}\n")


def authority(text: str) -> str:
    """Return the certificate of --ca as PEM: a file, or the base64 that add-site prints. Raises ConfigError."""
    try:
        if len(text) < 256:  # a certificate is longer, and the name of a file is not
            pem = Path(text).read_text()
        else:
            pem = ssl.DER_cert_to_PEM_cert(base64.b64decode(text, validate=True))
        ssl.create_default_context(cadata=pem)
    except (OSError, ssl.SSLError, binascii.Error, ValueError) as error:
        shown = text if len(text) < 80 else f"{text[:40]}…"
        reason = "no certificate" if isinstance(error, ValueError | ssl.SSLError) else error.strerror
        raise ConfigError(
            f"--ca {shown!r}: {reason}; copy the whole command that netscand-hub add-site prints"
        ) from None
    return pem


def public_key(path: Path) -> str:
    """Return the public half of the key in a file, which is made if it is missing. Raises ConfigError."""
    import nkeys

    try:
        seed = path.read_bytes().strip()
    except FileNotFoundError:
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        _write(path, seed + b"\n", 0o600)
        note(f"{path}: new key, which stays on this machine")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; run this as root") from None
    if not nats_settings.SEED.fullmatch(seed.decode(errors="replace")):
        raise ConfigError(f"{path}: not a private key; delete it, and run this again")
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


def with_keys(text: str, values: dict[str, str | None]) -> str:
    """Return services.toml with these keys of [uplink], and everything else as it was; None: without the key."""
    lines = text.splitlines()
    if not any(re.match(r"\s*\[uplink\]", line) for line in lines):
        lines += [*([""] if lines else []), "[uplink]"]
    start = next(at for at, line in enumerate(lines) if re.match(r"\s*\[uplink\]", line)) + 1
    end = next((at for at in range(start, len(lines)) if re.match(r"\s*\[", lines[at])), len(lines))
    table = lines[start:end]
    at = 0
    for key, value in values.items():
        mine = [n for n, line in enumerate(table) if re.match(rf"\s*{key}\s*=", line)]
        shown = [n for n, line in enumerate(table) if re.match(rf"#\s?{key}\s*=", line)]
        if value is None:
            table = [line for n, line in enumerate(table) if n not in mine]
            continue
        line = f"{key} = {msgspec.json.encode(value).decode()}"
        if mine or shown:
            table[(mine or shown)[0]] = line
        else:
            table.insert(at, line)
            at += 1
    return "\n".join([*lines[:start], *table, *lines[end:], ""])


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    try:
        path = resolve_links(str(path))
        path.parent.mkdir(mode=0o700 if path.parent == CREDENTIAL.parent else 0o755, parents=True, exist_ok=True)
        write_atomically(path, lambda out: out.write(content), path.stat().st_mode & 0o777 if path.exists() else mode)
    except OSError as error:
        hint = "; run this as root" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{path}: cannot be written: {error.strerror}{hint}") from None


def _start() -> None:
    """Enable and start the service, where systemd runs."""
    if not Path("/run/systemd/system").is_dir():
        note("then start netscand-uplink")
        return
    for words in (("enable", "--quiet", "netscand-uplink"), ("restart", "netscand-uplink")):
        program = shutil.which("systemctl") or "systemctl"
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ConfigError(f"systemctl {' '.join(words)}: {reason}; see journalctl -u netscand-uplink")
    note("netscand-uplink.service: running, and it waits for the hub")
