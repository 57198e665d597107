"""A finished output in the formats of search engines, trec_eval and trainers."""
