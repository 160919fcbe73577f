"""Training: windows of recordings, the diarization loss, a loop that can be killed, and recipes of stages; on torch."""
