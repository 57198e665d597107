"""vLLM's AsyncLLM as an engine and as a pre-ranker. Everything private or version-dependent of vLLM is in `compat`."""
