"""Exports of a finished output for search engines, trec_eval and training."""
