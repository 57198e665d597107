"""Numbers in messages."""


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 replica`, `2,000 replicas`; the plural of `singular` ends in s unless `plural` is given."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"
