"""The node agent: turns pods into processes on this machine."""
