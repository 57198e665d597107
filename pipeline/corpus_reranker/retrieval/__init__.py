"""The first stage: corpus, index, BM25 search through pyserini, and candidates assembled from a run."""
