"""What a trained model does: looked at from outside, and from inside."""
