"""Measures compiled training steps on models of known sizes: ``fluidc bench``."""
