"""`python jobs/estimate.py ARGUMENTS` runs `corpus-reranker estimate ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("estimate")
