"""The commands: each parses arguments, loads the config and calls the pipeline. `python -m jobs.NAME --help`."""
