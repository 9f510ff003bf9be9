"""`python -m graphssl`, which is the command `graphssl`."""

import sys

from graphssl.cli import main

if __name__ == "__main__":
    sys.exit(main())
