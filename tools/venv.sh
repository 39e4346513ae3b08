# shellcheck shell=bash
# Sourced by the scripts beside it: make .venv unless it is there, never with too old a Python.
found=.venv/bin/python
[ -x "$found" ] || found="${PYTHON:-python3}"
"$found" -c 'import sys
if sys.version_info < (3, 11):
    sys.exit("%s is Python %d.%d, but 3.11 or newer is needed; delete .venv if there is one, and name "
             "another, as in PYTHON=python3.12 bash %s" % (sys.argv[1], *sys.version_info[:2], sys.argv[2]))
' "$found" "tools/${0##*/}"
[ -x .venv/bin/python ] || "$found" -m venv .venv
