"""How many windows change under the answer rules, compared with those of commit 83cebb7.

    git worktree add out/before 83cebb7
    python tests/benchmarks/answer_rules.py out/before --recorded recorded.jsonl --dl20 FOLDER

Reads recorded responses, a JSONL file with `response` and `num_passages`, and reranks TREC DL 2020 (BM25, top 100)
with an oracle that writes its ranking in each of the forms of `FORMS`. Prints the tables of docs/answers.md.
"""

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ir_measures
import numpy as np
from pyarrow.fs import LocalFileSystem

from corpus_reranker.answers.registry import create_answer_parser
from corpus_reranker.evaluation.measures import query_values
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.types import Completion

Parse: TypeAlias = Callable[[str, int], tuple[int, ...]]
"""The order of a window: its response and its size -> positions, best first."""

FORMATS = {"plain": "{}", "reasoning": "<think>[2] is about something else.</think>\n<answer>{}</answer>"}
"""Answer format -> the response around an answer."""

FORMS: Mapping[str, Callable[[list[int]], str]] = {
    "`[3] > [1] > [2]`": lambda ranks: " > ".join(f"[{rank}]" for rank in ranks),
    "`[3], [1], [2]`": lambda ranks: ", ".join(f"[{rank}]" for rank in ranks),
    "`3 > 1 > 2`": lambda ranks: " > ".join(map(str, ranks)),
    "`1. [3]`, `2. [1]` on lines": lambda ranks: "\n".join(f"{n}. [{rank}]" for n, rank in enumerate(ranks, 1)),
    "`1. 3`, `2. 1` on lines": lambda ranks: "\n".join(f"{n}. {rank}" for n, rank in enumerate(ranks, 1)),
    "`The top 10: [3] > [1]`": lambda ranks: "The top 10: " + " > ".join(f"[{rank}]" for rank in ranks[:10]),
    "`[3] (score 9) > [1] (score 8)`": lambda ranks: " > ".join(
        f"[{rank}] (score {10 - n // 2})" for n, rank in enumerate(ranks)
    ),
    "`[3, 1, 2]`": lambda ranks: f"[{', '.join(map(str, ranks))}]",
    "`[3, 1] > [2, 4]`": lambda ranks: " > ".join(
        f"[{', '.join(map(str, ranks[start : start + 2]))}]" for start in range(0, len(ranks), 2)
    ),
    '`{"ranking": [3, 1, 2]}`': lambda ranks: json.dumps({"ranking": ranks}),
    '`["3", "1", "2"]` in a code fence': lambda ranks: f"```json\n{json.dumps([str(rank) for rank in ranks])}\n```",
    "`[Passage 3] > [Passage 1]`": lambda ranks: " > ".join(f"[Passage {rank}]" for rank in ranks),
    "counted from 0: `[2] > [0] > [1]`": lambda ranks: " > ".join(f"[{rank - 1}]" for rank in ranks),
    "`[3] > [1] > ... > [2]`": lambda ranks: f"[{ranks[0]}] > [{ranks[1]}] > ... > [{ranks[-1]}]",
}
"""The forms in which the oracle writes a ranking."""


def current_rules(answer_format: str) -> Parse:
    parser = create_answer_parser(answer_format)
    return lambda response, size: parser.parse(Completion(response, "stop", 0, 0), size).order


def earlier_rules(answer_format: str, checkout: Path) -> Parse:
    """The rules of the code in `checkout`."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from pipeline.ranking.permutation import parse_permutation  # type: ignore[import-not-found]

    return lambda response, size: tuple(parse_permutation(response, size, answer_format).order)


def recorded_changes(path: Path, checkout: Path) -> Iterator[str]:
    """One line for each kind of response whose order changes."""
    before, now = earlier_rules("plain", checkout), current_rules("plain")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    changed: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for line in lines:
        response, size = line["response"], line["num_passages"]
        if before(response, size) != now(response, size):
            kind = _kind(response)
            changed[kind] += 1
            examples.setdefault(kind, " ".join(response.split())[:40])
    yield f"{len(lines):,} recorded responses, {sum(changed.values())} orders change:"
    yield from (f"{count} {kind}, as in `{examples[kind]} ...`" for kind, count in changed.most_common())


def _kind(response: str) -> str:
    head = re.match(r"\s*(\d+)\s*>", response)
    if head is None:
        return "others"
    in_brackets = re.search(rf"\[\s*{head[1]}\s*\]", response)
    return f"begin with a bare number that {'follows in brackets' if in_brackets else 'is in no brackets'}"


class Dl20:
    """The queries of TREC DL 2020 with the grades of their candidates in first-stage order."""

    def __init__(self, folder: Path) -> None:
        self._qrels: Qrels = load_qrels(LocalFileSystem(), str(folder / "qrels.dl20-passage.txt"))
        lists = json.loads((folder / "retrieve_results_dl20_bm25_top100.json").read_text(encoding="utf-8"))
        self.doc_ids = {str(each["hits"][0]["qid"]): [str(hit["docid"]) for hit in each["hits"]] for each in lists}
        self._measures: list[Any] = [ir_measures.parse_measure("nDCG@10")]

    def rerank(self, write: Callable[[list[int]], str], parse: Parse, compared: Parse) -> tuple[float, int, int]:
        """nDCG@10 with the rules `parse`; the number of windows; and how many of them `compared` orders differently."""
        windows: list[bool] = []
        orders = {}
        for query_id, doc_ids in self.doc_ids.items():
            grades = [self._qrels.get(query_id, {}).get(doc_id, 0) for doc_id in doc_ids]
            order = asyncio.run(self._rank(grades, write, parse, compared, windows))
            orders[query_id] = [doc_ids[index] for index in order]
        values = [value for _, _, value in query_values(self._measures, self._qrels, orders)]
        return float(np.mean(values)), len(windows), sum(windows)

    @staticmethod
    async def _rank(
        grades: Sequence[int],
        write: Callable[[list[int]], str],
        parse: Parse,
        compared: Parse,
        windows: list[bool],
    ) -> list[int]:
        async def rank_window(indices: Sequence[int], _: int) -> list[int]:
            best_first = sorted(range(len(indices)), key=lambda position: -grades[indices[position]])
            response = write([position + 1 for position in best_first])
            order = parse(response, len(indices))
            windows.append(order != compared(response, len(indices)))
            return [indices[position] for position in order]

        return await SlidingWindow().rank(len(grades), rank_window)


def dl20_table(dl20: Dl20, checkout: Path) -> Iterator[str]:
    yield "| form | `plain`: windows changed | nDCG@10 before | now | `reasoning`: windows changed | before | now |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, form in FORMS.items():
        cells = [name]
        for answer_format, response in FORMATS.items():
            before, now = earlier_rules(answer_format, checkout), current_rules(answer_format)

            def write(ranks: list[int], form: Any = form, response: str = response) -> str:
                return response.format(form(ranks))

            old_ndcg, _, _ = dl20.rerank(write, before, now)
            new_ndcg, num_windows, num_changed = dl20.rerank(write, now, before)
            cells += [f"{num_changed} of {num_windows}", f"{old_ndcg:.3f}", f"{new_ndcg:.3f}"]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkout", type=Path, help="A checkout of commit 83cebb7.")
    arguments.add_argument("--recorded", type=Path)
    arguments.add_argument("--dl20", type=Path)
    options = arguments.parse_args()
    if options.recorded:
        print("\n".join(recorded_changes(options.recorded, options.checkout)))
    if options.dl20:
        for line in dl20_table(Dl20(options.dl20), options.checkout):
            print(line, flush=True)


if __name__ == "__main__":
    main()
