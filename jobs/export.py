"""`python jobs/export.py ARGUMENTS` is `corpus-reranker export ARGUMENTS`."""

import sys

from corpus_reranker.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "export")
    main()
