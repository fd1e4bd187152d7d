"""Other libraries that do such things. Each is left out, with the reason, where it is not installed."""
