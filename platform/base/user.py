"""Who acts: the user and the machine, as records name them."""

import getpass
import os
import socket


def user_and_host() -> str:
    """`user@host` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # In a container it may have no name.
    return f"{user}@{socket.gethostname()}"
