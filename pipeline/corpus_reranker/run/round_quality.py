"""The quality of the rankings between two rounds of a budget."""

from pyarrow.fs import FileSystem

from corpus_reranker.evaluation.measures import SystemScores, parse_measures
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig


def round_quality(filesystem: FileSystem, folder: str, qrels: str, storage: StorageConfig) -> float:
    """nDCG@10 of the rows of a run so far, over all judged queries.

    Args:
        filesystem: Filesystem of the output.
        folder: Folder of the output.
        qrels: URL of the qrels.
        storage: How to reach the qrels.

    Raises:
        InputError: The qrels or the rows cannot be read.
    """
    judgments = load_qrels(*resolve(qrels, storage))
    scores = SystemScores("after", parse_measures(["nDCG@10"]), judgments)
    for query in read_orders(filesystem, folder, judgments, allow_unfinished=True):
        scores.add({query.query_id: query.orders["after"]})
    return float(scores.values.mean())
