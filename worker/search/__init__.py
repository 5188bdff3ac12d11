"""Searching the transaction log: the language people type, the texts that are searched, what was found."""
