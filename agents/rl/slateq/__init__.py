"""The slateq agent: a user model that is learnt online, and decomposed values of slates."""
