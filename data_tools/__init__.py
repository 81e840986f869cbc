"""Photos become arrays: reading and checking, luma and chroma, contexts, splits, and the built-in garden."""
