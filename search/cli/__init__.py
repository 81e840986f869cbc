"""The command line: its entry, and the commands that need Ray."""
