"""Who may do what: role-based access control, evaluated in one place."""
