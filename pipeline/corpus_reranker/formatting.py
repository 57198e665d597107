"""Numbers in messages."""


def counted(count: int, singular: str) -> str:
    """`1 replica`, `2,000 replicas`, `2 queries`: the last word of `singular` gets its regular plural."""
    plural = f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}s"
    return f"{count:,} {singular if count == 1 else plural}"
