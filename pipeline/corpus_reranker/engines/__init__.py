"""Engines answer prompts, and pre-rankers score passages. Each is one module here and one line in `registry`.

The settings of an engine are part of the job config. An engine imports its heavy libraries in `start`, in the actor.
"""
