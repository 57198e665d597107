"""`python jobs/calibrate.py ARGUMENTS` runs `corpus-reranker calibrate ARGUMENTS` from this checkout."""

from _checkout import run_command

if __name__ == "__main__":
    run_command("calibrate")
