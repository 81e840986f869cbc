"""Tables of trials and runs: rows, filters, formats and summaries."""
