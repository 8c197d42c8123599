"""Images as local environments: the catalogue, the interpreters, the environments built with uv."""
