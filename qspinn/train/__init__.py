"""Training under a plan: a float network whose quantized program is what learns."""
