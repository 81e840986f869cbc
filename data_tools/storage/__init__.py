"""Folders and buckets: atomic writes, checksums, locks and leases."""
