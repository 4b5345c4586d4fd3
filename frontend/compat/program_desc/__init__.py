"""Paddle's ProgramDesc: programs and inference models to and from the files of Paddle 1.8."""
