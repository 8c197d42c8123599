"""The dashboard's application: pages, the stream that keeps them true, static files."""
