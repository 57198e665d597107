"""`python jobs/publish.py ARGUMENTS` is `corpus-reranker publish ARGUMENTS`, without installing the checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("publish")
