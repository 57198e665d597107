"""vLLM's AsyncLLM as an engine and as a pre-ranker. Only `compat` uses private and version-dependent APIs."""
