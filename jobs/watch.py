"""`python jobs/watch.py ARGUMENTS` runs `corpus-reranker watch ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("watch")
