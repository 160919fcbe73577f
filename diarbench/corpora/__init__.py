"""Corpora on this machine: what is here, how to get the rest, is it the right one, and what is in it.

    presence   which datasets are here      getting    download what may be downloaded, tell the rest
    verifying  counts and digests           counting   recordings, speakers, speech, overlap, turns: a paper's Table I
    tables     such counts as text          plotting   and as a picture

Nothing here decodes audio, and memory goes by the turns alone, which take 24 bytes each. A corpus of 1,000 hours
(12,000 sparse files of five minutes, 900,000 turns, in plain folders) takes so much beyond what a corpus of one
recording takes, as `python tests/benchmarks/thousand_hours.py` prints it:

    list     2.7 s of processor time    49 MB
    verify   5.9 s                      60 MB
    stats    3.8 s                      60 MB
    plan     3.3 s                      48 MB
"""
