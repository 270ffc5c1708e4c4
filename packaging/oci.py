"""Write a container image with one layer: packaging/oci.py ROOT VERSION PROCESSOR SECONDS FILE.

ROOT is the file system; its files get the time SECONDS since 1970, unless they are older. FILE is a tar archive of an
OCI image layout, with the `manifest.json` of `docker save` beside its index, so that `docker load` and `podman load` of
every version read it.

The image's user is not root. For such a user Docker grants a capability only through the file that is executed, so the
interpreter of netscand has `cap_net_raw` as a file capability; the container's bounding set still has to permit it.
"""

import gzip
import hashlib
import io
import json
import os
import struct
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

CAP_NET_RAW = 1 << 13
FILE_CAPABILITY = struct.pack("<5I", 0x02000001, CAP_NET_RAW, 0, 0, 0).decode("latin-1")
"""Permitted and effective: `struct vfs_cap_data` of linux/capability.h. All bytes are ASCII, as a PAX header needs."""

CONFIG = {
    "User": "netscan:netscan",
    "Entrypoint": ["/usr/bin/netscand"],
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "PYTHONUNBUFFERED=1"],
    "Volumes": {"/var/lib/netscand": {}},
    "WorkingDir": "/",
    "StopSignal": "SIGTERM",
}
"""The image specification's `config`."""


class Hashed(io.RawIOBase):
    """A file that is written, with its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 any buffer
        """Write and hash."""
        self._hash.update(data)
        return self._file.write(data)

    def digest(self) -> str:
        """Return the digest of what was written, as an image names it."""
        return f"sha256:{self._hash.hexdigest()}"


def layer(root: Path, made: int, file: BinaryIO) -> tuple[str, str]:
    """Write the file system `root` as a compressed layer; return the digests of the archive and of its content."""
    python = (root / "usr/bin/python3").resolve().name
    outside = Hashed(file)
    with gzip.GzipFile("", "wb", 6, outside, mtime=0) as packed:  # type: ignore[arg-type]
        inside = Hashed(packed)  # type: ignore[arg-type]
        with tarfile.open(fileobj=inside, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(root.rglob("*")):
                name = path.relative_to(root)
                if name.parts[0] in ("dev", "proc", "sys") and len(name.parts) > 1:
                    continue
                entry = archive.gettarinfo(path, str(name))
                entry.mtime = min(int(entry.mtime), made)
                entry.uname = entry.gname = ""
                if name == Path("usr/bin", python):
                    entry.pax_headers = {"SCHILY.xattr.security.capability": FILE_CAPABILITY}
                if entry.isreg():
                    with path.open("rb") as content:
                        archive.addfile(entry, content)
                else:
                    archive.addfile(entry)
    return outside.digest(), inside.digest()


class Image:
    """The archive of an image layout, while it is written."""

    def __init__(self, file: Path, made: int) -> None:
        self._archive = tarfile.open(file, "w")  # noqa: SIM115 closed by `close`
        self._made = made

    def close(self) -> None:
        """End the archive."""
        self._archive.close()

    def add(self, name: str, content: BinaryIO, size: int) -> None:
        """Add a file."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, self._made, 0o644
        self._archive.addfile(entry, content)

    def add_json(self, name: str, value: object) -> dict[str, Any]:
        """Add a file of JSON; an empty name: as a blob. Return its digest and size."""
        raw = json.dumps(value, sort_keys=True).encode()
        digest = hashlib.sha256(raw).hexdigest()
        self.add(name or f"blobs/sha256/{digest}", io.BytesIO(raw), len(raw))
        return {"digest": f"sha256:{digest}", "size": len(raw)}


def main() -> None:
    """Write the layer, then all that refers to it."""
    root, version, processor, seconds, target = sys.argv[1:]
    made, file = int(seconds), Path(target)
    created = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with (part := file.with_suffix(".layer")).open("w+b") as packed:
        part.unlink()
        digest, content = layer(Path(root), made, packed)
        size = packed.tell()
        packed.seek(0)
        labels = {"title": "netscand", "version": version, "licenses": "MIT"}
        labels["description"] = "Monitor of the devices on the local networks"
        labels = {f"org.opencontainers.image.{key}": value for key, value in labels.items()}
        image = Image(file, made)
        image.add(f"blobs/sha256/{digest[7:]}", packed, size)
    config = image.add_json("", {
        "created": created, "architecture": processor, "os": "linux", "config": CONFIG | {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [content]},
        "history": [{"created": created, "created_by": "packaging/image"}],
    })  # fmt: skip
    kind = "application/vnd.oci.image"
    manifest = image.add_json("", {
        "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **config},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar+gzip", "digest": digest, "size": size}],
    })  # fmt: skip
    name = f"netscand:{version}"
    names = {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"docker.io/library/{name}"}
    entry = {"mediaType": f"{kind}.manifest.v1+json", **manifest, "annotations": names}
    image.add_json("index.json", {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": [entry]})
    image.add_json("oci-layout", {"imageLayoutVersion": "1.0.0"})
    blobs = [f"blobs/sha256/{each[7:]}" for each in (config["digest"], digest)]
    image.add_json("manifest.json", [{"Config": blobs[0], "RepoTags": [name], "Layers": [blobs[1]]}])
    image.close()
    os.chmod(file, 0o644)


if __name__ == "__main__":
    main()
