"""`python -m tests.benchmarks`: a file of its own, since worker processes cannot import a module named `__main__`."""

from tests.benchmarks.bench import main

main()
