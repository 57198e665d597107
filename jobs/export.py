"""`python jobs/export.py ARGUMENTS` runs `corpus-reranker export ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("export")
