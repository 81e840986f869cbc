"""Photos become arrays: discovery, decoding, color, context windows, near-duplicates and splits."""
