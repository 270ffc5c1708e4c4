"""A self-signed certificate for `localhost`, 127.0.0.1 and 10.77.0.2, valid until 2126. It protects nothing."""

from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBoTCCAUegAwIBAgIUJEekijuOCkku3p8rjxZP0AJqpW0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDIyNTMyOFoYDzIxMjYxMDMx
MjI1MzI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS74ttXhHrShquQI3d09XTCKBTFZAnfrg79rHqkGVaP8RHdijRh2AaW
8NAN8guDCEM6eOeWKF8ObGdCLOdEkZ6Uo3UwczAdBgNVHQ4EFgQUwnziq4MQlnRl
NPR4SvHJc/KMmqMwHwYDVR0jBBgwFoAUwnziq4MQlnRlNPR4SvHJc/KMmqMwDwYD
VR0TAQH/BAUwAwEB/zAgBgNVHREEGTAXgglsb2NhbGhvc3SHBH8AAAGHBApNAAIw
CgYIKoZIzj0EAwIDSAAwRQIgKlIrXx1b6IHzGMWDffUpXPgYsLxdtauQfhnymKqv
JBoCIQDIjvDtXmTvJgCxaOEXDxDZ4RWZgg6DQfjN+nwrRaOKfw==
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQorcD3SWHYIyntci
MDSM5hL9NzQQq1HJ9nNTxD3sp/yhRANCAAS74ttXhHrShquQI3d09XTCKBTFZAnf
rg79rHqkGVaP8RHdijRh2AaW8NAN8guDCEM6eOeWKF8ObGdCLOdEkZ6U
-----END PRIVATE KEY-----
"""

ANOTHER_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIP1UYXCXylmZLB2/HKho87uRApL+Kcvk2CqRODS4I93noAoGCCqGSM49
AwEHoUQDQgAEXbEwR+OrVLByXAZrUWqnvGN4eqgEgirL4KazqzpO6YQFA3IG9/zK
dCU7o626Nn2fvhvfX0c9MFCxXDEryZwYLA==
-----END EC PRIVATE KEY-----
"""

LOCKED_KEYS = (
    """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,A5DF1458D29D2AA292A3EA28D6AF388C

KcwjRzO5frlRm63yioQ/E5j7jzohjcohUr318VoaVhRlZAakPh92Tw1Jvggd1YL+
aFaCs4sW+SK3dLvDFDdoO94KpiG5Mzx08zGl2R1DEqBDrGsK1nI2ZwjbZ+gGDq7C
/fs/yKladI2pxIHdYPmDri2BfgExhaqDJZpQscbBS6o=
-----END EC PRIVATE KEY-----
""",
    """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgqDCFdpmS0JwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEFFHcJnzCZAbBUsypw5v3lMEgZCq
y7CbhVfabKjuUatEQITorQYIM37+HUY74GkEJXLlVecp2wdyBR2OX+wGF3/jxSQY
Lg5uVR7PzPc6U8qZwKYmK+lXrBca5l/sEJdY8SO8JfJ51x24iJ0keLKjDkKOB8DM
abgOCyhnh06bfu0i+vGqOoDf1I424bSHJ1r2jeHBRMtiwRbelOxYsie96pTE14s=
-----END ENCRYPTED PRIVATE KEY-----
""",
)
"""Encrypted with the password `secret`, in both forms."""


def certificate(folder: Path, key: str = KEY, mode: int = 0o640) -> dict[str, str]:
    """Write both to files; return the keys of `[listen]`."""
    paths = folder / "certificate.pem", folder / "key.pem"
    for path, text in zip(paths, (CERTIFICATE, key), strict=True):
        path.write_text(text)
        path.chmod(mode)
    return {"tls_certificate": str(paths[0]), "tls_key": str(paths[1])}
