"""Stands in for a class that lives in another process: passes a call on to it. Needs nothing but Python itself.

    python _caller.py SOCKET KIND [VERB]
"""

import json
import os
import socket
import sys
import threading

#: How lines of the answer begin.
LINE, END, FAILED = "+", ".", "!"


def main() -> None:
    path, kind, *verb = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    environment = {name: value for name, value in os.environ.items() if name.startswith("RINGMARK_")}
    asked = {"kind": kind, "verb": "".join(verb), "environment": environment}
    connection.sendall((json.dumps(asked) + "\n").encode())
    threading.Thread(target=pass_on, args=(connection,), daemon=True).start()
    with connection.makefile("r", encoding="utf-8", newline="\n") as answer:
        for line in answer:
            if line[0] == LINE:
                sys.stdout.write(line[1:])
            elif line[0] == END:
                sys.stdout.flush()
                return
            else:
                sys.exit(line[1:].strip())
    sys.exit("the process that the class lives in has ended")


def pass_on(connection: socket.socket) -> None:
    """Brings standard input to the other side, to its end."""
    # Not through sys.stdin: Python cannot end while a thread holds its lock.
    try:
        while part := os.read(0, 65536):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The other side has failed, and says so in its answer.
        pass


if __name__ == "__main__":
    main()
