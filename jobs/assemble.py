"""`python jobs/assemble.py ARGUMENTS` is `corpus-reranker assemble ARGUMENTS`, without installing the checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("assemble")
