"""`python jobs/compare.py ARGUMENTS` runs `corpus-reranker compare ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("compare")
