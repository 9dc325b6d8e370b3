"""With this folder in PYTHONPATH a program ends with 99 if it opens a connection to elsewhere.

Python's own sockets alone are seen, not those of libraries in C++.
"""

import os
import socket
import sys

HERE = {None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()}


def forbid(event, arguments):
    """Hears of every event that Python audits."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host not in HERE:
        os.write(2, f"{event}: {arguments}\n".encode())
        os._exit(99)  # An exception could be caught.


sys.addaudithook(forbid)
