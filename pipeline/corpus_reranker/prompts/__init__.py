"""From a query and some of its candidates to the prompt of one window: templates, tokens, budget. No Ray, no vLLM."""
