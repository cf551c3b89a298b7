"""What boards are told to do: POSIX shell, for dash, bash, busybox and Android's mksh with toybox.

Each script sets `s`, its exit status. `framed` puts it between a line of our own at the start
and one with `s` at the end: what a login shell says before is told from what the command wrote,
and an answer without its end is not believed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# The files that `push` leaves: named by SHA-256, in lower-case hexadecimal.
_OURS = "[0-9a-f]" * 64 + "*"

_DIGEST = """\
digest() { x=$( (sha256sum || shasum -a 256) 2>/dev/null <"$1"); echo "${x%% *}"; }
"""

# $1: the longest time in s; then the command. It gets a session of its own, so that all in it can
# be killed together: at the deadline, when the command ends, and when stdin ends, which is how the
# loss of the link shows. What leaves that session on purpose, a daemon, is not found.
# Not by `timeout`: toybox's (0.8.9) now and then returns 127 instead of the command's status, old
# busybox's takes other options, and none ends with the link.
RUN = """\
p= w= l=
command -v "$2" >/dev/null || s=absent
command -v setsid >/dev/null || s=setsid
if [ -z "$s" ]; then
  exec 3<&0 </dev/null
  limit=$1
  shift
  finish() { kill -9 -$p $p ${w:+-$w $w} $l; }
  trap 's=overran' USR1
  trap 'finish; exit 129' HUP INT TERM
  setsid "$@" 3<&- &
  p=$!
  setsid sh -c 'sleep "$1"; kill -USR1 "$2"; kill -9 "-$3" "$3"' - "$limit" $$ $p \\
    3<&- >/dev/null 2>&1 &
  w=$!
  (read -r x <&3; finish) >/dev/null 2>&1 &
  l=$!
  wait $p
  e=$?
  s=${s:-$e}
  { finish; wait $w $l; } 2>/dev/null
fi
"""

# $1: the folder, from the home folder unless absolute; $2: a file's name there; $3: its SHA-256.
# Writes the folder's path and "have" or "need". What cut-off pushes left is removed after an hour.
LOOK = (
    _DIGEST
    + """\
export LC_ALL=C
umask 077
case $1 in /*) d=$1 ;; *) d=$HOME/$1 ;; esac
s=1
if mkdir -p "$d" && cd "$d"; then
  d=$(pwd -P)
  if [ ! -O . ]; then s=foreign
  elif [ ! -w . ]; then s=readonly
  elif ! command -v sha256sum >/dev/null && ! command -v shasum >/dev/null; then s=sha256sum
  else
    s=0
    find @OURS@.part -mmin +60 -exec rm -f {} \\; 2>/dev/null
    echo "$d"
    if [ -f "$2" ] && [ "$(digest "$2")" = "$3" ]; then echo have; else echo need; fi
  fi
fi
""".replace("@OURS@", _OURS)
)

# $1: the file as it came; $2: where it belongs; $3: its SHA-256. On failure nothing stays, and the
# free space is told.
SETTLE = (
    _DIGEST
    + """\
export LC_ALL=C
s=1
if [ "$(digest "$1")" = "$3" ] && mv -f "$1" "$2"; then s=0
else
  rm -f "$1"
  df -Pk "${2%/*}"
fi
"""
)

# The same for a file that comes by stdin. A sign of life each second: else a link that is slow to
# take the file, whose own answers wait behind it, would be taken for a frozen one.
RECEIVE = (
    """\
export LC_ALL=C
umask 077
(while sleep 1 >/dev/null 2>&1 && echo; do :; done) &
h=$!
cat >"$1"
{ kill -9 $h; wait $h; } 2>/dev/null
"""
    + SETTLE
)

# $1: the folder. Removes our files, and the folder once it is empty; writes how many there were.
CLEAN = f"""\
case $1 in /*) d=$1 ;; *) d=$HOME/$1 ;; esac
n=0
s=0
if [ -d "$d" ]; then
  cd "$d" || s=1
  for f in {_OURS}; do
    if [ "$s" = 0 ] && [ -f "$f" ]; then rm -f "$f" && n=$((n + 1)) || s=1; fi
  done
  cd / && rmdir "$d" 2>/dev/null
fi
echo "$n"
"""


def framed(script: str, arguments: Sequence[str], mark: str) -> str:
    """The command line for a login shell that runs `script` with its arguments as $1, $2, ...

    mark: letters and digits that no output holds by chance. The first line on stdout and on
    stderr is "MARK"; the last on stdout is "MARK s".
    """
    assert mark.isalnum(), mark
    whole = f"s=\necho {mark}\necho {mark} >&2\n{script}echo\necho {mark} $s\n"
    return shlex.join(["exec", "sh", "-c", whole, "edgepress", *arguments])
