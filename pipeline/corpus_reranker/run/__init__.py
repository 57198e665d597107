"""One run of the rerank job: driver, stats, progress, preflight checks, estimate."""
