"""Engines answer prompts, pre-rankers score passages. Each is one file here and one line in `registry`.

The settings of an engine are part of the job config. Its heavy imports happen in `start`, inside the actor.
"""
