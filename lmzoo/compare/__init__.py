"""Several models and seeds under one recipe and budget, in one honest table."""
