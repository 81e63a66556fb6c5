"""Stand-ins for what is not what a test is about."""
