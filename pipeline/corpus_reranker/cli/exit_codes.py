"""Exit codes of the commands, besides 0. docs/operating.md says what to do after each."""

RUN_FAILED = 1
"""The run failed, and the same command resumes it. Also any unexpected error."""

WRONG_SETTINGS = 2
"""The command line, the config, the input or the output must be fixed."""

LIMIT_EXCEEDED = 3
"""Done, but more queries failed, or more windows have no answer, than the config allows."""

NOT_FINISHED = 4
"""The run that status or watch shows has not finished."""

NO_FREE_NODE = 5
"""The run has no replica, and no node has enough free resources for one."""

OUTPUTS_DISAGREE = 6
"""Two outputs agree less than a threshold of compare."""

MAX_COST_REACHED = 7
"""The run has cost `max_cost`."""
