"""People, with real hosts that join and leave."""

from tests.lab.lan import Lab
from tests.lab.test_daemon import IMPATIENT, until, until_scanned

QUIET = {"scan": {"interval": 3600}}


def test_a_person_comes_and_goes_with_the_phone(lab: Lab) -> None:
    """Over a restart, too: who is home is unknown until the phone is seen, and was never away."""
    phone, desktop = lab.host("10.77.0.50"), lab.host("10.77.0.51")
    daemon = lab.daemon(IMPATIENT | QUIET)
    with daemon.websocket() as stream:
        until_scanned(stream)
        body = {"add": [{"mac": phone.mac}, {"mac": desktop.mac, "counts": False}]}
        assert daemon.request("PATCH", "/api/people/Jane", body)[0] == 200
        assert until(stream, "event")["kind"] == "person_changed"
        assert until(stream, "event")["kind"] == "person_home"
        phone.unplug()
        assert [until(stream, "event")["kind"] for _ in range(2)] == ["offline", "person_away"]
        phone.replug()
        phone.announce()
        came = [until(stream, "event") for _ in range(2)]
        assert [event["kind"] for event in came] == ["online", "person_home"]
        assert came[1]["seen_at"] == came[0]["seen_at"]
        since = came[1]["person"]["status_since"]
    daemon.kill()
    daemon.start()
    done = daemon.ctl("wait-for", "jane", "--timeout", "30")
    assert (done.returncode, done.stderr) == (0, "netscanctl: Jane is home\n")
    (jane,) = daemon.get("/api/people")["people"]
    assert (jane["status"], jane["status_since"]) == ("home", since)
    kinds = [event["kind"] for event in daemon.get("/api/events?kind=person_home,person_away,person_unknown")["events"]]
    assert kinds == ["person_home", "person_away", "person_home", "person_unknown", "person_home"]
