#!/usr/bin/env python3
"""Runs a command under a terminal of its own, and talks to it.

    terminal.py [STEP…] -- COMMAND…

Steps, in order: `size:ROWSxCOLS` (first: before the command begins; later: a resize), `expect:REGEX` (waits for it in
what came since the last expectation), `send:TEXT` (Python's escapes), `close` (hangs up). Prints all that came, and exits
with the command's status, 128 and more for a signal; 99 if an expectation is not met within ten seconds.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

PATIENCE = 10.0


def set_size(fd, text):
    rows, columns = (int(part) for part in text.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    at = sys.argv.index("--")
    steps, command = sys.argv[1:at], sys.argv[at + 1 :]
    master, slave = pty.openpty()
    if steps and steps[0].startswith("size:"):
        set_size(master, steps.pop(0)[5:])
    pid = os.fork()
    if pid == 0:
        os.close(master)
        os.login_tty(slave)
        os.execvp(command[0], command)
    os.close(slave)

    seen, position = "", 0

    def read(deadline):
        """One piece of output, or None at its end."""
        nonlocal seen
        ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return ""
        try:
            piece = os.read(master, 65536).decode(errors="replace")
        except OSError:
            piece = ""
        seen += piece
        sys.stdout.write(piece)
        sys.stdout.flush()
        return piece or None

    def give_up(why):
        print(f"\nterminal.py: {why}")
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        sys.exit(99)

    for step in steps:
        verb, _, text = step.partition(":")
        if verb == "size":
            set_size(master, text)
        elif verb == "send":
            os.write(master, text.encode().decode("unicode_escape").encode())
        elif verb == "close":
            os.close(master)
            _, status = os.waitpid(pid, 0)
            sys.exit(os.waitstatus_to_exitcode(status) % 256)
        elif verb == "expect":
            deadline = time.monotonic() + PATIENCE
            while not (match := re.compile(text).search(seen, position)):
                if time.monotonic() > deadline:
                    give_up(f"{text!r} did not come")
                if read(deadline) is None:
                    give_up(f"the end came, and {text!r} did not")
            position = match.end()
        else:
            give_up(f"no such step: {step}")

    deadline = time.monotonic() + PATIENCE
    while (piece := read(deadline)) is not None:
        if piece == "":
            give_up("it did not end")
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


main()
