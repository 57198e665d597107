"""The completion caches, within a run and across runs, and the result cache, which copies rows of earlier outputs."""
