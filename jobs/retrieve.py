"""`python jobs/retrieve.py ARGUMENTS` runs `corpus-reranker retrieve ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("retrieve")
