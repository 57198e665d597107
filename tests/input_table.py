"""Print the tables of docs/tried-inputs.md: how inputs and answers are read, and how commit 83cebb7 read them."""

from collections.abc import Iterator, Sequence

from helpers.tried_answers import TRIED_ANSWERS, TriedAnswer
from helpers.tried_inputs import TRIED_INPUTS
from helpers.tried_inputs.base import TriedInput


def main() -> None:
    print("\n\n".join(tables()))


def tables() -> Iterator[str]:
    """Markdown tables with their headings."""
    for title, tried in TRIED_INPUTS.items():
        yield f"## {title}\n\n{input_table(tried)}"
    changed = [tried for tried in TRIED_ANSWERS if tried.plain is not None or tried.reasoning is not None]
    yield (
        f"## Answers\n\nOf {len(TRIED_ANSWERS)} answers, {len(changed)} are read differently than before:\n\n"
        f"{answer_table(changed)}"
    )


def input_table(tried: Sequence[TriedInput]) -> str:
    rows = [f"| {_cell(each.name)} | {_plain(each.before)} | {_plain(each.now)} |" for each in tried]
    return "\n".join(["| input | before | now |", "|---|---|---|", *rows])


def answer_table(tried: Sequence[TriedAnswer]) -> str:
    rows = [
        [_code(_cell(each.answer)), str(each.num_passages)]
        + [_ranks(ranks, each) for ranks in (each.plain, each.reasoning, each.ranks)]
        for each in tried
    ]
    head = "| answer | passages | before, `plain` | before, `reasoning` | now |"
    return "\n".join([head, "|---|---:|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def _ranks(ranks: Sequence[int] | None, tried: TriedAnswer) -> str:
    ranks = tried.ranks if ranks is None else ranks
    return ", ".join(map(str, ranks)) or "none"


def _plain(text: str) -> str:
    """`text` without markup."""
    return _cell(text).replace("<", "&lt;").replace("*", "\\*").replace("__", "\\_\\_").replace("[", "\\[")


def _code(text: str) -> str:
    """`text` as code; a text with backticks has a longer fence."""
    return f"```` {text} ````" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    for special, shown in {"|": "\\|", "\n": " ⏎ ", "\t": "\\t"}.items():
        text = text.replace(special, shown)
    return text


if __name__ == "__main__":
    main()
