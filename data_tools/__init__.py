"""Photos become arrays: reading and checking, luma and chroma maps, context windows, splits, built-in data sets."""
