"""``python -m opml``: the same as the ``opml`` command."""

import sys

from opml.cli import main

if __name__ == "__main__":
    sys.exit(main())
