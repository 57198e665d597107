"""Windows, strategies, retries, and the one async function that reranks a query. Standard library only."""
