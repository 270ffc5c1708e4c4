"""Days of device life in seconds: the judge of `netscand.core.presence`, beside the rules of other systems.

    python -m tests.bench.simulation --seeds 501-504 --jobs 2     some 90 s; exit code 1 if a bound is missed

parameters  the classes of devices, each figure with its source or the word *assumed*, and the bounds
life        what the devices do: a trace
varied      a second generator, `--generator milder` or `harsher`; the ranges of its parameters are in ranges.toml
rules       who listens and asks: the real Presence, and the rules of others, on the same traces
figures     what came of it: false words, delays, frames
__main__    the table, the bounds, pass or fail

Tuned on seeds 1 to 40. What it taught:

- Returns: the first frame of a device that comes back is often no DHCP (IPv6, mDNS). Judged by that frame alone,
  absences were believed to be silences, and a phone's patience grew to an hour. A join within 5 s decides.
- The most a memory of *the longest silences* holds is from one day: when that day is forgotten, nothing is left, and
  the patience collapses. Counts that fade have no such cliff.
- Bursts of 1 to 3 s drawn uniformly hide that the Gilbert-Elliott model has no longest burst, and a phone that sends a
  frame at each wake hides what decides: two sleeps in a row. One generator shows what its author thought of; hence two.
- Some false words of a laptop are no rule's fault: its link returns in the second between last probe and verdict.
- Asking slowly makes silences long, which makes asking slower. So three probes follow within 2 s, and the time
  that we let pass before the first is not taught where it was answered.
- To ask a sleeping sensor every 30 s, 125 s or 300 s makes no difference to its false words or delays: it is asked
  every 300 s. (It answers none of them; its own wake decides.)
- Whether a probe wakes a sleeping phone matters more than any rule (`--woken 0.3`): half the delay or a tenth of it. It
  also makes the phone's silences heavy-tailed: then the rule is false 0.07 times a day, above the bound.
"""
