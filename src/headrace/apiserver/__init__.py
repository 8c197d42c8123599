"""The embedded API server: registry, admission, authorization, and the HTTP face that kubectl speaks to."""
