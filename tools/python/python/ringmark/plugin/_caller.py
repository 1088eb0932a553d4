"""Forwards a call to a class in another process. Needs the standard library only.

    python _caller.py SOCKET KIND [VERB]
"""

import json
import os
import socket
import sys
import threading

#: The first character of each line of the response.
LINE, END, FAILED = "+", ".", "!"


def main() -> None:
    path, kind, *verb = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    environment = {name: value for name, value in os.environ.items() if name.startswith("RINGMARK_")}
    call = {"kind": kind, "verb": "".join(verb), "environment": environment}
    connection.sendall((json.dumps(call) + "\n").encode())
    threading.Thread(target=forward_input, args=(connection,), daemon=True).start()
    with connection.makefile("r", encoding="utf-8", newline="\n") as response:
        for line in response:
            if line[0] == LINE:
                sys.stdout.write(line[1:])
            elif line[0] == END:
                sys.stdout.flush()
                return
            else:
                sys.exit(line[1:].strip())
    sys.exit("the process with the class has exited")


def forward_input(connection: socket.socket) -> None:
    """Sends standard input to the other process, until its end."""
    # Without sys.stdin, because Python cannot exit while a thread holds its lock.
    try:
        while part := os.read(0, 65536):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The other process has failed; its response has the error.
        pass


if __name__ == "__main__":
    main()
