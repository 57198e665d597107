"""Evaluation against qrels: measures, confidence intervals, significance tests. Never imports ray."""
