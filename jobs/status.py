"""`python jobs/status.py ARGUMENTS` is `corpus-reranker status ARGUMENTS`."""

import sys

from corpus_reranker.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "status")
    main()
