"""The join of two outputs by query: complete, in one pass or in several."""

from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.joined_rankings import QueryRanking, RankedFiles, RankingPair, join_rankings
from corpus_reranker.evaluation.outputs import find_data_files
from helpers.synthetic_output import output_row, write_data_files

SCORES = [0.0] * 4


def ranked_files(folder: Path) -> RankedFiles:
    filesystem = LocalFileSystem()
    return RankedFiles(folder.name, filesystem, find_data_files(filesystem, str(folder)))


@pytest.fixture
def a(tmp_path: Path) -> RankedFiles:
    rows = [output_row(f"q{number}", [number % 3, 3], SCORES) for number in range(20)]
    return ranked_files(write_data_files(tmp_path / "a", [rows[:13], rows[13:], []]))


@pytest.fixture
def b(tmp_path: Path) -> RankedFiles:
    rows = [output_row(f"q{number}", [3, number % 3], SCORES, status="degraded") for number in range(24, 4, -1)]
    rows[0]["ranking"] = None
    return ranked_files(write_data_files(tmp_path / "b", [rows[:1], rows[1:]]))


@pytest.mark.parametrize("limit", [100, 7, 1])
def test_every_query_of_either_output_is_joined_once(a: RankedFiles, b: RankedFiles, limit: int) -> None:
    pairs = list(join_rankings(a, b, limit))
    assert {pair.query_id: pair for pair in pairs} == {
        f"q{number}": RankingPair(
            f"q{number}",
            QueryRanking("complete", [f"d{number % 3}", "d3"]) if number < 20 else None,
            QueryRanking("degraded", ["d3", f"d{number % 3}"] if number < 24 else []) if number > 4 else None,
        )
        for number in range(25)
    }
    assert len(pairs) == 25


@pytest.mark.parametrize("max_partition_queries", [100, 1])
def test_a_query_twice_is_refused_with_the_name_of_its_output(
    a: RankedFiles, tmp_path: Path, max_partition_queries: int
) -> None:
    twice = ranked_files(write_data_files(tmp_path / "twice", [[output_row("q1", [0])], [output_row("q1", [0])]]))
    for pair in ((a, twice), (twice, a)):
        with pytest.raises(InputError, match="twice holds query 'q1' twice"):
            list(join_rankings(*pair, max_partition_queries))
