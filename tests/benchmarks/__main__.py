"""Run `python -m tests.benchmarks`. Worker processes cannot import `__main__`, so all else is in other modules."""

from tests.benchmarks.bench import main

main()
