"""The steps between networks and turns: speech spans, windows, embeddings, clusters. All deterministic."""

import os

# pyannote.audio reports what it is run on to its makers unless this says no before it is imported. It sets "true"
# itself where nothing is set, so that an earlier import could not be told from a user's wish: no, in any case.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
