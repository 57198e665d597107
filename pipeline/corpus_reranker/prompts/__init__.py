"""Builds the prompt of one window from a query and some of its candidates. Uses neither Ray nor vLLM."""
