"""The Ray Data pipeline: plan, worker and admission control."""
