"""From one corpus to another: what a model knows there, and how soon it learns."""
