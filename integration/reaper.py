#!/usr/bin/env python3
"""Runs a command, and is the parent that orphans below it get.

    reaper.py COMMAND…

Some machines' first process leaves zombies lying for a while, and engines take those for processes that still run. Passes
SIGTERM, SIGINT and SIGHUP on, and exits with the command's status, 128 and more for a signal.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    sys.exit(f"reaper.py: prctl: {os.strerror(ctypes.get_errno())}")
os.environ["REAPER_PID"] = str(os.getpid())
child = os.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(child, number))
while True:
    pid, status = os.wait()
    if pid == child:
        code = os.waitstatus_to_exitcode(status)
        sys.exit(code if code >= 0 else 128 - code)
