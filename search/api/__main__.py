"""Run the command line: `python -m huetune`."""

import sys

if not sys.flags.safe_path:
    # Python puts the current folder first, where a user's `random.py` or `keras.py` would be imported instead.
    del sys.path[0]

from huetune.search.cli.main import main

main()
