"""Layouts of datasets: one file each resolves a folder into the settings of queries, corpus, run and qrels."""
