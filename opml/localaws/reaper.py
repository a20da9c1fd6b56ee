"""The reaper: waits until its server is gone, however it went, then ends what the server left and removes the working folder.

Started by the server with a pipe on its standard input that only the server holds: end of file means that the server is gone. It carries
no mark of its own, so that its sweep does not end itself.
"""

import sys

from opml.localaws import procs, statefile


def main(server_id: str, root: str) -> None:
    """Wait for end of file, then sweep."""
    while sys.stdin.buffer.read(1):
        continue
    procs.sweep(server_id, root)
    statefile.remove(server_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
