"""From a query and some of its candidates to the prompt of one window. No Ray, no vLLM, and no tokenizer of its own."""
