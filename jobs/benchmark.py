"""`python jobs/benchmark.py ARGUMENTS` runs `corpus-reranker benchmark ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("benchmark")
