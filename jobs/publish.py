"""`python jobs/publish.py ARGUMENTS` runs `corpus-reranker publish ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("publish")
