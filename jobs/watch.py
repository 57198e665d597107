"""`python jobs/watch.py ARGUMENTS` is `corpus-reranker watch ARGUMENTS`, without installing the checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("watch")
