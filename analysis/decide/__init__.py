"""What to deploy, what changed, and how many GPUs a rate needs."""
