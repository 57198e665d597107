"""Inputs: candidate lists and how they are checked."""
