"""Windows, permutations, strategies and the one async function that reranks a query. Standard library only."""
