"""The completion cache, within a run and across runs, and the result cache: rows of earlier outputs."""
