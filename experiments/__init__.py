"""Runnable studies on `llmrec_env`: they train, evaluate, compare and report; one module each."""
