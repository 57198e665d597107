"""Listwise reranking strategies: which windows the LLM ranks, and in what order. One file each."""
