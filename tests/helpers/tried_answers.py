"""Answers as models write them: the ranks they name, and those that commit 83cebb7 read."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TriedAnswer:
    """The answer of a model to a window.

    Attributes:
        answer: The answer section.
        num_passages: The size of the window.
        ranks: The ranks that the answer names, in its order, as every format reads it.
        plain: The ranks that commit 83cebb7 read in the format `plain`; None: the same.
        reasoning: The ranks that it read in the format `reasoning`; None: the same.
    """

    answer: str
    num_passages: int
    ranks: Sequence[int]
    plain: Sequence[int] | None = None
    reasoning: Sequence[int] | None = None


NOBODY: Sequence[int] = ()

TRIED_ANSWERS = (
    # brackets: other numbers name no passage
    TriedAnswer("[3] > [1] > [2]", 3, [3, 1, 2]),
    TriedAnswer("[3]>[1]>[2]", 3, [3, 1, 2]),
    TriedAnswer("[3], [1], [2]", 3, [3, 1, 2]),
    TriedAnswer("[3] [1] [2]", 3, [3, 1, 2]),
    TriedAnswer("[3]\n[1]\n[2]", 3, [3, 1, 2]),
    TriedAnswer("[3] > [1]\n> [2]", 3, [3, 1, 2]),
    TriedAnswer("[3] = [1] > [2]", 3, [3, 1, 2]),
    TriedAnswer("[3] → [1] -> [2]", 3, [3, 1, 2]),
    TriedAnswer("[3] &gt; [1] &gt; [2]", 3, [3, 1, 2]),
    TriedAnswer("【3】 > 【1】 > 【2】", 3, [3, 1, 2], plain=[]),
    TriedAnswer(r"\[3\] > \[1\] > \[2\]", 3, [3, 1, 2], plain=[]),
    TriedAnswer("**[3]** > **[1]** > **[2]**", 3, [3, 1, 2]),
    TriedAnswer("`[3] > [1] > [2]`", 3, [3, 1, 2]),
    TriedAnswer("[3, 1] > [2]", 3, [3, 1, 2], plain=[1, 2]),
    TriedAnswer("[3, 1, 2]", 3, [3, 1, 2]),
    TriedAnswer("[3 > 1 > 2]", 3, [3, 1, 2]),
    TriedAnswer("3] > [1] > [2]", 3, [3, 1, 2]),
    TriedAnswer("[3] > [1] > [2", 3, [3, 1, 2]),
    TriedAnswer("[Passage 3] > [Passage 1] > [Passage 2]", 3, [3, 1, 2], plain=[3, 1]),
    TriedAnswer("[3 > [1 > [2", 3, [3, 1, 2]),
    TriedAnswer("［3］ > ［1］ > ［2］", 3, [3, 1, 2], plain=[]),
    TriedAnswer("[01] > [03] > [02]", 3, [1, 3, 2]),
    TriedAnswer(r"\boxed{3, 1, 2}", 3, [3, 1, 2], plain=[]),
    TriedAnswer(r"\boxed{\text{3 > 1 > 2}}", 3, [3, 1, 2]),
    # item numbers, counts and scores
    TriedAnswer("1. [3]\n2. [1]\n3. [2]", 3, [3, 1, 2], reasoning=[1, 3, 2]),
    TriedAnswer("1. [3] > 2. [1] > 3. [2]", 3, [3, 1, 2], reasoning=[1, 3, 2]),
    TriedAnswer("1) [3] 2) [1] 3) [2]", 3, [3, 1, 2], reasoning=[1, 3, 2]),
    TriedAnswer("- [3]\n- [1]", 3, [3, 1]),
    TriedAnswer("| 1 | [3] |\n| 2 | [1] |", 3, [3, 1], reasoning=[1, 3, 2]),
    TriedAnswer("1. **[3]** explains it better than [1].\n2. **[1]** is vague.", 3, [3, 1], reasoning=[1, 3, 2]),
    TriedAnswer("The top 2: [3] > [1]", 3, [3, 1], reasoning=[2, 3, 1]),
    TriedAnswer("The 2 best of 3 passages are [3] > [1]", 3, [3, 1], reasoning=[2, 3, 1]),
    TriedAnswer("1 > [1] > [3] > [2]", 3, [1, 3, 2]),
    TriedAnswer("[4] (score 5) > [2] (score 3)", 5, [4, 2], reasoning=[4, 5, 2, 3]),
    TriedAnswer("[4] (0.95), [1] (0.9)", 5, [4, 1]),
    TriedAnswer("[4]: 0.95, [1]: 0.9", 5, [4, 1]),
    TriedAnswer("[4]: rank 1\n[1]: rank 2", 5, [4, 1], reasoning=[4, 1, 2]),
    TriedAnswer("[4] Glass > [1] Ice (see 3) > [2] Dew", 5, [4, 1, 2], reasoning=[4, 1, 3, 2]),
    TriedAnswer("[-1] > [3] > [0.5] > [1]", 3, [3, 1], plain=[1, 3], reasoning=[1, 3]),
    # bare numbers
    TriedAnswer("3 > 1 > 2", 3, [3, 1, 2]),
    TriedAnswer("3 > 1 > 2.", 3, [3, 1, 2]),
    TriedAnswer("Ranking of the top 3: 3 > 1 > 2", 3, [3, 1, 2]),
    TriedAnswer("3, 1, 2", 3, [3, 1, 2]),
    TriedAnswer("Final ranking: 3, 1, 2", 3, [3, 1, 2], plain=[]),
    TriedAnswer("3 1 2", 3, [3, 1, 2]),
    TriedAnswer("3\n1\n2", 3, [3, 1, 2]),
    TriedAnswer("3-1-2", 3, [3, 1, 2], plain=[]),
    TriedAnswer("(3) > (1) > (2)", 3, [3, 1, 2]),
    TriedAnswer("1. 3\n2. 1\n3. 2", 3, [3, 1, 2], plain=[1, 3, 2], reasoning=[1, 3, 2]),
    TriedAnswer("1. 3 > 2. 1 > 3. 2", 3, [3, 1, 2], plain=[3, 2, 1], reasoning=[1, 3, 2]),
    TriedAnswer("- 3\n- 1\n- 2", 3, [3, 1, 2], plain=[]),
    TriedAnswer("3 (0.9) > 1 (0.5) > 2 (0.1)", 3, [3, 1, 2], plain=[1, 2]),
    TriedAnswer("Passage 3 > Passage 1 > Passage 2", 3, [3, 1, 2], plain=[3, 1]),
    TriedAnswer("1. Passage 3: 5 dogs\n2. Passage 1: 2 cats", 3, [3, 1], plain=[], reasoning=[1, 3, 2]),
    # JSON
    TriedAnswer("[3, 1, 2]", 3, [3, 1, 2]),
    TriedAnswer('["3", "1", "2"]', 3, [3, 1, 2], plain=[]),
    TriedAnswer('["[3]", "[1]"]', 3, [3, 1]),
    TriedAnswer("[[3], [1], [2]]", 3, [3, 1, 2]),
    TriedAnswer('{"ranking": [3, 1, 2]}', 3, [3, 1, 2], plain=[]),
    TriedAnswer('{"result": {"ranking": ["3", "1"]}, "scores": [0.9, 0.5]}', 3, [3, 1], plain=[]),
    TriedAnswer('{"ranking": "[3] > [1] > [2]"}', 3, [3, 1, 2]),
    TriedAnswer('{"reasoning": "[1] is vague.", "ranking": [3, 1, 2]}', 3, [3, 1, 2], plain=[1], reasoning=[1, 3, 2]),
    TriedAnswer("```json\n[3, 1, 2]\n```", 3, [3, 1, 2], plain=[]),
    TriedAnswer('Here it is:\n```json\n{"ranking": [3, 1, 2]}\n```', 3, [3, 1, 2], plain=[]),
    TriedAnswer('Here it is: {"ranking": [3, 1, 2]}', 3, [3, 1, 2], plain=[]),
    TriedAnswer("{'ranking': [3, 1, 2]}", 3, [3, 1, 2], plain=[]),
    TriedAnswer('[{"id": 3}, {"id": 1}]', 3, [3, 1], plain=[]),
    TriedAnswer(
        '{"ranking": [{"passage_id": "[3]", "score": 9}, {"passage_id": "[1]", "score": 5}]}',
        5,
        [3, 1],
        reasoning=[3, 1, 5],
    ),
    TriedAnswer(
        '[{"rank": 1, "document": 3, "reason": "see 2"}, {"rank": 2, "document": 1}]',
        3,
        [3, 1],
        plain=[],
        reasoning=[1, 3, 2],
    ),
    # prose around a ranking
    TriedAnswer(
        "[1] is vague.\n[2] is wrong.\n[3] is good.\nRanking: [3] > [1] > [2]",
        3,
        [3, 1, 2],
        plain=[1, 2, 3],
        reasoning=[1, 2, 3],
    ),
    TriedAnswer("I rank [3] first, then [1], and [2] is last.", 3, [3, 1, 2]),
    TriedAnswer("[3] > [1] > [2]\n\n[3] explains it, [2] does not.", 3, [3, 1, 2]),
    TriedAnswer("[3] > [1] > ...", 3, [3, 1]),
    TriedAnswer("Relevant: [3], [1]\nNot relevant: [2]", 3, [3, 1, 2]),
    TriedAnswer(
        "Least relevant: [1]\nRanking, from most to least relevant: [3] > [2] > [1]",
        3,
        [3, 2, 1],
        plain=[1, 3, 2],
        reasoning=[1, 3, 2],
    ),
    # ambiguous, or no ranking
    TriedAnswer("[1] > ... > [20]", 20, NOBODY, plain=[1, 20], reasoning=[1, 20]),
    TriedAnswer("[1] > [2] > … > [20]", 20, NOBODY, plain=[1, 2, 20], reasoning=[1, 2, 20]),
    TriedAnswer("[1], [2], etc., [20]", 20, NOBODY, plain=[1, 2, 20], reasoning=[1, 2, 20]),
    TriedAnswer("[1] - [20]", 20, NOBODY, plain=[1, 20], reasoning=[1, 20]),
    TriedAnswer("[1] to [20]", 20, NOBODY, plain=[1, 20], reasoning=[1, 20]),
    TriedAnswer("[1-20]", 20, NOBODY, reasoning=[1, 20]),
    TriedAnswer("[1, 2, ..., 20]", 20, NOBODY, plain=[1, 2, 20], reasoning=[1, 2, 20]),
    TriedAnswer("1 > 2 > ... > 20", 20, NOBODY, plain=[1, 2, 20], reasoning=[1, 2, 20]),
    TriedAnswer("1-20", 20, NOBODY, reasoning=[1, 20]),
    TriedAnswer("From least to most relevant: [2] > [1] > [3]", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("[2], [1], [3] (least relevant first)", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("In ascending order: [2] > [1] > [3]", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("Not relevant: [2]\nRelevant: [3], [1]", 3, NOBODY, plain=[2, 3, 1], reasoning=[2, 3, 1]),
    TriedAnswer("Least relevant: [1]\nMost relevant: [3]", 3, NOBODY, plain=[1, 3], reasoning=[1, 3]),
    TriedAnswer("[2] (worst), [1], [3] (best)", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("In reverse order: [2] > [1] > [3]", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("[1]. 3\n[2]. 1\n[3]. 2", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 3, 2]),
    TriedAnswer("[2] < [1] < [3]", 3, NOBODY, plain=[2, 1, 3], reasoning=[2, 1, 3]),
    TriedAnswer("2 < 1 < 3", 3, NOBODY, reasoning=[2, 1, 3]),
    TriedAnswer("20 passages are provided, so the ranking should be from 1 to 20.", 20, NOBODY, reasoning=[20, 1]),
    TriedAnswer("First [1] > [2] > [3], finally [3] > [1] > [2]", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 2, 3]),
    TriedAnswer(
        "[1]: vague\n[2]: wrong\n[3]: good\nRanking: [3], [1], [2]", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 2, 3]
    ),
    TriedAnswer("[1] > [2]\n[3] > [1]", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 2, 3]),
    TriedAnswer("Passage [2] is best. [3] > [1]", 3, NOBODY, plain=[2, 3, 1], reasoning=[2, 3, 1]),
    TriedAnswer("The best passage is [3].", 3, NOBODY, plain=[3], reasoning=[3]),
    TriedAnswer("[3] does not answer the query.", 3, NOBODY, plain=[3], reasoning=[3]),
    TriedAnswer("4 > [5] > [1]", 5, NOBODY, plain=[4, 5, 1], reasoning=[4, 5, 1]),
    TriedAnswer("[1]: 3, [2]: 1, [3]: 2", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 3, 2]),
    TriedAnswer("[1]: rank 3\n[2]: rank 1\n[3]: rank 2", 3, NOBODY, plain=[1, 2, 3], reasoning=[1, 3, 2]),
    TriedAnswer("Passage 1: 3\nPassage 2: 2\nPassage 3: 1", 3, NOBODY, reasoning=[1, 3, 2]),
    TriedAnswer("[1] (0.2), [2] (0.9)", 3, NOBODY, plain=[1, 2], reasoning=[1, 2]),
    TriedAnswer("20", 20, NOBODY, plain=[20], reasoning=[20]),
    TriedAnswer("| 1 | 3 |\n| 2 | 1 |", 3, NOBODY, reasoning=[1, 3, 2]),
    TriedAnswer("3 1\n1 2\n2 3", 3, NOBODY, plain=[3, 1, 2], reasoning=[3, 1, 2]),
    TriedAnswer("3: 0.9, 1: 0.5, 2: 0.1", 3, NOBODY, reasoning=[3, 1, 2]),
    TriedAnswer("-1, 3, 2", 3, NOBODY, reasoning=[1, 3, 2]),
    TriedAnswer('{"ranking": [3, 1, 2], "scores": [9, 5, 1]}', 20, NOBODY, reasoning=[3, 1, 2, 9, 5]),
    TriedAnswer('{"ranking": [3, 1], "others": [2', 3, NOBODY, reasoning=[3, 1, 2]),
    TriedAnswer('{"1": 3, "2": 1, "3": 2}', 3, NOBODY, reasoning=[1, 3, 2]),
    TriedAnswer('[{"id": 3, "rank": 2}, {"id": 1, "rank": 1}]', 3, NOBODY, reasoning=[3, 2, 1]),
    TriedAnswer('[{"id": 3, "score": 0.2}, {"id": 1, "score": 0.9}]', 3, NOBODY, reasoning=[3, 2, 1]),
    TriedAnswer('[{"id": 3, "passage": 1}, {"id": 1, "passage": 2}]', 3, NOBODY, reasoning=[3, 1, 2]),
    TriedAnswer('[{"id": 3}, {"name": 1}]', 3, NOBODY, reasoning=[3, 1]),
    TriedAnswer("[0.9, 0.5, 0.1]", 3, NOBODY, plain=[1], reasoning=[1]),
    TriedAnswer("[] > []", 3, NOBODY),
    TriedAnswer("3 passages were provided.", 3, NOBODY, reasoning=[3]),
)
