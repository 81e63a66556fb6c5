"""The command line: one module per command, each an async function with its options around it."""
