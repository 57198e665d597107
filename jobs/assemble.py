"""`python jobs/assemble.py ARGUMENTS` runs `corpus-reranker assemble ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("assemble")
