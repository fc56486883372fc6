"""The two wire formats of the original Rendezvous, translated to the use-cases."""
