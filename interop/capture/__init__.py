"""Framework objects become graphs; one folder or file per framework."""
