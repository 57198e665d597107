"""`python jobs/evaluate.py ARGUMENTS` runs `corpus-reranker evaluate ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("evaluate")
