"""What happens to an object between its arrival and its storage: decoding, defaults, rules of each kind."""
