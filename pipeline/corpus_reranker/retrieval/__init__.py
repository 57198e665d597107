"""The first stage: BM25 retrieval with pyserini, and candidates assembled from a run and a corpus."""
