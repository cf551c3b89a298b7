"""What the ssh client says when it cannot log in, in one line with what to do about it."""

from __future__ import annotations

import re


def why_not_connected(login: str, said: str) -> str:
    """The reason in the client's words, and the remedy. login: what to type after `ssh`."""
    words = re.sub(r"\s+", " ", said)
    if "IDENTIFICATION HAS CHANGED" in words or "REVOKED HOST KEY" in words:
        remove = re.search(r'ssh-keygen -f "[^"]*" -R "[^"]*"', words)
        return (
            f"shows another host key than the one on record: another machine answers there, or it "
            f"was set up anew; if you know why, run: {remove[0] if remove else 'ssh-keygen -R'}, "
            f"then: ssh {login}"
        )
    if "Host key verification failed" in words:
        return (
            f"has a host key that is not on record here; log in once by hand and compare its "
            f"fingerprint: ssh {login}"
        )
    refused = re.findall(r"Permission denied[^.\n]*", said)
    if refused:
        return (
            f"refused the login ({refused[-1].strip()}); no password is ever given: put your key "
            f"there: ssh-copy-id {login}"
        )
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word")
    return f"cannot be reached ({last[:300]}); check that it is on, and its name and port"
