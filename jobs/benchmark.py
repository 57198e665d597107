"""`python jobs/benchmark.py ARGUMENTS` is `corpus-reranker benchmark ARGUMENTS`, without installing the checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("benchmark")
