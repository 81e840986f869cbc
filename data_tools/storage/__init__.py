"""Atomic folders and files, checksums, output folders, buckets, and the lock of a run."""
