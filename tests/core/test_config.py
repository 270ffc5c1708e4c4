"""Configuration: an error names the file, the key and the expected value."""

import os
from pathlib import Path

import pytest

from netscand.config import Access, Config, ConfigError, NetworkRule, Scan, load


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "netscand.toml").write_text(text)
    return load(tmp_path / "netscand.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[scan]\ninterval = 0.5", "[scan] interval: expected a number from 1 to 86400, not 0.5"),
        ("[scan]\nspeed = 1", "[scan] speed: unknown key; known keys: interval, rate"),
        ("[sacn]\n", "[sacn]: unknown table; known tables: [scan], [[network]]"),
        ("[presence]\npatience = [60, 10]", "expected the minimum first, then the maximum"),
        ('[[network]]\ncidr = "192.168.1.7/24"', "expected an IPv4 prefix such as 192.168.1.0/24"),
        ("[scan", "not TOML"),
        ("[scan]\n[scan]\ntries = 2", "[scan] is there twice (line 2); write all of its keys below the first [scan]"),
        ("scan = 1", "[scan]: expected a table, not 1"),
        ("[network]", "[network]: expected [[network]], with two brackets"),
        ("[[network]]", "[[network]] cidr is missing"),
        (
            '[names]\nsources = ["wins"]',
            '[names] sources: expected a list, each one of dhcp, dns, mdns, nbns, not ["wins"]',
        ),
        (
            "[presence]\npatience = [60]",
            "[presence] patience: expected a list of 2, each a number above 0, at most 86400",
        ),
        ("[scan]\ntries = true", "[scan] tries: expected a whole number from 1 to 20, not true"),
        ("[listen]\ntls_key = 1979-05-27", '[listen] tls_key: expected text, not "1979-05-27"'),
        ('[access]\nothers = "admin"', '[access] others: expected one of none, read, scan, not "admin"'),
        *(
            (f'[scan]\nexclude = ["{wrong}"]', f"exclude '{wrong}': expected an IPv4 prefix such as 192.168.1.128/25,")
            for wrong in (
                *("300.1.1.1/8", "300.1.1.1", "192.168.1.*", "192.168.1.10-20", "10.0.0.0/33", "fd00::/8", "fd00::1"),
                *("eth0 eth1", "", ".", "an-interface-with-a-long-name", "eth*/24"),
            )
        ),
        ('[scan]\ninterfaces = ["eth0", "10.0.0.0/8"]', "'10.0.0.0/8': expected an interface or a glob"),
        ('[scan]\ninterfaces = ["a/b"]', "[scan] interfaces 'a/b': expected an interface or a glob such as eth*"),
        ('[[network]]\ncidr = "10.0.0.0/8"\ninterface = ""', "interface '': expected an interface or a glob"),
        ('[access]\nallowed_hosts = ["*"]', "allowed_hosts '*': expected a name such as scan.lan"),
        ('[access]\nallowed_hosts = ["http://scan.lan"]', "expected a name such as scan.lan"),
        ('[access]\nallowed_origins = ["*"]', "allowed_origins '*': expected an origin such as https://dash.lan"),
        ('[access]\nallowed_origins = ["null"]', "expected an origin such as https://dash.lan"),
        ('[access]\nallowed_origins = ["https://dash.lan/page"]', "expected an origin such as https://dash.lan"),
        ('[access]\nallowed_origins = ["dash.lan"]', "expected an origin such as https://dash.lan"),
    ],
)
def test_an_error_names_table_and_key(tmp_path: Path, text: str, said: str) -> None:
    """An error names the table, the key, the expected value and the value found."""
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, text)
    assert str(wrong.value).startswith(f"{tmp_path}/netscand.toml: ")
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    """FAULTS F27: a FIFO without a writer, an endless device, a folder."""
    path = tmp_path / "netscand.toml"
    os.mkfifo(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    for wrong in (path, Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigError, match=f"{wrong}: cannot be read: .*(not a regular file|Is a directory)"):
            load(wrong)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """FAULTS F27: a sparse file of terabytes; thousands of tables; a long list; a number of thousands of digits."""
    path = tmp_path / "netscand.toml"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load(path)
    for text, said in (
        ('[[network]]\ncidr = "10.0.0.0/8"\n' * 257, r"\[\[network\]\]: expected at most 256 tables, not 257"),
        (f"[scan]\nexclude = {['eth0'] * 257}", "exclude: expected a list of at most 256, each text"),
        (f"[scan]\ninterval = {'9' * 5000}", "not TOML: Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load(path)


def test_of_many_errors_the_first_are_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, "".join(f"[t{number}]\n" for number in range(5000)))
    assert len(wrong.value.faults) == 5000
    assert str(wrong.value).endswith("; and 4980 more")


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    """In the order of the file, each with its table and key."""
    text = """
[scan]
interval = 0.5
speed = 3
exclude = ["10.0.0.0/33", "docker*", ""]
[presence]
patience = [60, 10]
[[network]]
cidr = "192.168.1.0/24"
[[network]]
cidr = 7
rate = -1
interface = "a/b"
[access]
allowed_hosts = ["*", "scan.lan"]
allowed_origins = ["*", "null"]
others = "admin"
[log]
level = "loud"
"""
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, text)
    places = [fault.removeprefix(f"{tmp_path}/netscand.toml: ").partition(":")[0] for fault in wrong.value.faults]
    assert places == [
        "[scan] speed", "[scan] interval", "[scan] exclude '10.0.0.0/33'", "[scan] exclude ''",
        "[presence] patience [60.0, 10.0]", "[[network]] no. 2 cidr", "[[network]] no. 2 rate",
        "[[network]] no. 2 interface 'a/b'", "[access] allowed_hosts '*'", "[access] allowed_origins '*'",
        "[access] allowed_origins 'null'", "[access] others", "[log] level",
    ]  # fmt: skip
    assert not any(word in str(wrong.value) for word in ("`", "str", "int ", "float", "enum", "array", "None"))


def test_a_table_that_is_made_of_what_fits_nothing_is_refused() -> None:
    """From any caller, not only from a file."""
    with pytest.raises(ValueError, match=r"interfaces 'a/b': .*; exclude ''"):
        Scan(interfaces=("a/b",), exclude=("",))
    with pytest.raises(ValueError, match="cidr"):
        NetworkRule(cidr="192.168.1.7/24")


def test_a_missing_file_is_an_error_only_where_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none")
    assert load(tmp_path / "none", required=False) == Config()


def test_the_token_file_is_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key, and if it exists; so `netscanctl token` edits no configuration."""
    assert loaded(tmp_path, "").access.token_file is None
    (tmp_path / "tokens").touch()
    assert loaded(tmp_path, "[scan]").access.token_file == str(tmp_path / "tokens")
    assert load(tmp_path / "missing.toml", required=False).access.token_file == str(tmp_path / "tokens")
    assert loaded(tmp_path, '[access]\ntoken_file = "/x"').access.token_file == "/x"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert loaded(tmp_path, "").access.token_file is None, "LoadCredential=tokens:/etc/netscand/tokens"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (tmp_path / "tokens").unlink()
    (tmp_path / "tokens").symlink_to("/nonexistent")
    assert loaded(tmp_path, "").access.token_file == str(tmp_path / "tokens"), "an error, and not no token"


def test_what_can_be_an_interface_a_glob_or_a_prefix_is_taken(tmp_path: Path) -> None:
    names = ["eth0", "eth*", "br-*", "wlp3s0f0u1.100", "enp0s31f6", "*.5", "[ew]*", "lan_1", "größe", "1"]
    prefixes = ["10.0.0.0/8", "192.168.1.7", "192.168.1.7/24", "0.0.0.0/0"]
    scan = loaded(tmp_path, f"[scan]\ninterfaces = {names}\nexclude = {names + prefixes}").scan
    assert scan.interfaces == tuple(names)
    assert scan.exclude == (*names, *prefixes)


def test_hosts_and_origins_that_browsers_send_are_taken(tmp_path: Path) -> None:
    text = '[access]\nallowed_hosts = ["scan.lan", "Scan.LAN:8443", "[fd00::1]:80"]\nallowed_origins = ["https://dash.lan/"]'
    access = loaded(tmp_path, text).access
    assert access == Access(
        allowed_hosts=("scan.lan", "Scan.LAN:8443", "[fd00::1]:80"), allowed_origins=("https://dash.lan/",)
    )
