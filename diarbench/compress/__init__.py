"""Smaller models out of larger ones: gates and their surgery for WavLM, magnitude for recurrent networks; on torch."""
