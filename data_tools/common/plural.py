"""Counts with their nouns, singular or plural, for messages."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as `1 photo` or `2 photos`.

    Args:
        count: 0 or more.
        noun: the noun in the singular.
        plural: the noun in the plural; empty if it is the singular plus an s.
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
