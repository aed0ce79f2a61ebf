"""What a model is made of: parts, parameters, memory and a drawing of it."""
