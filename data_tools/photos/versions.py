"""Version numbers of the code that reads photos and prepares arrays, as runs and exports record them."""

READER_VERSION = 2
"""How photo files are found, decoded and checked. A run records it under "reading" and reads its photos again that way.

Version 1, which no run records, finds photos by fewer suffixes, ignores color profiles and skips gray photos only.
"""
PREPARATION_VERSION = 1
"""How an sRGB photo becomes luma and a chroma map, raised whenever that changes.

An export records it, and versions of huetune with another preparation version refuse the export.
"""
