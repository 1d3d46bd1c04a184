"""The command line: one file a verb. Parses, calls a public function, prints; nothing else."""
