"""netscanctl that makes a lost connection anew after a tenth of a second: a test need not wait for three."""

from netscanctl import stream
from netscanctl.__main__ import main

defaults = stream.follow.__kwdefaults__
assert defaults
assert defaults["pause"] == stream.RECONNECT
defaults["pause"] = 0.1

if __name__ == "__main__":
    main()
