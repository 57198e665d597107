"""`python jobs/rerank.py ARGUMENTS` runs `corpus-reranker rerank ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("rerank")
