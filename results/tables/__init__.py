"""Tables of trials and runs: columns, filters and formats."""
