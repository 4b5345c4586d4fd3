"""What of a program runs in numpy on the host, between compiled segments: see docs/host.md.

`plan.plan` says which ops these are and in which order everything runs; `runner.Runner` runs it.  Layers import
`functions` alone, so nothing is imported here: the compiler is not loaded before a program runs.
"""
