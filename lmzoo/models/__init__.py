"""Token ids to logits: one architecture family a file, none imports another."""
