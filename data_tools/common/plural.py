"""Counts with their nouns, singular or plural, for messages."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as `1 photo` or `2 photos`.

    Args:
        count: 0 or more.
        noun: its singular.
        plural: its plural, if that is not the singular with an s.
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
