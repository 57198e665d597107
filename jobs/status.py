"""`python jobs/status.py ARGUMENTS` runs `corpus-reranker status ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("status")
