"""The report: one HTML page with a summary, tables, charts and pictures."""
