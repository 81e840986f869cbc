"""Turns recorded trials into tables, statistics, reports, evaluations and exports. Does not import Ray."""
