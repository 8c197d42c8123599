"""The dashboard's own pages and its frame."""
