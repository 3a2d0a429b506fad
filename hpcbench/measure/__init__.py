"""What happens on the node: Triton is started, and perf_analyzer measures beside it."""
