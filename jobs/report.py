"""`python jobs/report.py ARGUMENTS` runs `corpus-reranker report ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("report")
