"""What Lightning lacks: early stopping by share, health report, exact checkpoints."""
