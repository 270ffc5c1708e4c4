"""The story of `./dev demo`, to its end: tests/lab/test_dev.py sees its first seconds."""

from itertools import pairwise

from tests.lab.asking import answering
from tests.lab.demo import AT_HOME, LASTS, VISITOR, VISITORS_MAC, story
from tests.lab.lan import Lab


def test_each_step_of_the_story_can_be_taken(lab: Lab) -> None:
    """In order and in time; the visitor comes and goes, and who was away is back at the end."""
    computer = lab.host("10.77.0.5")
    crowd = lab.crowd()
    crowd.populate(AT_HOME, AT_HOME.values())
    at = [0.0]
    visited = set()
    for step in story(crowd, computer):
        at.append(step.at)
        there = answering(lab, "-r", "1")
        visited |= {ip for ip, mac in there.items() if mac == VISITORS_MAC}
    assert all(early < late for early, late in pairwise([*at, LASTS]))
    assert visited == {VISITOR, "10.77.0.111"}
    assert answering(lab) == AT_HOME | {computer.ip: computer.mac}
