"""vLLM's AsyncLLM behind `generate`."""
