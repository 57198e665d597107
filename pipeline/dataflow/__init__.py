"""Ray Data plans, and the actors in them."""

import os

# Ray Data (2.60) reads it when it is imported: downstream_capacity_backpressure_policy.py. A stage waits once three
# times what the next one works on is there. Left alone, Ray Data reads ahead until half of the object store is full,
# and small blocks lie in the driver's own memory: some 300 MB in a run of a million queries.
os.environ.setdefault("RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD", "0")
