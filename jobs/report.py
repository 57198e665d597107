"""`python jobs/report.py ARGUMENTS` is `corpus-reranker report ARGUMENTS`."""

import sys

from corpus_reranker.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "report")
    main()
