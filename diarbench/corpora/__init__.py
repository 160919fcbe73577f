"""Corpora on this machine: what is here, how to get the rest, is it the right one, and what is in it.

    presence   which datasets are here      getting    download what may be downloaded, tell the rest
    verifying  counts and digests           counting   recordings, speakers, speech, overlap, turns: a paper's Table I
    tables     such counts as text          plotting   and as a picture

Nothing here decodes audio. A thousand hours in 12,000 files with 900,000 turns are listed, verified and planned in
seconds; what that takes is measured by `python tests/benchmarks/thousand_hours.py`.
"""
