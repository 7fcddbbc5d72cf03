"""World model agent: a recurrent network over public events, and slates hedged over its heads."""
