"""What the trust in lmzoo rests on, tried on this machine: each check has a control."""
