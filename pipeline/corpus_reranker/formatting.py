"""Numbers and long texts in messages, reports and output rows."""


def counted(count: int, singular: str) -> str:
    """A count with its noun, in the plural if necessary: `1 replica`, `2,000 replicas`, `2 queries`."""
    plural = f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}s"
    return f"{count:,} {singular if count == 1 else plural}"


def short_number(value: float) -> str:
    """A number with about three digits: 0.25, 17, 3,172, 125K, 1.25M."""
    magnitude = abs(value)
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if magnitude >= max(size, 99_950):
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if magnitude >= 100 else f"{value:.3g}"


def percentage(part: float, whole: float) -> str:
    """Format a percentage. It is 0% or 100% only if that is exact. `whole` must be above 0."""
    if 0 < part / whole < 0.001:
        return "under 0.1%"
    return "over 99.9%" if 0.999 < part / whole < 1 else f"{part / whole:.1%}"


def format_duration(seconds: float) -> str:
    """Format seconds: 850 ms, 12.3 s, 4 min 05 s, 3 h 20 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def format_clock(seconds: float | None) -> str:
    """Format a duration as h:mm:ss, None as a question mark."""
    if seconds is None:
        return "?"
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"


def clip(text: str | None, max_chars: int) -> str | None:
    """Shorten `text` to about `max_chars` by cutting its middle, and replace characters that UTF-8 cannot encode."""
    if text is None:
        return None
    if len(text) > max_chars:
        half = max_chars // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters omitted ...]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode("utf-8")
