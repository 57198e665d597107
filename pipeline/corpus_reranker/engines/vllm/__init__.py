"""vLLM's AsyncLLM as an engine and as a pre-ranker. Private and version-dependent APIs are used only in `compat`."""
