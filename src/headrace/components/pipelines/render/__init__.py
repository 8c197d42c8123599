"""Pure builders of the objects that the engine creates."""
