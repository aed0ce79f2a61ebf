"""Several models, seeds and budgets under one recipe, and a table that can be trusted."""
