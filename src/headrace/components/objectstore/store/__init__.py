"""Keys in SQLite, bytes in files.

Invariants:
- a content file is on disk (file and directory synced) before the row that names it is committed, and the commit
  is on disk before anybody is told: what was acknowledged survives `kill -9`;
- files are named by random ids, never by keys: no key can reach outside of the folder;
- a file that no row names is garbage: removed after the commit that dropped it, or at the next start.
"""
