"""What a run was worth: measures against qrels, comparisons, exports, the run report. Never imports ray."""
