"""The pod network's services: addresses that stay, names, and the way out."""
