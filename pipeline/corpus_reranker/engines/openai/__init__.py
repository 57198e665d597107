"""The engine for endpoints that speak OpenAI's API: vllm serve, SGLang, LiteLLM, hosted models."""
