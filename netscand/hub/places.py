"""Files of the hub and its NATS server: keys, certificates, configuration; and how they are changed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from netscand.config import ConfigError
from netscand.hub import settings
from netscand.hub.server_config import Keys, accounts_text

SERVICE = "netscand-nats"
"""Unit of the server."""


@dataclass(frozen=True)
class Places:
    """The files that belong to a configuration: those of the units for the default one, else all in its folder."""

    config: Path

    @property
    def has_units(self) -> bool:
        """Return whether these are the files of netscand-hub.service and netscand-nats.service."""
        return self.config == settings.DEFAULT

    @property
    def folder(self) -> Path:
        """Return the folder of the server's configuration."""
        return self.config.parent / "nats"

    @property
    def hub_key(self) -> Path:
        """Return the private key of the hub, a credential of its unit."""
        return Path("/etc/credstore", settings.KEY) if self.has_units else self.folder / "hub.key"

    @property
    def store(self) -> Path:
        """Return the folder of the log."""
        return Path("/var/lib", SERVICE, "log") if self.has_units else self.folder / "store"

    @property
    def pid(self) -> Path:
        """Return the file with the process of the server."""
        return Path("/run", SERVICE, "pid") if self.has_units else self.folder / "pid"

    @property
    def certificate_key(self) -> Path:
        """Return the private key of the server's certificate as the server reads it."""
        return (
            Path("/run/credentials", f"{SERVICE}.service", "server.key") if self.has_units else self.file("server.key")
        )

    def file(self, name: str) -> Path:
        """Return a file in the folder."""
        return self.folder / name

    def read_keys(self) -> Keys:
        """Return the public keys. Raises ConfigError if there are none yet."""
        path = self.file("keys.json")
        try:
            return msgspec.json.decode(path.read_bytes(), type=Keys)
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist: set up the server first: netscand-hub init HOST") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; run this as root") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: {error}; restore it from a backup") from None

    def write_keys(self, keys: Keys, closed: Collection[str] = ()) -> None:
        """Write the public keys, and the accounts made of them (`accounts`). Raises ConfigError."""
        write(self.file("keys.json"), msgspec.json.format(msgspec.json.encode(keys)) + b"\n", 0o600)
        write(self.file("accounts.conf"), accounts_text(keys, closed).encode())

    def seed(self, path: Path) -> str:
        """Return a private key. Raises ConfigError."""
        try:
            return path.read_text().strip()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; netscand-hub init makes it, and only root reads it") from None


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file at once, or leave it as it was. Raises ConfigError, for example if the disk is full."""
    try:
        path.parent.mkdir(mode=0o700 if path.parent.name == "credstore" else 0o755, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as out:
                out.write(content)
                out.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        hint = "; run this as root" if isinstance(error, PermissionError) else "; nothing was changed there"
        raise ConfigError(f"{path}: cannot be written: {error.strerror}{hint}") from None


def new_key() -> tuple[str, str]:
    """Return a new NKey of a user: its private half, and its public one."""
    import nkeys

    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def public_key(seed: str) -> str:
    """Return the public half of a private key. Raises ValueError."""
    import nkeys

    try:
        return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())
    except nkeys.NkeysError as error:
        raise ValueError(str(error) or "no key") from None


# ---- certificates, by openssl(1)

DAYS = 3650
SOON = 30
"""Days before the end of a certificate at which it is renewed, or reported."""


def openssl(*words: str) -> str:
    """Run the program, and return what it prints. Raises ConfigError."""
    program = shutil.which("openssl")
    if program is None:
        raise ConfigError("openssl is missing: apt install openssl, or give init --certificate and --key")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        (*_, last) = done.stderr.strip().splitlines() or ["no reason given"]
        raise ConfigError(f"openssl {words[0]} failed: {last}")
    return done.stdout


def make_authority(places: Places) -> None:
    """Make the authority that signs the server's certificate; sites trust it, and it alone."""
    with _folder(places) as folder:
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(DAYS),
            "-subj", "/CN=netscand-hub", "-addext", "keyUsage=critical,keyCertSign",
            "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-keyout", str(folder / "key"), "-out", str(folder / "pem"),
        )  # fmt: skip
        write(places.file("ca.key"), (folder / "key").read_bytes(), 0o600)
        write(places.file("ca.pem"), (folder / "pem").read_bytes())


def make_certificate(places: Places, host: str) -> None:
    """Make the server's certificate, for its name or address and for this host."""
    kind = "IP" if host.replace(".", "").isdigit() or ":" in host else "DNS"
    names = f"{kind}:{host},DNS:localhost,IP:127.0.0.1,IP:::1"
    with _folder(places) as folder:
        openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=netscand-nats", "-keyout", str(folder / "key"), "-out", str(folder / "request"),
        )  # fmt: skip
        (folder / "extensions").write_text(
            f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nkeyUsage=critical,digitalSignature\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nbasicConstraints=critical,CA:FALSE\n"
        )
        openssl(
            "x509", "-req", "-in", str(folder / "request"), "-CA", str(places.file("ca.pem")),
            "-CAkey", str(places.file("ca.key")), "-set_serial", f"0x{os.urandom(16).hex()}", "-days", str(DAYS),
            "-extfile", str(folder / "extensions"), "-out", str(folder / "pem"),
        )  # fmt: skip
        write(places.file("server.key"), (folder / "key").read_bytes(), 0o600)
        write(places.file("server.pem"), (folder / "pem").read_bytes())


def ends_within(certificate: Path, days: int) -> bool:
    """Return whether a certificate ends within so many days, or cannot be read."""
    try:
        openssl("x509", "-in", str(certificate), "-noout", "-checkend", str(days * 86_400))
    except ConfigError:
        return True
    return False


def has_host(certificate: Path, host: str) -> bool:
    """Return whether a certificate is for this name or address."""
    option = "-checkip" if host.replace(".", "").isdigit() or ":" in host else "-checkhost"
    return "does match" in openssl("x509", "-in", str(certificate), "-noout", option, host)


@contextmanager
def _folder(places: Places) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="netscand-hub-") as folder:  # only its owner reads it
        yield Path(folder)
