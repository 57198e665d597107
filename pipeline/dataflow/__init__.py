"""Ray Data plans, and the actors in them."""
