"""What this computer is: GPU, host, environment."""
