"""Small pieces of sentences for the user."""


def counted(count: int, noun: str) -> str:
    """``1 view``, ``3 views``, ``40,000 views``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
