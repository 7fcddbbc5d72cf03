"""The Gymnasium environments: one session, a batch of sessions, and how they are drawn."""
