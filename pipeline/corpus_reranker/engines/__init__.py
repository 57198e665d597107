"""What answers a prompt. An engine is one file here and one line in ENGINES.

The engines' settings are part of the job config; their heavy imports happen in `start`, inside the actor.
"""
