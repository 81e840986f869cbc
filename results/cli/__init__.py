"""The commands that read runs: tables, models, the report, and other tools."""
