"""Language-model agents: they read what everybody may know of a user in words."""
